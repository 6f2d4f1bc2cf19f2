#include "tools/hardware_cache.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "runtime/core/file.h"
#include "runtime/core/json_guard.h"
#include "runtime/core/printable.h"
#include "tools/user_file.h"
#include "tools/whole_file.h"

namespace moraine::tools {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr int kSchema = 1;
constexpr int64_t kMostBytes = int64_t{1} << 20;
constexpr double kMostRate = 1e18;

ordered_json ToJson(const MeasuredRates& rates) {
  ordered_json out = {{"schema", kSchema},
                      {"fingerprint", rates.fingerprint},
                      {"date", rates.date},
                      {"memory_read", rates.memory_read},
                      {"node_memory", rates.node_memory},
                      {"attention_flops", rates.attention_flops},
                      {"experts", ordered_json::array()},
                      {"drives", ordered_json::array()},
                      {"notes", rates.notes}};
  for (const ExpertRate& rate : rates.experts) {
    ordered_json one = {{"name", rate.name},
                        {"format", Describe(rate.format).name},
                        {"group", rate.group},
                        {"decode_bytes_s", rate.decode_bytes_s.value},
                        {"from", rate.decode_bytes_s.from},
                        {"prefill", ordered_json::array()}};
    for (const PrefillRate& prefill : rate.prefill) {
      one["prefill"].push_back(
          {{"rows", prefill.rows}, {"flops_s", prefill.flops_s.value}, {"from", prefill.flops_s.from}});
    }
    out["experts"].push_back(std::move(one));
  }
  for (const MeasuredDrive& drive : rates.drives) {
    ordered_json one = {{"key", drive.key},
                        {"date", drive.date},
                        {"bytes_s", drive.bytes_s},
                        {"by_depth", ordered_json::array()},
                        {"note", drive.note}};
    for (const DepthRate& rate : drive.by_depth)
      one["by_depth"].push_back({{"depth", rate.depth}, {"bytes_s", rate.bytes_s}});
    out["drives"].push_back(std::move(one));
  }
  return out;
}

// Reads fields until the first that is wrong, whose name it keeps.
class Fields {
 public:
  std::string Text(const json& object, const char* name) {
    const json* field = Find(object, name);
    if (field != nullptr && field->is_string()) return field->get<std::string>();
    Refuse(name, "a text");
    return "";
  }
  // 0 to kMostRate.
  double Number(const json& object, const char* name) {
    const json* field = Find(object, name);
    const double value = field != nullptr ? Value(*field) : -1;
    if (value < 0) Refuse(name, "a number from 0 on");
    return std::max(0.0, value);
  }
  int32_t Integer(const json& object, const char* name) {
    const json* field = Find(object, name);
    if (field != nullptr && field->is_number_integer()) {
      const auto value = field->get<int64_t>();
      if (value >= 0 && value <= INT32_MAX) return static_cast<int32_t>(value);
    }
    Refuse(name, "a whole number from 0 on");
    return 0;
  }
  const json& List(const json& object, const char* name) {
    static const json kNone = json::array();
    const json* field = Find(object, name);
    if (field != nullptr && field->is_array()) return *field;
    Refuse(name, "a list");
    return kNone;
  }
  std::vector<double> Numbers(const json& object, const char* name) {
    std::vector<double> values;
    for (const json& value : List(object, name)) {
      values.push_back(Value(value));
      if (values.back() < 0) Refuse(name, "numbers from 0 on");
    }
    return values;
  }
  std::vector<std::string> Texts(const json& object, const char* name) {
    std::vector<std::string> values;
    for (const json& value : List(object, name)) {
      if (value.is_string()) {
        values.push_back(value.get<std::string>());
      } else {
        Refuse(name, "texts");
      }
    }
    return values;
  }
  WeightFormat Format(const json& object, const char* name) {
    const std::string text = Text(object, name);
    for (int format = 0; format < kWeightFormats; ++format)
      if (Describe(static_cast<WeightFormat>(format)).name == text) return static_cast<WeightFormat>(format);
    Refuse(name, "the name of a format");
    return WeightFormat::kBf16;
  }
  void Refuse(const char* name, const char* expected) {
    if (fault_.empty()) fault_ = fmt::format("{} is not {}", name, expected);
  }
  const std::string& fault() const { return fault_; }

