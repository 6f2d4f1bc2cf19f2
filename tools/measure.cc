#include "tools/measure.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>
#include <memory>
#include <optional>
#include <thread>

#include "cpu/cpu_experts.h"
#include "cpu/gemm/prefill_gemm.h"
#include "cpu/kernel_table.h"
#include "cpu/topology.h"
#include "cpu/worker_pool.h"
#include "runtime/assumed_rates.h"
#include "storage/streamer.h"
#include "tools/bench/attention_rate.h"
#include "tools/bench/drive_depths.h"
#include "tools/bench/layer_run.h"
#include "tools/bench/read_bandwidth.h"
#include "tools/interrupt.h"

namespace moraine::tools {
namespace {

constexpr int64_t kLeastBank = int64_t{256} << 20;
constexpr int32_t kTopK = 8;
constexpr std::array kDepths = {1, 4, 16, 64};
constexpr std::array kPrefillRows = {64, 512};
constexpr int kRounds = 5;  // of which the middle one counts

std::string Today() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::array<char, 16> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d", &utc);
  return text.data();
}

Status StopIfInterrupted() {
  if (Interrupted()) return Fail(ErrorKind::kInterrupted, "interrupted while the machine was measured");
  return {};
}

// once(seconds) for kRounds times in about `seconds`; fewer where one takes longer than it was given.
template <typename Once>
double MedianOf(double seconds, Once&& once) {
  std::vector<double> rounds;
  const double start = Seconds();
  do {
    rounds.push_back(once(seconds / kRounds));
  } while (rounds.size() < kRounds && Seconds() - start < 2 * seconds);
  return Median(rounds);
}

std::span<const std::byte> BytesOf(const NodeMemory& memory) {
  return {memory.data(), static_cast<size_t>(memory.bytes())};
}

// Experts, memory and attention. `unit` seconds is an eighth of the time there is.
class ProcessorRates {
 public:
  ProcessorRates(const Hardware& hardware, const MeasureOptions& options, MeasuredRates* out)
      : hardware_(hardware), options_(options), unit_(options.seconds / 8), date_(out->date), out_(out) {}

  Status Measure() {
    MORAINE_ASSIGN_OR_RETURN(topology_, Topology::Read());
    const std::vector<WorkerPlace> places = topology_->Place(std::max(1, hardware_.workers));
    pool_ = std::make_unique<WorkerPool>(places);
    std::vector<WorkerPlace> first;
    for (const WorkerPlace& place : places)
      if (place.node == NodeId{0}) first.push_back(place);
    first_pool_ = std::make_unique<WorkerPool>(first);
    MORAINE_RETURN_IF_ERROR(TakeMemory());
    MeasureMemory(places);
    MORAINE_RETURN_IF_ERROR(MakeKernels());
    MORAINE_ASSIGN_OR_RETURN(out_->attention_flops, AttentionRate(*pool_, kernels_, 0.2 * unit_));
    std::vector<FormatChoice> formats = options_.formats;
    if (formats.empty())
      for (const char* name : {"fp8", "bf16", "int8-g128", "int4-g64", "int4-g32"})
        formats.push_back(*ParseFormatChoice(name));
    const double part = 3.5 * unit_ / static_cast<double>(formats.size());
    for (const FormatChoice& format : formats) {
      MORAINE_RETURN_IF_ERROR(StopIfInterrupted());
      MeasureExperts(format, part);
    }
    MORAINE_RETURN_IF_ERROR(StopIfInterrupted());
    MeasureDisturbed(part);
    // Whatever else runs on this machine, or beside it on its host, only takes away.
    out_->node_memory.front() = first_memory_;
    if (pool_->nodes() == 1) out_->memory_read = first_memory_;
    if (pool_->nodes() > 1)
      out_->notes.push_back(
          "experts were run on the first node's workers; the other nodes' are taken to be alike");
    return {};
  }

