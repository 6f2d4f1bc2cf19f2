// moraine bench: how fast a model prefills and decodes here, beside what its bytes and this memory allow.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <random>

#include "cpu/topology.h"
#include "runtime/available_memory.h"
#include "tools/bench/read_bandwidth.h"
#include "tools/commands.h"
#include "tools/engine_flags.h"
#include "tools/interrupt.h"
#include "tools/kernel_report.h"

namespace moraine::tools {
namespace {

struct Flags {
  EngineFlags engine;
  std::string ids_file;
  int64_t prompt_tokens = 128;
  int64_t tokens = 32;
  bool json = false;
};

// Memory to read for the bound: more than any cache of a workstation holds.
constexpr int64_t kYardstickBytes = int64_t{3} << 29;
constexpr int kParts = 4;

struct Part {
  double tok_s;
  double bound_tok_s;
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
    MORAINE_ASSIGN_OR_RETURN(engine_, Engine::Open(flags_.engine.model, options));
    MORAINE_RETURN_IF_ERROR(OpenYardstick(options.threads));
    MORAINE_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, Prompt());
    if (static_cast<int64_t>(prompt.size()) + flags_.tokens > engine_->context()) {
      return Fail(ErrorKind::kUsage,
                  fmt::format("{} prompt tokens and {} more do not fit the context of {}; raise --ctx",
                              prompt.size(), flags_.tokens, engine_->context()));
    }
    if (!flags_.json) fmt::print(stderr, "{}\n", engine_->Describe());

    Sequence sequence = engine_->NewSequence();
    const double start = Seconds();
    MORAINE_ASSIGN_OR_RETURN(const std::span<const float> logits,
                             engine_->Prefill(&sequence, prompt, [](int64_t) { return Interrupted(); }));
    prefill_s_ = Seconds() - start;
    ids_.push_back(Best(logits));
    for (int part = 0; part < kParts; ++part) {
      const int64_t begin = flags_.tokens * part / kParts;
      MORAINE_RETURN_IF_ERROR(Decode(&sequence, flags_.tokens * (part + 1) / kParts - begin));
    }
    Print(static_cast<int64_t>(prompt.size()));
    return {};
  }

 private:
  Status OpenYardstick(int threads) {
    MORAINE_ASSIGN_OR_RETURN(const int64_t available, AvailableMemory());
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

  Result<std::vector<int32_t>> Prompt() const {
    if (!flags_.ids_file.empty()) return ReadIdsFile(flags_.ids_file);
    std::mt19937 random(1);
    std::vector<int32_t> ids(static_cast<size_t>(flags_.prompt_tokens));
    for (int32_t& id : ids)
      id = static_cast<int32_t>(random() % static_cast<uint32_t>(engine_->shape().vocab));
    return ids;
  }

  static int32_t Best(std::span<const float> logits) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }

  // Some tokens, with the memory's speed measured on both sides of them.
  Status Decode(Sequence* sequence, int64_t tokens) {
    constexpr double kYardstickSeconds = 0.15;
    double read = ReadBandwidth(*pool_, Yardstick(), kYardstickSeconds);
    const int64_t bytes_before = engine_->stats().ram_bytes;
    const double start = Seconds();
    for (int64_t i = 0; i < tokens; ++i) {
      if (Interrupted()) return Fail(ErrorKind::kInterrupted, "stopped");
      const StepInput input{sequence, {&ids_.back(), 1}};
      MORAINE_ASSIGN_OR_RETURN(const std::span<const float> logits, engine_->Step({&input, 1}));
      ids_.push_back(Best(logits));
    }
    const double seconds = Seconds() - start;
    read = std::max(read, ReadBandwidth(*pool_, Yardstick(), kYardstickSeconds));
    const int64_t bytes = engine_->stats().ram_bytes - bytes_before;
    read_.push_back(read);
    bytes_ += bytes;
    decode_s_ += seconds;
    parts_.push_back({static_cast<double>(tokens) / seconds,
                      read * static_cast<double>(tokens) / static_cast<double>(bytes)});
    return {};
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

  void Print(int64_t prompt_tokens) const {
    const double tok_s = Middle([](const Part& p) { return p.tok_s; });
    const double bound = Middle([](const Part& p) { return p.bound_tok_s; });
    const double share = Middle([](const Part& p) { return p.tok_s / p.bound_tok_s; });
    const double prefill = static_cast<double>(prompt_tokens) / prefill_s_;
    const int64_t per_token = bytes_ / flags_.tokens;
    if (!flags_.json) {
      fmt::print("prefill  {} tokens at {:.2f} tok/s\n", prompt_tokens, prefill);
      fmt::print(
          "decode   {} tokens at {:.2f} tok/s; bound {:.2f} tok/s ({:.2f} GB a token at {:.2f} GB/s); share "
          "{:.1f} %\n",
          flags_.tokens, tok_s, bound, 1e-9 * static_cast<double>(per_token), 1e-9 * Median(read_),
          100 * share);
      return;
    }
    nlohmann::ordered_json json = {{"schema", 1},
                                   {"text", ""},
                                   {"reasoning", ""},
                                   {"ids", std::vector<int32_t>(ids_.begin() + 1, ids_.end())},
                                   {"finish_reason", "length"},
                                   {"prompt_tokens", prompt_tokens},
                                   {"completion_tokens", flags_.tokens},
                                   {"prefill_tok_s", prefill},
                                   {"decode_tok_s", tok_s},
                                   {"bytes_per_token", {{"vram", 0}, {"ram", per_token}, {"nvme", 0}}},
                                   {"hit_rate", 1.0},
                                   {"predicted", {{"decode_tok_s", bound}, {"limit", "ram"}}},
                                   {"measured",
                                    {{"prefill_s", prefill_s_},
                                     {"decode_s", decode_s_},
                                     {"read_gb_s", 1e-9 * Median(read_)},
                                     {"share_of_bound", share}}}};
    json["gemm"] = GemmJson(engine_->PrefillReport());
    fmt::print("{}\n", json.dump());
  }

  Flags flags_;
  std::unique_ptr<Topology> topology_;
  std::unique_ptr<WorkerPool> pool_;
  NodeMemory memory_;
  std::unique_ptr<Engine> engine_;
  std::vector<int32_t> ids_;  // chosen, the first by the prompt
  double prefill_s_ = 0;
  double decode_s_ = 0;
  int64_t bytes_ = 0;
  std::vector<double> read_;
  std::vector<Part> parts_;
};

}  // namespace

void AddBench(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("bench", "How fast a model runs here, beside what memory allows");
  AddEngineFlags(*command, &flags->engine);
  command->add_option("--ids-file", flags->ids_file, "Prompt of these token ids (default: random ones)");
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