 private:
  static const json* Find(const json& object, const char* name) {
    if (!object.is_object()) return nullptr;
    const auto at = object.find(name);
    return at == object.end() ? nullptr : &*at;
  }
  static double Value(const json& field) {
    if (!field.is_number()) return -1;
    const auto value = field.get<double>();
    return std::isfinite(value) && value <= kMostRate ? value : -1;
  }
  std::string fault_;
};

MeasuredRates FromJson(const json& in, Fields* fields) {
  MeasuredRates rates;
  if (fields->Integer(in, "schema") != kSchema) fields->Refuse("schema", "1");
  rates.fingerprint = fields->Text(in, "fingerprint");
  rates.date = fields->Text(in, "date");
  rates.memory_read = fields->Number(in, "memory_read");
  rates.node_memory = fields->Numbers(in, "node_memory");
  rates.attention_flops = fields->Number(in, "attention_flops");
  rates.notes = fields->Texts(in, "notes");
  const auto measured = [&](const json& object, const char* name) {
    return Figure{fields->Number(object, name), Origin::kMeasured, fields->Text(object, "from")};
  };
  for (const json& one : fields->List(in, "experts")) {
    ExpertRate rate{fields->Text(one, "name"),
                    fields->Format(one, "format"),
                    fields->Integer(one, "group"),
                    measured(one, "decode_bytes_s"),
                    {}};
    for (const json& prefill : fields->List(one, "prefill"))
      rate.prefill.push_back({fields->Integer(prefill, "rows"), measured(prefill, "flops_s")});
    rates.experts.push_back(std::move(rate));
  }
  for (const json& one : fields->List(in, "drives")) {
    MeasuredDrive drive{fields->Text(one, "key"),
                        fields->Text(one, "date"),
                        fields->Number(one, "bytes_s"),
                        {},
                        fields->Text(one, "note")};
    for (const json& rate : fields->List(one, "by_depth"))
      drive.by_depth.push_back({fields->Integer(rate, "depth"), fields->Number(rate, "bytes_s")});
    rates.drives.push_back(std::move(drive));
  }
  return rates;
}

// What `old` has and `rates`, of the same machine, has not.
void AddOlder(const MeasuredRates& old, MeasuredRates* rates) {
  if (rates->memory_read == 0) {
    rates->memory_read = old.memory_read;
    rates->node_memory = old.node_memory;
    rates->date = old.date;
  }
  if (rates->attention_flops == 0) rates->attention_flops = old.attention_flops;
  for (const ExpertRate& rate : old.experts) {
    const auto same = [&](const ExpertRate& other) {
      return other.format == rate.format && other.group == rate.group;
    };
    if (std::none_of(rates->experts.begin(), rates->experts.end(), same)) rates->experts.push_back(rate);
  }
  for (const MeasuredDrive& drive : old.drives) {
    const auto same = [&](const MeasuredDrive& other) { return other.key == drive.key; };
    if (std::none_of(rates->drives.begin(), rates->drives.end(), same)) rates->drives.push_back(drive);
  }
}

}  // namespace

std::string HardwareCachePath() { return UserFile("XDG_CACHE_HOME", ".cache", "hardware.json"); }

CachedRates LoadHardwareCache(const std::string& path, const std::string& fingerprint) {
  std::error_code error;
  if (path.empty() || !fs::exists(path, error)) return {};
  const std::string shown = Printable(path);
  const auto text = ReadText(path, kMostBytes);
  if (!text.has_value())
    return {std::nullopt, text.error().message + "; what was measured before is not used"};
  const auto parsed = ParseJson(*text, shown, {.max_bytes = size_t{kMostBytes}, .max_depth = 8});
  if (!parsed.has_value())
    return {std::nullopt, parsed.error().message + "; what was measured before is not used"};
  Fields fields;
  MeasuredRates rates = FromJson(*parsed, &fields);
  if (!fields.fault().empty())
    return {std::nullopt, fmt::format("{}: {}; what was measured before is not used", shown, fields.fault())};
  if (rates.fingerprint != fingerprint) {
    return {std::nullopt, fmt::format("{}: measured on another machine ({}), and not used", shown,
                                      Printable(rates.fingerprint, 200))};
  }
  return {std::move(rates), ""};
}

Status SaveHardwareCache(const std::string& path, const MeasuredRates& rates) {
  if (path.empty())
    return Fail(ErrorKind::kIo, "what was measured cannot be kept: neither XDG_CACHE_HOME nor HOME is set");
  MeasuredRates all = rates;
  if (const CachedRates old = LoadHardwareCache(path, rates.fingerprint); old.rates)
    AddOlder(*old.rates, &all);
  // Figures of a drive that has no name are good for this run only.
  std::erase_if(all.drives, [](const MeasuredDrive& drive) { return drive.key.empty(); });
  MORAINE_RETURN_IF_ERROR(MakeFoldersOf(path));
  return WriteWhole(path, ToJson(all).dump(1) + "\n", Readers::kOwner);
}

}  // namespace moraine::tools
