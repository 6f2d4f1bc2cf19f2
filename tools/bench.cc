// moraine bench: how fast a model prefills and decodes here, beside what its bytes and this memory allow.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "cpu/cpu_backend.h"
#include "cpu/topology.h"
#include "runtime/memory_limit.h"
#include "storage/checkpoint.h"
#include "tools/bench/drive_rate.h"
#include "tools/bench/expert_bank.h"
#include "tools/bench/expert_replay.h"
#include "tools/bench/forced_routing.h"
#include "tools/bench/read_bandwidth.h"
#include "tools/commands.h"
#include "tools/engine_flags.h"
#include "tools/interrupt.h"
#include "tools/kernel_report.h"
#include "tools/prediction.h"
#include "tools/timed_run.h"

namespace moraine::tools {
namespace {

struct Flags {
  EngineFlags engine;
  std::string ids_file;
  std::string trace;
  std::string force_routing;
  int64_t prompt_tokens = 128;
  int64_t tokens = 32;
  bool json = false;
};

// Memory to read for the bound: more than any cache of a workstation holds.
constexpr int64_t kYardstickBytes = int64_t{3} << 29;
constexpr int kParts = 4;
// Prefill is repeated, in turn with its experts alone, until so many seconds are spent.
constexpr int kPrefillRounds = 3;
constexpr double kPrefillSeconds = 20;

constexpr double kYardstickSeconds = 0.15;
constexpr double kDriveSeconds = 1;

// Some decoded tokens beside what they could have been: the slower of memory and drive.
struct Part {
  double tok_s;
  double bound_tok_s;
  bool drive;  // it is the drive that bounds
};

class Bench {
 public:
  explicit Bench(const Flags& flags) : flags_(flags) {}

  Status Run() {
    if (flags_.tokens < kParts || flags_.prompt_tokens < 1) {
      return Fail(ErrorKind::kUsage,
                  fmt::format("--tokens is {} and --prompt-tokens {}; expected at least {} and 1",
                              flags_.tokens, flags_.prompt_tokens, kParts));
    }
    MORAINE_ASSIGN_OR_RETURN(EngineOptions options, MakeEngineOptions(flags_.engine));
    options.observer = [this](LayerId layer, const Routing& routing) {
      if (recording_) replay_->Record(layer, routing);
    };
    options.trace = flags_.trace;
    // First, so that the plan counts what it holds.
    MORAINE_RETURN_IF_ERROR(OpenDrive(options));
    if (!flags_.force_routing.empty()) {
      if (checkpoint_ == nullptr) return Fail(ErrorKind::kUsage, "--force-routing: the model routes nothing");
      MORAINE_ASSIGN_OR_RETURN(forced_, ForcedRouting::Load(flags_.force_routing, checkpoint_->shape()));
      options.override_route = [this](LayerId layer, Routing* routing) { forced_.Apply(layer, routing); };
    }
    MORAINE_ASSIGN_OR_RETURN(engine_, Engine::Open(flags_.engine.model, options));
    if (engine_->plan().holds_all) {
      drive_.reset();
      MORAINE_RETURN_IF_ERROR(OpenYardstick(options.threads));
      MORAINE_RETURN_IF_ERROR(OpenReplay(options));
    }
    MORAINE_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, Prompt());
    if (static_cast<int64_t>(prompt.size()) + flags_.tokens > engine_->context()) {
      return Fail(ErrorKind::kUsage,
                  fmt::format("{} prompt tokens and {} more do not fit the context of {}; raise --ctx",
                              prompt.size(), flags_.tokens, engine_->context()));
    }
    if (!flags_.json) fmt::print(stderr, "{}\n", engine_->Describe());
    for (const std::string& notice : engine_->Notices()) fmt::print(stderr, "notice: {}\n", notice);

    MORAINE_ASSIGN_OR_RETURN(Sequence sequence, Prefill(prompt));
    for (int part = 0; part < kParts; ++part) {
      const int64_t begin = flags_.tokens * part / kParts;
      MORAINE_RETURN_IF_ERROR(Decode(&sequence, flags_.tokens * (part + 1) / kParts - begin));
    }
    Print(static_cast<int64_t>(prompt.size()));
    return {};
  }

