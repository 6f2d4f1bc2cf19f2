// Predicted against measured: what a run was expected to do, what it did, and how good that has been.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/engine.h"
#include "runtime/forecast.h"
#include "runtime/hardware.h"
#include "tools/stated_hardware.h"

namespace moraine::tools {

/// What a run came to; 0: not known.
struct RunFigures {
  double decode_tok_s = 0;
  double prefill_tok_s = 0;
  double hit_rate = 0;
  double nvme_bytes_per_token = 0;
  StepSeconds decode_token;  // of a token
  StepSeconds prefill_token;
};

struct Prediction {
  Forecast forecast;
  bool measured_rates = false;  // of this machine (fitcheck --measure), not assumed
  std::string fingerprint;      // of the machine
};

/// Puts the rates that `moraine fitcheck --measure` kept of this machine over the assumed ones; why not,
/// where there are some, goes to `notices` (may be null).
void ApplyKnown(Hardware* hardware, std::vector<std::string>* notices);

/// This machine, read and with those rates. `path`: what the drive is looked for behind. Errors as
/// ReadHardware.
Result<Hardware> KnownHardware(const std::string& path);

/// What of a machine an engine of these options works with, where that is not what it would take by itself:
/// fewer threads, lesser kernels.
StatedHardware UsedBy(const EngineOptions& options);

/// Forecasts of what an engine does on this machine. Borrows the engine.
class Predictor {
 public:
  /// Reads the machine, some milliseconds. `forced`: a trace chooses the experts, not the model. Empty when
  /// the machine cannot be read: a run does not fail for it.
  static std::optional<Predictor> Create(const Engine& engine, const std::string& model, bool forced);

  /// Of a prompt of `prompt_tokens` and an answer of `tokens`. Pure.
  Prediction Predict(int64_t prompt_tokens, int64_t tokens) const;

 private:
  explicit Predictor(const Engine& engine) : engine_(&engine) {}
  const Engine* engine_;
  Rates rates_;
  std::string curve_;
  std::string fingerprint_;
  bool measured_rates_ = false;
};

/// {dense_s, experts_s}.
nlohmann::ordered_json PartsJson(const StepSeconds& parts);

/// {decode_tok_s, low, high, limit, prefill_tok_s, hit_rate, nvme_bytes_per_token, rates, decode_token,
/// prefill_token, stages}.
nlohmann::ordered_json PredictionJson(const Prediction& prediction);

/// "predicted 5.1 tok/s (4.2 to 5.9), limit ram; measured 5.3 (+4 %); ...", then a line each for a token's
/// parts in the answer and in the prompt.
std::string PredictionText(const Prediction& prediction, const RunFigures& measured);

struct HistoryEntry {
  std::string date;     // UTC, "2026-11-25T10:00:00Z"
  std::string command;  // "run", "bench"
  std::string model;
  std::string fingerprint;
  bool measured_rates = false;
  RunFigures predicted;
  RunFigures measured;
  std::string limit;
};

/// $XDG_STATE_HOME/moraine/history.jsonl, or ~/.local/state in its place; empty when neither variable is set.
std::string HistoryPath();

/// Adds a line, whole or not at all; folders are made with mode 0700. A run does not fail for what the system
/// refuses, so nothing is returned. Runs of fewer than `kLeastTokens` tokens say nothing and are left out.
inline constexpr int64_t kLeastTokens = 8;
void AppendHistory(const std::string& path, const std::string& command, const std::string& model,
                   const Prediction& prediction, const RunFigures& measured);

/// Oldest first; lines that are not ours are passed over. kIo when there is no file that can be read.
Result<std::vector<HistoryEntry>> ReadHistory(const std::string& path);

/// A table and, below it, the median of measured over predicted.
std::string HistoryText(const std::vector<HistoryEntry>& entries);
nlohmann::ordered_json HistoryJson(const std::vector<HistoryEntry>& entries);

}  // namespace moraine::tools