 private:
  // The first node's memory holds the experts too.
  Status TakeMemory() {
    const int64_t free = hardware_.ram.bytes - ResidentBytes();
    const int64_t bank = std::min(options_.bank_bytes, free / 4);
    if (bank < kLeastBank) {
      return Fail(ErrorKind::kDoesNotFit,
                  fmt::format("{} MiB of memory are free ({}); measuring takes {} MiB at least", free >> 20,
                              hardware_.ram.source, 4 * kLeastBank >> 20));
    }
    if (bank < 2 * hardware_.l3_bytes)
      out_->notes.push_back("the experts measured are not much larger than the last cache");
    for (int32_t n = 0; n < pool_->nodes(); ++n) {
      MORAINE_ASSIGN_OR_RETURN(NodeMemory memory,
                               topology_->Allocate(n == 0 ? bank : bank / pool_->nodes(), NodeId{n}));
      memory_.push_back(std::move(memory));
    }
    // What was never written is read from one page of zeros.
    constexpr int64_t kPiece = int64_t{4} << 20;
    pool_->ForNodes(
        [&](NodeId node) { return memory_[static_cast<size_t>(node.value)].bytes() / kPiece + 1; },
        [&](NodeId node, int64_t task, int) {
          const NodeMemory& memory = memory_[static_cast<size_t>(node.value)];
          const int64_t begin = task * kPiece;
          const int64_t end = std::min(begin + kPiece, memory.bytes());
          if (begin < end) std::memset(memory.data() + begin, 1, static_cast<size_t>(end - begin));
        });
    return {};
  }

  void MeasureMemory(const std::vector<WorkerPlace>& places) {
    const double part = 0.5 * unit_ / (pool_->nodes() + 1);
    std::vector<std::span<const std::byte>> all;
    for (int32_t n = 0; n < pool_->nodes(); ++n) {
      all.push_back(BytesOf(memory_[static_cast<size_t>(n)]));
      std::vector<WorkerPlace> alone;
      for (const WorkerPlace& place : places)
        if (place.node == NodeId{n}) alone.push_back({.node = NodeId{0}, .cpu = place.cpu});
      WorkerPool pool(alone);
      out_->node_memory.push_back(
          MedianOf(part, [&](double seconds) { return ReadBandwidth(pool, all.back(), seconds); }));
    }
    first_memory_ = out_->node_memory.front();
    out_->memory_read = first_memory_;
    if (pool_->nodes() > 1)
      out_->memory_read = MedianOf(part, [&](double seconds) { return ReadBandwidth(*pool_, all, seconds); });
  }

  Status MakeKernels() {
    const std::string isa = hardware_.isa == Name(BestIsa()) ? "auto" : hardware_.isa;
    MORAINE_ASSIGN_OR_RETURN(kernels_, SelectKernels(isa));
    const std::optional<GemmIsa> most = GemmIsaFor(isa);
    if (!most) return {};
    auto gemm = PrefillGemm::Create({.isa = *most, .workers = first_pool_->threads()});
    if (gemm.has_value()) {
      gemm_ = *std::move(gemm);
      kernels_.gemm = gemm_.get();
    } else {
      out_->notes.push_back("experts of many rows ran without oneDNN: " + gemm.error().message);
    }
    return {};
  }

  Figure Measured(double value) const { return {value, Origin::kMeasured, "measured " + date_}; }

  void MeasureExperts(const FormatChoice& choice, double seconds) {
    ExpertRate rate{choice.name, choice.format, choice.group, {}, {}};
    const int64_t expert = ExpertBank::ExpertBytes(choice, kR1Expert);
    if (memory_.front().bytes() < 2 * expert) {
      out_->notes.push_back(fmt::format("{} experts were not run: memory for two of {} MiB is short",
                                        choice.name, expert >> 20));
      return;
    }
    const ExpertBank bank(FirstMemory(), choice, kR1Expert, *first_pool_);
    const Decoded decoded = Decode(bank, choice, 0.3 * seconds);
    rate.decode_bytes_s = Measured(Others() * decoded.bytes_s);
    beside_.push_back({choice, decoded.memory});
    double flops = decoded.flops_s;
    for (const int32_t rows : kPrefillRows) {
      if (const std::optional<double> many = PrefillRate(bank, choice, rows, flops, 0.25 * seconds)) {
        flops = *many;
        rate.prefill.push_back({rows, Measured(Others() * flops)});
      } else {
        rate.prefill.push_back(
            {rows,
             {Others() * flops, Origin::kMeasured,
              fmt::format("measured {} with fewer rows: {} would take too long", date_, rows)}});
      }
    }
    out_->experts.push_back(std::move(rate));
  }

