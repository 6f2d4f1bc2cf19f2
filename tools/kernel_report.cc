#include "tools/kernel_report.h"

#include <fmt/core.h>

#include "cpu/cpu_backend.h"
#include "cpu/kernel_table.h"

namespace moraine::tools {
namespace {

bool Chosen(const KernelSet& set, const KernelRow& row) {
  switch (row.op) {
    case KernelOp::kDot:
      return set.Dot(row.format, row.min_rows) == row.dot;
    case KernelOp::kQ8Dot:
      return set.Q8Dot(row.format) == row.q8_dot;
    case KernelOp::kQ8Tile:
      return set.HasTile(row.format) && set.q8_tile[static_cast<size_t>(row.format)] == row.q8_dot;
    case KernelOp::kTransposed:
      return set.Transposed(row.format) == row.transposed;
  }
  return false;
}

}  // namespace

nlohmann::ordered_json GemmJson(const GemmReport& report) {
  nlohmann::ordered_json json = {{"share", report.Share()}, {"products", nlohmann::ordered_json::array()}};
  for (const GemmUse& use : report.made) {
    json["products"].push_back({{"implementation", use.implementation},
                                {"type", use.type == GemmType::kBf16 ? "bf16" : "f32"},
                                {"rows", use.rows},
                                {"depth", use.depth},
                                {"width", use.width},
                                {"calls", use.calls}});
  }
  json["own"] = report.own;
  json["refused"] = report.refused;
  return json;
}

Result<nlohmann::ordered_json> KernelsJson(const std::string& isa) {
  MORAINE_ASSIGN_OR_RETURN(const KernelSet set, SelectKernels(isa));
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<CpuBackend> cpu, CpuBackend::Create({.isa = isa}));
  nlohmann::ordered_json json = {{"schema", 1},
                                 {"threads", cpu->threads()},
                                 {"nodes", cpu->node_workers().size()},
                                 {"rows", nlohmann::ordered_json::array()}};
  // Scalar functions serve several formats, so a row counts as chosen once.
  for (const KernelRow& row : KernelRows()) {
    const std::string state = !CpuHas(row.isa)   ? WhyNot(row.isa)
                              : Chosen(set, row) ? "used"
                                                 : "not the best allowed here";
    json["rows"].push_back({{"operation", Name(row.op)},
                            {"format", Describe(row.format).name},
                            {"isa", Name(row.isa)},
                            {"state", state}});
  }
  // Products are made for the shapes of a model: here R1's experts in every format.
  ModelShape shape;
  shape.hidden = 7168;
  shape.expert_inter = 2048;
  shape.experts = 256;
  shape.top_k = 8;
  std::vector<WeightFormat> formats;
  formats.reserve(kWeightFormats);
  for (int format = 0; format < kWeightFormats; ++format)
    formats.push_back(static_cast<WeightFormat>(format));
  constexpr int32_t kRows = 64;
  const std::unique_ptr<Experts> experts = cpu->MakeExperts(shape, kRows, formats);
  json["onednn"] = GemmJson(cpu->PrefillReport());
  return json;
}

std::string KernelsText(const nlohmann::ordered_json& kernels) {
  std::string text = fmt::format("{} threads on {} NUMA node(s)\n", kernels["threads"].get<int>(),
                                 kernels["nodes"].get<size_t>());
  for (const auto& row : kernels["rows"]) {
    text += fmt::format("{:<11} {:<15} {:<12} {}\n", row["operation"].get<std::string>(),
                        row["format"].get<std::string>(), row["isa"].get<std::string>(),
                        row["state"].get<std::string>());
  }
  for (const auto& product : kernels["onednn"]["products"]) {
    text +=
        fmt::format("oneDNN      {} {} rows x {} deep x {} wide: {}\n", product["type"].get<std::string>(),
                    product["rows"].get<int64_t>(), product["depth"].get<int64_t>(),
                    product["width"].get<int64_t>(), product["implementation"].get<std::string>());
  }
  for (const auto& own : kernels["onednn"]["own"]) text += fmt::format("{}\n", own.get<std::string>());
  for (const auto& why : kernels["onednn"]["refused"])
    text += fmt::format("oneDNN      not used: {}\n", why.get<std::string>());
  return text;
}

}  // namespace moraine::tools
