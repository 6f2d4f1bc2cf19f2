#include "tools/prediction.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/core/file.h"
#include "runtime/core/handle.h"
#include "runtime/core/json_guard.h"
#include "runtime/core/printable.h"
#include "runtime/hardware_read.h"
#include "tools/fit_model.h"
#include "tools/hardware_cache.h"
#include "tools/user_file.h"

namespace moraine::tools {
namespace {

using Json = nlohmann::ordered_json;

double Percent(double measured, double predicted) {
  return predicted > 0 ? 100 * (measured / predicted - 1) : 0;
}

StepSeconds ParseParts(const nlohmann::json& json) {
  return {.dense = json.value("dense_s", 0.0), .experts = json.value("experts_s", 0.0)};
}

Json FiguresJson(const RunFigures& f) {
  return {{"decode_tok_s", f.decode_tok_s},
          {"prefill_tok_s", f.prefill_tok_s},
          {"hit_rate", f.hit_rate},
          {"nvme_bytes_per_token", f.nvme_bytes_per_token},
          {"decode_token", PartsJson(f.decode_token)},
          {"prefill_token", PartsJson(f.prefill_token)}};
}

RunFigures ParseFigures(const nlohmann::json& json) {
  const auto none = nlohmann::json::object();
  return {.decode_tok_s = json.value("decode_tok_s", 0.0),
          .prefill_tok_s = json.value("prefill_tok_s", 0.0),
          .hit_rate = json.value("hit_rate", 0.0),
          .nvme_bytes_per_token = json.value("nvme_bytes_per_token", 0.0),
          .decode_token = ParseParts(json.value("decode_token", none)),
          .prefill_token = ParseParts(json.value("prefill_token", none))};
}

RunFigures PredictedFigures(const Forecast& f) {
  return {.decode_tok_s = f.decode.tok_s,
          .prefill_tok_s = f.prefill.tok_s,
          .hit_rate = f.hits.expected,
          .nvme_bytes_per_token = f.nvme_bytes_per_token,
          .decode_token = f.decode.token,
          .prefill_token = f.prefill.token};
}

Json EntryJson(const HistoryEntry& e) {
  return {{"schema", 1},
          {"date", e.date},
          {"command", e.command},
          {"model", e.model},
          {"fingerprint", e.fingerprint},
          {"measured_rates", e.measured_rates},
          {"limit", e.limit},
          {"predicted", FiguresJson(e.predicted)},
          {"measured", FiguresJson(e.measured)}};
}

std::optional<HistoryEntry> ParseEntry(const std::string& line) {
  const auto json = ParseJson(line, "history");
  if (!json.has_value() || !json->is_object()) return std::nullopt;
  try {
    if (json->value("schema", 0) != 1) return std::nullopt;
    return HistoryEntry{.date = json->value("date", ""),
                        .command = json->value("command", ""),
                        .model = json->value("model", ""),
                        .fingerprint = json->value("fingerprint", ""),
                        .measured_rates = json->value("measured_rates", false),
                        .predicted = ParseFigures(json->value("predicted", nlohmann::json::object())),
                        .measured = ParseFigures(json->value("measured", nlohmann::json::object())),
                        .limit = json->value("limit", "")};
  } catch (const nlohmann::json::exception&) {  // a field of another type
    return std::nullopt;
  }
}

// "a token's dense part 12.1 ms, measured 13.0, +7 %; its experts ..."
std::string PartsText(const StepSeconds& predicted, const StepSeconds& measured) {
  return fmt::format(
      "dense part {:.2f} ms, measured {:.2f}, {:+.0f} %; experts {:.2f} ms, measured {:.2f}, {:+.0f} %",
      1e3 * predicted.dense, 1e3 * measured.dense, Percent(measured.dense, predicted.dense),
      1e3 * predicted.experts, 1e3 * measured.experts, Percent(measured.experts, predicted.experts));
}

}  // namespace

Json PartsJson(const StepSeconds& parts) { return {{"dense_s", parts.dense}, {"experts_s", parts.experts}}; }

void ApplyKnown(Hardware* hardware, std::vector<std::string>* notices) {
  const std::string path = HardwareCachePath();
  if (path.empty()) return;
  const CachedRates cached = LoadHardwareCache(path, hardware->fingerprint);
  if (cached.rates) ApplyMeasured(*cached.rates, hardware);
  if (notices != nullptr && !cached.notice.empty()) notices->push_back(cached.notice);
}

Result<Hardware> KnownHardware(const std::string& path) {
  MORAINE_ASSIGN_OR_RETURN(Hardware hardware, ReadHardware(path, {.nvml = ""}));
  ApplyKnown(&hardware, nullptr);
  return hardware;
}

StatedHardware UsedBy(const EngineOptions& options) {
  StatedHardware used;
  if (options.threads != 0) used.cores = fmt::format("{}", options.threads);
  if (options.isa != "auto") used.isa = options.isa;
  return used;
}

std::optional<Predictor> Predictor::Create(const Engine& engine, const std::string& model, bool forced) {
  auto hardware = KnownHardware(model);
  if (!hardware.has_value()) return std::nullopt;
  Predictor predictor(engine);
  predictor.fingerprint_ = hardware->fingerprint;
  predictor.measured_rates_ = hardware->rates.memory_read.origin == Origin::kMeasured;
  if (const Status used = ApplyStatedHardware(UsedBy(engine.options()), &*hardware); !used.has_value())
    return std::nullopt;
  predictor.rates_ = std::move(hardware->rates);
  predictor.curve_ = !forced && IsSynthetic(model) ? "even" : "drifting";
  return predictor;
}

Prediction Predictor::Predict(int64_t prompt_tokens, int64_t tokens) const {
  Prediction prediction;
  prediction.fingerprint = fingerprint_;
  prediction.measured_rates = measured_rates_;
  const ForecastOptions options{
      .position = static_cast<double>(prompt_tokens) + static_cast<double>(tokens) / 2,
      .prompt_tokens = static_cast<double>(std::max<int64_t>(1, prompt_tokens)),
      .chunk = static_cast<double>(engine_->options().prefill_chunk),
      .hits = HitRateOf(curve_, SlotShare(engine_->plan()))};
  prediction.forecast = MakeForecast(engine_->work(), engine_->plan(), rates_, options);
  return prediction;
}

Json PredictionJson(const Prediction& p) {
  const Forecast& f = p.forecast;
  Json json = {{"decode_tok_s", f.decode.tok_s},
               {"low", f.decode.low},
               {"high", f.decode.high},
               {"limit", f.decode.limit},
               {"prefill_tok_s", f.prefill.tok_s},
               {"hit_rate", f.hits.expected},
               {"nvme_bytes_per_token", f.nvme_bytes_per_token},
               {"rates", p.measured_rates ? "measured" : "assumed"},
               {"decode_token", PartsJson(f.decode.token)},
               {"prefill_token", PartsJson(f.prefill.token)},
               {"stages", Json::object()}};
  for (const Stage& stage : f.decode.stages) json["stages"][stage.name] = stage.seconds;
  return json;
}

std::string PredictionText(const Prediction& p, const RunFigures& measured) {
  const Speed& decode = p.forecast.decode;
  return fmt::format(
      "predicted (rates {}): decode {:.2f} tok/s ({:.2f} to {:.2f}), limit {}; measured {:.2f}, {:+.0f} %; "
      "prefill {:.1f}, measured {:.1f}, {:+.0f} %; hit rate {:.0f} %, measured {:.0f} %\n"
      "a token answered: {}\na token of the prompt: {}",
      p.measured_rates ? "measured" : "assumed; moraine fitcheck --measure", decode.tok_s, decode.low,
      decode.high, decode.limit, measured.decode_tok_s, Percent(measured.decode_tok_s, decode.tok_s),
      p.forecast.prefill.tok_s, measured.prefill_tok_s,
      Percent(measured.prefill_tok_s, p.forecast.prefill.tok_s), 100 * p.forecast.hits.expected,
      100 * measured.hit_rate, PartsText(decode.token, measured.decode_token),
      PartsText(p.forecast.prefill.token, measured.prefill_token));
}

std::string HistoryPath() { return UserFile("XDG_STATE_HOME", ".local/state", "history.jsonl"); }

void AppendHistory(const std::string& path, const std::string& command, const std::string& model,
                   const Prediction& prediction, const RunFigures& measured) {
  if (path.empty() || !MakeFoldersOf(path).has_value()) return;
  const HistoryEntry entry{.date = fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr))),
                           .command = command,
                           .model = model,
                           .fingerprint = prediction.fingerprint,
                           .measured_rates = prediction.measured_rates,
                           .predicted = PredictedFigures(prediction.forecast),
                           .measured = measured,
                           .limit = prediction.forecast.decode.limit};
  const std::string line =
      fmt::format("{}\n", EntryJson(entry).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  // Appended in one call, so that two runs' lines do not mix.
  const Handle<FdTraits> fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (fd.get() >= 0) (void)!::write(fd.get(), line.data(), line.size());
}