  // Experts whose neighbouring readings of memory were slow ran while something else did: once more, and the
  // better counts.
  void MeasureDisturbed(double seconds) {
    constexpr double kQuiet = 0.8;
    for (size_t i = 0; i < beside_.size(); ++i) {
      if (beside_[i].memory >= kQuiet * first_memory_) continue;
      const FormatChoice& choice = beside_[i].choice;
      const ExpertBank bank(FirstMemory(), choice, kR1Expert, *first_pool_);
      const Decoded again = Decode(bank, choice, 0.3 * seconds);
      ExpertRate& rate = out_->experts[i];
      rate.decode_bytes_s = Measured(std::max(rate.decode_bytes_s.value, Others() * again.bytes_s));
      if (again.memory >= kQuiet * first_memory_) continue;
      out_->notes.push_back(fmt::format(
          "{} experts ran while memory gave {:.1f} GB/s of {:.1f}: something else was running; measure again",
          choice.name, again.memory / 1e9, first_memory_ / 1e9));
    }
  }

  struct Decoded {
    double bytes_s = 0;
    double flops_s = 0;
    double memory = 0;  // the slower of its readings right before and after, bytes/s
  };

  // Layers of one row. Keeps the best reading of memory.
  Decoded Decode(const ExpertBank& bank, const FormatChoice& choice, double seconds) {
    const ModelShape shape = LayerShape(kR1Expert, kTopK);
    CpuExperts experts(shape, 1, {{choice.format}}, kernels_, first_pool_.get());
    LayerRun run(bank, kR1Expert, kTopK, 1);
    const auto memory = [&] {
      const double bytes_s = ReadBandwidth(*first_pool_, bank.bytes(), 0.05 * unit_);
      first_memory_ = std::max(first_memory_, bytes_s);
      return bytes_s;
    };
    Decoded decoded;
    decoded.memory = memory();
    decoded.bytes_s = MedianOf(seconds, [&](double part) {
      const LayerTimes times = run.Run(experts, part);
      decoded.flops_s = times.flops / times.seconds;
      return times.bytes / times.seconds;
    });
    decoded.memory = std::min(decoded.memory, memory());
    return decoded;
  }

  std::span<std::byte> FirstMemory() const {
    return {memory_.front().data(), static_cast<size_t>(memory_.front().bytes())};
  }
  // Nodes of one machine are alike: what all workers do, over what the first node's do.
  double Others() const { return static_cast<double>(pool_->threads()) / first_pool_->threads(); }

  // FLOP/s of `rows` rows of each expert, when they can be expected to end in some times `seconds`;
  // `at_least` are those of fewer rows.
  std::optional<double> PrefillRate(const ExpertBank& bank, const FormatChoice& choice, int32_t rows,
                                    double at_least, double seconds) {
    constexpr double kTimes = 6;
    const double expert_flops = 6.0 * rows * static_cast<double>(kR1Expert.hidden * kR1Expert.inner);
    int32_t top_k = kTopK;
    while (top_k > 1 && top_k * expert_flops > at_least * seconds) top_k /= 2;
    if (top_k * expert_flops > at_least * seconds * kTimes) return std::nullopt;
    const ModelShape shape = LayerShape(kR1Expert, top_k);
    CpuExperts experts(shape, rows, {{choice.format}}, kernels_, first_pool_.get());
    LayerRun run(bank, kR1Expert, top_k, rows);
    const LayerTimes times = run.Run(experts, seconds);
    return times.flops / times.seconds;
  }