 private:
  // Of a model that is read while it runs, memory is measured beforehand and given back: beside the slots
  // there is no room for it.
  Status OpenDrive(const EngineOptions& options) {
    MORAINE_ASSIGN_OR_RETURN(Checkpoint opened, Checkpoint::Open(flags_.engine.model));
    if (opened.shape().moe_layers() == 0 || opened.shape().sparse) return {};
    checkpoint_ = std::make_unique<Checkpoint>(std::move(opened));
    if (OpenYardstick(options.threads).has_value()) {
      read_before_ = ReadBandwidth(*pool_, Yardstick(), kYardstickSeconds);
      memory_ = NodeMemory();
    }
    MORAINE_ASSIGN_OR_RETURN(drive_, DriveRate::Open(*checkpoint_, options.experts.streamer));
    return {};
  }

  Status OpenYardstick(int threads) {
    MORAINE_ASSIGN_OR_RETURN(const MemoryLimit limit, FindMemoryLimit());
    const int64_t available = limit.bytes - ResidentBytes();
    if (available < kYardstickBytes) {
      return Fail(
          ErrorKind::kDoesNotFit,
          fmt::format("beside the model, {} bytes are needed to measure memory with; {} are available",
                      kYardstickBytes, available));
    }
    MORAINE_ASSIGN_OR_RETURN(topology_, Topology::Read());
    if (threads == 0) threads = topology_->cores();
    // Unbound: this thread is the engine's too.
    pool_ = std::make_unique<WorkerPool>(threads);
    MORAINE_ASSIGN_OR_RETURN(memory_, topology_->Allocate(kYardstickBytes, NodeId{0}));
    std::fill_n(memory_.data(), memory_.bytes(), std::byte{1});
    return {};
  }

  // Experts as the model's, in the yardstick's memory, and an implementation of their own to run them.
  Status OpenReplay(const EngineOptions& options) {
    const ModelShape& shape = engine_->shape();
    if (shape.moe_layers() == 0) return {};
    const auto tensors = checkpoint_->tensors();
    const auto routed = std::find_if(tensors.begin(), tensors.end(), [](const StoredTensor& t) {
      return t.tensor_class == TensorClass::kRouted;
    });
    const int32_t group = routed->scales ? routed->scales->block_columns : 0;
    const FormatChoice choice{.name = FormatName(*routed),
                              .format = routed->format,
                              .group = IsInteger(routed->format) && group == routed->columns ? 0 : group};
    const ExpertSize size{.hidden = shape.hidden, .inner = shape.expert_inter};
    const int64_t fit = memory_.bytes() / ExpertBank::ExpertBytes(choice, size);
    const int64_t most = std::min(fit, int64_t{shape.experts} * shape.moe_layers());
    if (most == 0)
      return Fail(ErrorKind::kDoesNotFit, "one routed expert is larger than the memory to measure with");
    bank_ = std::make_unique<ExpertBank>(
        std::span(memory_.data(), static_cast<size_t>(most * ExpertBank::ExpertBytes(choice, size))), choice,
        size, *pool_);
    // The bank is in one piece, so more nodes than one are taken as one.
    const int cores = topology_->cores();
    const std::string one_node =
        topology_->nodes().size() == 1 ? "" : fmt::format("node:1 core:{} pu:1", cores);
    MORAINE_ASSIGN_OR_RETURN(cpu_, CpuBackend::Create({.topology = one_node,
                                                       .threads = options.threads,
                                                       .isa = options.isa,
                                                       .f32_activations = options.f32_activations}));
    replay_ = std::make_unique<ExpertReplay>(shape, *bank_, options.prefill_chunk, cpu_.get());
    return {};
  }

