#include "storage/convert/expert_format.h"

#include <fmt/core.h>

#include <array>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/core/printable.h"

namespace moraine {
namespace {

using Json = nlohmann::ordered_json;

struct FormatRow {
  std::string_view name;
  ExpertFormat format;
};
constexpr std::array kFormats = {
    FormatRow{"int8-g128", {WeightFormat::kInt8Group, 128}},
    FormatRow{"int8-g64", {WeightFormat::kInt8Group, 64}},
    FormatRow{"int8-g32", {WeightFormat::kInt8Group, 32}},
    FormatRow{"int8-row", {WeightFormat::kInt8Group, 0}},
    FormatRow{"int4-g128", {WeightFormat::kInt4Group, 128}},
    FormatRow{"int4-g64", {WeightFormat::kInt4Group, 64}},
    FormatRow{"int4-g32", {WeightFormat::kInt4Group, 32}},
    FormatRow{"int4-row", {WeightFormat::kInt4Group, 0}},
    FormatRow{"bf16", {WeightFormat::kBf16, 0}},
    FormatRow{"f16", {WeightFormat::kF16, 0}},
    FormatRow{"f32", {WeightFormat::kF32, 0}},
};

StoredDtype DtypeOf(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return StoredDtype::kF32;
    case WeightFormat::kF16:
      return StoredDtype::kF16;
    case WeightFormat::kBf16:
      return StoredDtype::kBf16;
    default:
      MORAINE_CHECK(IsInteger(format));
      return StoredDtype::kI32;
  }
}

Json Group(Json weights, Json activations, const std::string& format,
           const std::vector<std::string>& targets) {
  return {{"format", format},
          {"input_activations", std::move(activations)},
          {"output_activations", nullptr},
          {"targets", targets},
          {"weights", std::move(weights)}};
}

}  // namespace

Result<ExpertFormat> ParseExpertFormat(std::string_view text) {
  std::string names;
  for (const FormatRow& row : kFormats) {
    if (row.name == text) return row.format;
    names += (names.empty() ? "" : ", ") + std::string(row.name);
  }
  return Fail(ErrorKind::kUsage,
              fmt::format("format \"{}\" is unknown; one of {}", Printable(text, 40), names));
}

Result<int64_t> GroupFor(const ExpertFormat& format, int64_t columns, const std::string& name) {
  if (!IsInteger(format.format) || format.group == 0 || columns <= format.group) return columns;
  if (columns % format.group == 0) return format.group;
  return Fail(
      ErrorKind::kUsage,
      fmt::format("groups of {} do not divide the {} columns of {}; choose a smaller group or one scale "
                  "a row (int8-row)",
                  format.group, columns, Printable(name, 160)));
}

std::vector<NewTensor> ExpertTensors(const std::string& name, int64_t rows, int64_t columns,
                                     const ExpertFormat& format, int64_t group) {
  const StoredDtype dtype = DtypeOf(format.format);
  if (!IsInteger(format.format)) return {{name, dtype, {rows, columns}}};
  const int64_t bits = Describe(format.format).bits;
  return {{name + "_packed", dtype, {rows, (columns * bits + 31) / 32}},
          {name + "_scale", StoredDtype::kBf16, {rows, columns / group}},
          {name + "_shape", StoredDtype::kI64, {2}}};
}

namespace {
// `group` 0: a scale a row.
Json IntegerGroup(int bits, int64_t group, const std::vector<std::string>& targets) {
  Json weights = {{"num_bits", bits},
                  {"type", "int"},
                  {"symmetric", true},
                  {"strategy", group == 0 ? "channel" : "group"},
                  {"group_size", group == 0 ? Json() : Json(group)},
                  {"dynamic", false}};
  return Group(std::move(weights), nullptr, "pack-quantized", targets);
}
}  // namespace

Result<std::vector<Json>> ExpertGroups(const ExpertFormat& format, int64_t hidden, int64_t expert_inter) {
  const int bits = Describe(format.format).bits;
  const auto group_of = [&](int64_t columns, const char* name) -> Result<int64_t> {
    MORAINE_ASSIGN_OR_RETURN(const int64_t group, GroupFor(format, columns, name));
    return group == columns ? 0 : group;
  };
  MORAINE_ASSIGN_OR_RETURN(const int64_t in, group_of(hidden, "gate_proj and up_proj"));
  MORAINE_ASSIGN_OR_RETURN(const int64_t out, group_of(expert_inter, "down_proj"));
  if (in == out)
    return std::vector<Json>{
        IntegerGroup(bits, in, {R"(re:.*\.mlp\.experts\.[0-9]+\.(gate|up|down)_proj$)"})};
  return std::vector<Json>{IntegerGroup(bits, in, {R"(re:.*\.mlp\.experts\.[0-9]+\.(gate|up)_proj$)"}),
                           IntegerGroup(bits, out, {R"(re:.*\.mlp\.experts\.[0-9]+\.down_proj$)"})};
}

Json Fp8Group(int32_t block_rows, int32_t block_columns, const std::vector<std::string>& targets) {
  Json weights = {{"num_bits", 8},
                  {"type", "float"},
                  {"symmetric", true},
                  {"strategy", "block"},
                  {"block_structure", {block_rows, block_columns}},
                  {"dynamic", false}};
  Json activations = {{"num_bits", 8},
                      {"type", "float"},
                      {"symmetric", true},
                      {"strategy", "group"},
                      {"group_size", block_columns},
                      {"dynamic", true}};
  return Group(std::move(weights), std::move(activations), "float-quantized", targets);
}

Json CompressedTensorsConfig(const std::vector<Json>& groups, const std::vector<std::string>& ignore) {
  Json all = Json::object();
  std::string format = groups.front().at("format");
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].at("format") != format) format = "mixed-precision";
    all[fmt::format("group_{}", i)] = groups[i];
  }
  return {{"config_groups", std::move(all)},
          {"format", format},
          {"ignore", ignore},
          {"kv_cache_scheme", nullptr},
          {"quant_method", "compressed-tensors"},
          {"quantization_status", "compressed"}};
}

}  // namespace moraine