  const Hardware& hardware_;
  const MeasureOptions& options_;
  double unit_;
  std::string date_;
  MeasuredRates* out_;
  std::unique_ptr<Topology> topology_;
  std::vector<NodeMemory> memory_;          // [node]
  std::unique_ptr<WorkerPool> pool_;        // all workers
  std::unique_ptr<WorkerPool> first_pool_;  // those of the first node
  std::unique_ptr<PrefillGemm> gemm_;
  KernelSet kernels_;
  double first_memory_ = 0;  // the best reading of the first node's, bytes/s
  struct Beside {
    FormatChoice choice;
    double memory;
  };
  std::vector<Beside> beside_;  // of out_->experts
};

Result<MeasuredDrive> MeasureDrive(const Hardware& hardware, const std::string& path,
                                   const MeasureOptions& options, const std::string& date) {
  const double unit = options.seconds / 8;
  MORAINE_ASSIGN_OR_RETURN(const DriveFiles files, FilesToRead(path, options.file_bytes, 2 * unit));
  MeasuredDrive drive{
      .key = hardware.drive.Key(), .date = date, .bytes_s = 0, .by_depth = {}, .note = files.note};
  // Twice over, since a drive's rate drifts and a host may grant less the longer it is asked.
  MORAINE_ASSIGN_OR_RETURN(drive.by_depth, ReadByDepth(files.files, kDepths, 0.15 * unit));
  MORAINE_ASSIGN_OR_RETURN(const std::vector<DepthRate> again,
                           ReadByDepth(files.files, kDepths, 0.15 * unit));
  for (size_t d = 0; d < again.size(); ++d)
    drive.by_depth[d].bytes_s = (drive.by_depth[d].bytes_s + again[d].bytes_s) / 2;
  const int usual = StreamerOptions().depth;
  for (const DepthRate& rate : drive.by_depth)
    if (rate.depth <= usual) drive.bytes_s = rate.bytes_s;
  return drive;
}

Result<MeasuredRates> Measure(const Hardware& hardware, const std::string& path,
                              const MeasureOptions& options) {
  MeasuredRates rates;
  rates.fingerprint = hardware.fingerprint;
  rates.date = Today();
  if (options.processor) MORAINE_RETURN_IF_ERROR(ProcessorRates(hardware, options, &rates).Measure());
  MORAINE_RETURN_IF_ERROR(StopIfInterrupted());
  if (!options.drive || path.empty()) return rates;
  auto drive = MeasureDrive(hardware, path, options, rates.date);
  if (drive.has_value()) {
    rates.drives.push_back(*std::move(drive));
  } else if (!options.processor || drive.error().kind == ErrorKind::kInterrupted) {
    return tl::unexpected(drive.error());
  } else {
    rates.notes.push_back("the drive was not measured: " + drive.error().message);
  }
  return rates;
}

}  // namespace

Result<MeasuredRates> MeasureHardware(const Hardware& hardware, const std::string& path,
                                      const MeasureOptions& options) {
  // A pool binds the thread that calls it, and the caller's is to stay as it is.
  std::optional<Result<MeasuredRates>> rates;
  std::thread([&] { rates = Measure(hardware, path, options); }).join();
  return *std::move(rates);
}

bool ApplyMeasured(const MeasuredRates& measured, Hardware* hardware) {
  if (measured.fingerprint != hardware->fingerprint) return false;
  const auto figure = [](double value, const std::string& date) {
    return Figure{value, Origin::kMeasured, "measured " + date};
  };
  Rates& rates = hardware->rates;
  if (measured.memory_read > 0) {
    rates.memory_read = figure(measured.memory_read, measured.date);
    if (measured.node_memory.size() == rates.node_memory.size()) {
      for (size_t n = 0; n < rates.node_memory.size(); ++n)
        rates.node_memory[n] = figure(measured.node_memory[n], measured.date);
    }
    AssumeProcessorRates("", hardware);
  }
  for (const ExpertRate& rate : measured.experts) {
    const auto same = [&](const ExpertRate& other) {
      return other.format == rate.format && other.group == rate.group;
    };
    const auto at = std::find_if(rates.experts.begin(), rates.experts.end(), same);
    if (at == rates.experts.end()) {
      rates.experts.push_back(rate);
    } else {
      *at = rate;
    }
  }
  if (measured.attention_flops > 0) rates.attention_flops = figure(measured.attention_flops, measured.date);
  for (const MeasuredDrive& drive : measured.drives) {
    if (drive.key.empty() || drive.key != hardware->drive.Key()) continue;
    rates.drive_read = figure(drive.bytes_s, drive.date);
    if (!drive.note.empty()) rates.drive_read.from += ", " + drive.note;
    rates.drive_by_depth = drive.by_depth;
  }
  return true;
}

}  // namespace moraine::tools