  // The prompt, some times over, in turn with its experts alone; returns the last sequence.
  Result<Sequence> Prefill(std::span<const int32_t> prompt) {
    std::optional<Sequence> sequence;
    double spent = 0;
    for (int round = 0; round < kPrefillRounds && spent < kPrefillSeconds; ++round) {
      sequence.reset();
      sequence.emplace(engine_->NewSequence());
      recording_ = replay_ != nullptr;
      if (recording_) replay_->Forget();
      const double start = Seconds();
      const StepSeconds before = engine_->stats().seconds;
      MORAINE_ASSIGN_OR_RETURN(const double prefill_s, TimePrompt(engine_.get(), &*sequence, prompt, &ids_));
      prefill_s_.push_back(prefill_s);
      prefill_token_ = (engine_->stats().seconds - before) / static_cast<double>(prompt.size());
      recording_ = false;
      if (replay_ == nullptr) break;
      // The first time its own caches are cold and its memory untouched.
      if (round == 0) MORAINE_RETURN_IF_ERROR(replay_->Run());
      MORAINE_ASSIGN_OR_RETURN(const double experts_s, replay_->Run());
      experts_s_.push_back(experts_s);
      spent = Seconds() - start + spent;
    }
    return *std::move(sequence);
  }

  Result<std::vector<int32_t>> Prompt() const {
    if (!flags_.ids_file.empty()) return ReadIdsFile(flags_.ids_file);
    return RandomPrompt(flags_.prompt_tokens, engine_->shape().vocab, 1);
  }

  // How fast memory and drive can be read, now.
  Status Measure(double* memory, double* drive) {
    *memory = std::max(
        *memory, drive_ == nullptr ? ReadBandwidth(*pool_, Yardstick(), kYardstickSeconds) : read_before_);
    if (drive_ == nullptr) return {};
    MORAINE_ASSIGN_OR_RETURN(const double rate, drive_->Measure(kDriveSeconds));
    *drive = std::max(*drive, rate);
    return {};
  }

  // Some tokens, with the speed of memory and drive measured on both sides of them.
  Status Decode(Sequence* sequence, int64_t tokens) {
    double memory = 0;
    double drive = 0;
    MORAINE_RETURN_IF_ERROR(Measure(&memory, &drive));
    MORAINE_ASSIGN_OR_RETURN(const TimedAnswer answer, TimeAnswer(engine_.get(), sequence, tokens, &ids_));
    MORAINE_RETURN_IF_ERROR(Measure(&memory, &drive));
    const auto ram_bytes = static_cast<double>(answer.read.ram_bytes);
    const auto nvme_bytes = static_cast<double>(answer.read.nvme_bytes);
    const double ram_s = memory > 0 ? ram_bytes / memory : 0;
    const double drive_s = drive > 0 ? nvme_bytes / drive : 0;
    read_.push_back(memory);
    drive_read_.push_back(drive);
    ram_bytes_ += ram_bytes;
    nvme_bytes_ += nvme_bytes;
    hits_ += answer.read.expert_hits;
    misses_ += answer.read.expert_misses;
    decode_s_ += answer.seconds;
    decode_parts_.dense += answer.read.seconds.dense;
    decode_parts_.experts += answer.read.seconds.experts;
    parts_.push_back({static_cast<double>(tokens) / answer.seconds,
                      static_cast<double>(tokens) / std::max(ram_s, drive_s), drive_s > ram_s});
    return {};
  }

  double HitRate() const {
    return hits_ + misses_ == 0 ? 1 : static_cast<double>(hits_) / static_cast<double>(hits_ + misses_);
  }

  std::span<const std::byte> Yardstick() const {
    return {memory_.data(), static_cast<size_t>(memory_.bytes())};
  }

  template <typename Value>
  double Middle(Value&& value) const {
    std::vector<double> values;
    for (const Part& part : parts_) values.push_back(value(part));
    return Median(values);
  }

  struct PrefillFigures {
    double gflops = 0;         // of everything
    double expert_gflops = 0;  // of the same routed experts with nothing else to do
    double rows = 0;           // of an expert that has any
    double share = 0;          // gflops / expert_gflops; 0: no experts
    double time = 0;           // experts' time alone / prefill's
  };

