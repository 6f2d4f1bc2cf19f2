// What public calculators say of a model beside what it takes, and who else could hold it here.
#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "tools/fit_report.h"
#include "tools/inspect_report.h"

namespace moraine::tools {
namespace {

using Json = nlohmann::ordered_json;

struct Row {
  std::string what;
  double theirs;  // bytes
  double ours;
  std::string reason;
};

struct Other {
  std::string name;
  double needs;  // bytes
  std::string where;
  bool holds;
};

// Multi-head attention as calculators take it: K and V of every head, in 16 bits.
double MhaBytesPerToken(const ModelShape& s) {
  const double values = static_cast<double>(s.heads) * static_cast<double>(s.qk_head() + s.v_head);
  return 2.0 * s.layers * values;
}

std::vector<Row> Rows(const FitReport& r) {
  const ModelFigures figures = FiguresOf(r.model.checkpoint);
  const auto parameters = static_cast<double>(figures.parameters);
  const auto ours = static_cast<double>(figures.bytes);
  constexpr double kOverhead = 1.2;
  const double kv = r.fit.work.kv_bytes;
  const std::string all = "all parameters taken at one width, and a fifth on top";
  return {{"dense, FP16", 2 * parameters * kOverhead, ours, all},
          {"dense, INT8", parameters * kOverhead, ours, all},
          {"dense, INT4", 0.5 * parameters * kOverhead, ours, all},
          {"parameters x 0.6 + 2 GB", 0.6 * parameters + 2e9, ours,
           "a width that no published file has; nothing of KV cache, tiers or what a token reads"},
          {"KV cache of the context", MhaBytesPerToken(r.fit.shape) * static_cast<double>(r.context),
           kv * static_cast<double>(r.context),
           fmt::format("K and V of {} heads; the model keeps {} values a layer (MLA)", r.fit.shape.heads,
                       r.fit.shape.kv_values())}};
}

// Who needs all weights in one memory, and which.
std::vector<Other> Others(const FitReport& r) {
  const ModelFigures figures = FiguresOf(r.model.checkpoint);
  const auto parameters = static_cast<double>(figures.parameters);
  const auto stored = static_cast<double>(figures.bytes);
  constexpr double kQ4 = 4.85 / 8;  // bytes a weight of llama.cpp's Q4_K_M
  double vram = 0;
  for (const GpuDevice& gpu : r.hardware.gpus) vram += static_cast<double>(gpu.memory_bytes);
  const auto ram = static_cast<double>(r.fit.request.ram.bytes);
  const auto one = [](std::string name, double needs, std::string where, double have) {
    return Other{std::move(name), needs, std::move(where), needs <= have};
  };
  return {one("Transformers", 2 * parameters, "RAM and VRAM, in BF16", ram + vram),
          one("vLLM", stored * 1.1, "VRAM, as published", vram),
          one("TensorRT-LLM", stored * 1.1, "VRAM, as published", vram),
          one("llama.cpp", parameters * kQ4, "RAM and VRAM as Q4_K_M; else it pages", ram + vram),
          one("Ollama", parameters * kQ4, "RAM and VRAM as Q4_K_M", ram + vram)};
}

}  // namespace

std::string CompareText(const FitReport& r) {
  std::string out =
      fmt::format("\n{:<26}{:>12}{:>12}  {}\n", "public calculators", "they say", "it is", "why");
  for (const Row& row : Rows(r))
    out += fmt::format("{:<26}{:>9.1f} GB{:>9.1f} GB\n{:<9}{}\n", row.what, 1e-9 * row.theirs,
                       1e-9 * row.ours, "", row.reason);
  out += fmt::format("\n{:<26}{:>12}  {}\n", "others, on this machine", "need", "");
  for (const Other& other : Others(r))
    out += fmt::format("{:<26}{:>9.1f} GB  {}: {}\n", other.name, 1e-9 * other.needs,
                       other.holds ? "holds it" : "does not hold it", other.where);
  return out;
}

Json CompareJson(const FitReport& r) {
  Json json = {{"calculators", Json::array()}, {"others", Json::array()}};
  for (const Row& row : Rows(r)) {
    json["calculators"].push_back(
        {{"what", row.what}, {"theirs", row.theirs}, {"ours", row.ours}, {"reason", row.reason}});
  }
  for (const Other& other : Others(r)) {
    json["others"].push_back(
        {{"name", other.name}, {"needs", other.needs}, {"where", other.where}, {"holds", other.holds}});
  }
  return json;
}

}  // namespace moraine::tools