Result<std::vector<HistoryEntry>> ReadHistory(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return Fail(ErrorKind::kIo,
                fmt::format("{}: no history that can be read; moraine run and moraine bench write it",
                            Printable(path)));
  }
  std::vector<HistoryEntry> entries;
  for (std::string line; std::getline(file, line);) {
    if (auto entry = ParseEntry(line)) entries.push_back(*std::move(entry));
  }
  return entries;
}

std::string HistoryText(const std::vector<HistoryEntry>& entries) {
  std::string out = fmt::format("{:<20} {:<6} {:<9} {:>9} {:>9} {:>6}  {:>6}  {}\n", "date (UTC)", "by",
                                "rates", "predicted", "measured", "", "limit", "model");
  std::vector<double> ratios;
  for (const HistoryEntry& e : entries) {
    out += fmt::format("{:<20} {:<6} {:<9} {:>9.2f} {:>9.2f} {:>+4.0f} %  {:>6}  {}\n", Printable(e.date, 20),
                       Printable(e.command, 6), e.measured_rates ? "measured" : "assumed",
                       e.predicted.decode_tok_s, e.measured.decode_tok_s,
                       Percent(e.measured.decode_tok_s, e.predicted.decode_tok_s), Printable(e.limit, 6),
                       Printable(e.model, 60));
    if (e.predicted.decode_tok_s > 0 && e.measured_rates)
      ratios.push_back(e.measured.decode_tok_s / e.predicted.decode_tok_s);
  }
  if (ratios.empty()) return out;
  std::sort(ratios.begin(), ratios.end());
  const auto within =
      std::count_if(ratios.begin(), ratios.end(), [](double r) { return r >= 0.8 && r <= 1.2; });
  return out + fmt::format("with measured rates: median {:.2f} of what was predicted; {} of {} within 20 %\n",
                           ratios[ratios.size() / 2], within, ratios.size());
}

Json HistoryJson(const std::vector<HistoryEntry>& entries) {
  Json json = Json::array();
  for (const HistoryEntry& entry : entries) json.push_back(EntryJson(entry));
  return {{"schema", 1}, {"history", std::move(json)}};
}

}  // namespace moraine::tools