  PrefillFigures PrefillOf(int64_t prompt_tokens) const {
    if (replay_ == nullptr || replay_->experts() == 0) return {};
    const auto pairs = static_cast<double>(replay_->pairs());
    std::vector<double> shares;
    std::vector<double> times;
    const double all = 1e-9 * PrefillFlops(engine_->shape(), prompt_tokens);
    const double experts = 1e-9 * pairs * ExpertFlops(engine_->shape());
    for (size_t i = 0; i < experts_s_.size(); ++i) {
      shares.push_back(all / prefill_s_[i] / (experts / experts_s_[i]));
      times.push_back(experts_s_[i] / prefill_s_[i]);
    }
    return {.gflops = all / Median(prefill_s_),
            .expert_gflops = experts / Median(experts_s_),
            .rows = pairs / static_cast<double>(replay_->experts()),
            .share = Median(shares),
            .time = Median(times)};
  }

  void Print(int64_t prompt_tokens) const {
    const double tok_s = Middle([](const Part& p) { return p.tok_s; });
    const double bound = Middle([](const Part& p) { return p.bound_tok_s; });
    const double share = Middle([](const Part& p) { return p.tok_s / p.bound_tok_s; });
    const double prefill = static_cast<double>(prompt_tokens) / Median(prefill_s_);
    const PrefillFigures figures = PrefillOf(prompt_tokens);
    const double ram_per_token = ram_bytes_ / static_cast<double>(flags_.tokens);
    const double nvme_per_token = nvme_bytes_ / static_cast<double>(flags_.tokens);
    const auto by_drive = std::count_if(parts_.begin(), parts_.end(), [](const Part& p) { return p.drive; });
    const bool drive = 2 * static_cast<size_t>(by_drive) > parts_.size();
    const RunFigures measured{.decode_tok_s = static_cast<double>(flags_.tokens) / decode_s_,
                              .prefill_tok_s = prefill,
                              .hit_rate = HitRate(),
                              .nvme_bytes_per_token = nvme_per_token,
                              .decode_token = decode_parts_ / static_cast<double>(flags_.tokens),
                              .prefill_token = prefill_token_};
    std::optional<Prediction> prediction;
    if (const auto predictor =
            Predictor::Create(*engine_, flags_.engine.model, !flags_.force_routing.empty()))
      prediction = predictor->Predict(prompt_tokens, flags_.tokens);
    if (prediction && flags_.tokens >= kLeastTokens)
      AppendHistory(HistoryPath(), "bench", flags_.engine.model, *prediction, measured);
    if (!flags_.json) {
      fmt::print("prefill  {} tokens at {:.2f} tok/s\n", prompt_tokens, prefill);
      if (figures.share > 0) {
        fmt::print(
            "         {:.0f} GFLOP/s in all; its experts alone, {:.1f} rows each, {:.0f}; share {:.1f} %; "
            "they are "
            "{:.1f} % of the time\n",
            figures.gflops, figures.rows, figures.expert_gflops, 100 * figures.share, 100 * figures.time);
      }
      fmt::print(
          "decode   {} tokens at {:.2f} tok/s; bound {:.2f} tok/s by {}; share {:.1f} %\n"
          "         a token reads {:.2f} GB from memory at {:.2f} GB/s",
          flags_.tokens, tok_s, bound, drive ? "the drive" : "memory", 100 * share, 1e-9 * ram_per_token,
          1e-9 * Median(read_));
      if (drive_ != nullptr) {
        fmt::print(", {:.3f} GB from the drive at {:.3f} GB/s; {:.1f} % of experts were in RAM",
                   1e-9 * nvme_per_token, 1e-9 * Median(drive_read_), 100 * HitRate());
      }
      fmt::print("\n");
      if (prediction) fmt::print("{}\n", PredictionText(*prediction, measured));
      return;
    }
    nlohmann::ordered_json json = {
        {"schema", 1},
        {"text", ""},
        {"reasoning", ""},
        {"ids", std::vector<int32_t>(ids_.begin() + 1, ids_.end())},
        {"finish_reason", "length"},
        {"prompt_tokens", prompt_tokens},
        {"completion_tokens", flags_.tokens},
        {"prefill_tok_s", prefill},
        {"decode_tok_s", tok_s},
        {"bytes_per_token",
         {{"vram", 0}, {"ram", std::llround(ram_per_token)}, {"nvme", std::llround(nvme_per_token)}}},
        {"hit_rate", HitRate()},
        {"bound", {{"decode_tok_s", bound}, {"limit", drive ? "nvme" : "ram"}}},
        {"predicted", prediction ? PredictionJson(*prediction) : nlohmann::ordered_json::object()},
        {"measured",
         {{"prefill_s", Median(prefill_s_)},
          {"decode_s", decode_s_},
          {"decode_token", PartsJson(measured.decode_token)},
          {"prefill_token", PartsJson(measured.prefill_token)},
          {"read_gb_s", 1e-9 * Median(read_)},
          {"drive_gb_s", 1e-9 * Median(drive_read_)},
          {"share_of_bound", share}}}};
    if (figures.share > 0) {
      json["measured"]["prefill_gflops"] = figures.gflops;
      json["measured"]["expert_gflops"] = figures.expert_gflops;
      json["measured"]["rows_per_expert"] = figures.rows;
      json["measured"]["prefill_share_of_experts"] = figures.share;
      json["measured"]["expert_time_share"] = figures.time;
    }
    json["plan"] = nlohmann::ordered_json::parse(PlanJson(engine_->shape(), engine_->plan()));
    json["gemm"] = GemmJson(engine_->PrefillReport());
    fmt::print("{}\n", json.dump());
  }

  Flags flags_;
  std::unique_ptr<Topology> topology_;
  std::unique_ptr<WorkerPool> pool_;
  NodeMemory memory_;
  ForcedRouting forced_;
  double read_before_ = 0;  // bytes a second, before the model was loaded; 0: not measured
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<DriveRate> drive_;  // null when all experts are in memory
  std::unique_ptr<ExpertBank> bank_;
  std::unique_ptr<CpuBackend> cpu_;
  std::unique_ptr<ExpertReplay> replay_;  // null without routed experts
  bool recording_ = false;
  std::unique_ptr<Engine> engine_;
  std::vector<int32_t> ids_;       // chosen, the first by the prompt
  std::vector<double> prefill_s_;  // by round
  std::vector<double> experts_s_;  // of the same round
  double decode_s_ = 0;
  StepSeconds decode_parts_;
  StepSeconds prefill_token_;  // of the last round
  double ram_bytes_ = 0;       // read by decode
  double nvme_bytes_ = 0;
  int64_t hits_ = 0;
  int64_t misses_ = 0;
  std::vector<double> read_;        // bytes a second, by part
  std::vector<double> drive_read_;  // likewise; 0 where nothing is streamed
  std::vector<Part> parts_;
};

}  // namespace

void AddBench(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("bench", "How fast a model runs here, beside what memory allows");
  AddEngineFlags(*command, &flags->engine);
  command->add_option("--ids-file", flags->ids_file, "Prompt of these token ids (default: random ones)");
  command->add_option("--trace", flags->trace,
                      "Record what the routers choose in this file (moraine replay)");
  command->add_option("--force-routing", flags->force_routing,
                      "Run the experts this trace chose, not the routers': real locality on random weights");
  command->add_option("--prompt-tokens", flags->prompt_tokens, "Length of the random prompt")
      ->capture_default_str();
  command->add_option("--tokens", flags->tokens, "Tokens to decode, greedily")->capture_default_str();
  command->add_flag("--json", flags->json, "Print one JSON object");
  command->callback([flags, exit_code] {
    CatchInterrupts();
    if (const Status status = Bench(*flags).Run(); !status.has_value()) *exit_code = Report(status.error());
  });
}

}  // namespace moraine::tools
