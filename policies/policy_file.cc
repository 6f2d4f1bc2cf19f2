#include "policies/policy_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

// Parsing errors come back as values, and nesting ends early: no file of ours goes deeper than four levels.
#define TOML_EXCEPTIONS 0
#define TOML_MAX_NESTED_VALUES 16
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "runtime/core/printable.h"

namespace moraine {
namespace {

constexpr size_t kMostRules = 1024;
constexpr size_t kMostFigures = 256;

class Reader {
 public:
  explicit Reader(const std::string& name) : name_(name) {}

  Status CheckBounds(std::string_view text) const {
    if (text.size() > kMostPolicyBytes) {
      return Fail(ErrorKind::kUsage, fmt::format("{}:1:1: the file has {} bytes; a policy has at most {}",
                                                 name_, text.size(), kMostPolicyBytes));
    }
    size_t line = 1;
    size_t begin = 0;
    for (size_t at = 0; at < text.size(); ++at) {
      if (text[at] == '\n') {
        ++line;
        begin = at + 1;
      } else if (text[at] == '\0') {
        return Fail(ErrorKind::kUsage, fmt::format("{}:{}:{}: found a NUL byte; a policy is text (TOML)",
                                                   name_, line, at - begin + 1));
      } else if (at - begin == kMostPolicyLine) {
        return Fail(ErrorKind::kUsage, fmt::format("{}:{}:{}: the line goes on; expected at most {} bytes",
                                                   name_, line, at - begin + 1, kMostPolicyLine));
      }
    }
    return {};
  }

  // toml++ 3.3 runs into undefined behaviour where it asks whether a letter beyond ASCII is white space, so
  // those stay where it does not ask: comments and strings of one line.
  Status CheckLetters(std::string_view text) const {
    enum { kBare, kComment, kBasic, kLiteral } in = kBare;
    bool strict = false;  // from the first quote on that begins no string of one line
    size_t line = 1;
    size_t begin = 0;
    for (size_t at = text.starts_with("\xEF\xBB\xBF") ? 3 : 0; at < text.size(); ++at) {
      const char c = text[at];
      if (static_cast<unsigned char>(c) >= 0x80 && (in == kBare || strict)) {
        return Fail(
            ErrorKind::kUsage,
            fmt::format("{}:{}:{}: found a letter beyond ASCII; expected those in comments and in strings of "
                        "one line (elsewhere write \\u00E9)",
                        name_, line, at - begin + 1));
      }
      if (c == '\n') {
        in = kBare;
        ++line;
        begin = at + 1;
      } else if (in == kBare) {
        // A quote inside a word begins no string either: the parser then reads on, to say what it found.
        const bool begins = at == 0 || std::string_view(" \t\r\n=[,{.").find(text[at - 1]) != text.npos;
        strict = strict || ((c == '"' || c == '\'') &&
                            (!begins || text.substr(at, 3) == "\"\"\"" || text.substr(at, 3) == "'''"));
        in = c == '#' ? kComment : c == '"' ? kBasic : c == '\'' ? kLiteral : kBare;
      } else if (in == kBasic && c == '\\') {
        ++at;
      } else if ((in == kBasic && c == '"') || (in == kLiteral && c == '\'')) {
        in = kBare;
      }
    }
    return {};
  }

  Result<PolicyLayer> Read(std::string_view text) {
    const toml::parse_result parsed = toml::parse(text, name_);
    if (parsed.failed()) return At(parsed.error().source(), Printable(parsed.error().description(), 300));
    const toml::table& root = parsed.table();
    MORAINE_RETURN_IF_ERROR(CheckSchema(root));
    for (const auto& [key, node] : root) {
      if (key.str() != "schema") MORAINE_RETURN_IF_ERROR(ReadTable(key, node));
    }
    return std::move(layer_);
  }

 private:
  std::string Where(const toml::source_region& source) const {
    return fmt::format("{}:{}:{}", name_, source.begin.line, source.begin.column);
  }
  tl::unexpected<Error> At(const toml::source_region& source, const std::string& what) const {
    return Fail(ErrorKind::kUsage, fmt::format("{}: {}", Where(source), what));
  }

  Status CheckSchema(const toml::table& root) const {
    const toml::node* schema = root.get("schema");
    if (schema == nullptr)
      return Fail(ErrorKind::kUsage, fmt::format("{}:1:1: schema is missing; expected schema = 1", name_));
    if (schema->is_integer() && schema->as_integer()->get() == 1) return {};
    return At(schema->source(), fmt::format("schema is {}; this version reads schema = 1", Shown(*schema)));
  }

  Status ReadTable(const toml::key& key, const toml::node& node) {
    if (key.str() == "place") return ReadPlace(node);
    std::vector<std::string_view> tables;
    for (const std::string_view table : PolicyTables())
      if (table.find('.') == table.npos) tables.push_back(table);
    if (std::find(tables.begin(), tables.end(), key.str()) == tables.end()) {
      return At(key.source(), fmt::format("\"{}\" is no table of a policy{}", Printable(key.str(), 60),
                                          DidYouMean(key.str(), tables)));
    }
    const toml::table* table = node.as_table();
    if (table == nullptr)
      return At(node.source(),
                fmt::format("{} is {}; expected a table, [{}]", key.str(), Shown(node), key.str()));
    for (const auto& [name, value] : *table) {
      if (key.str() == "measured" && name.str() == "figures") {
        MORAINE_RETURN_IF_ERROR(ReadFigures(value));
      } else {
        MORAINE_RETURN_IF_ERROR(ReadKey(key.str(), name, value));
      }
    }
    return {};
  }

  Status ReadKey(std::string_view table, const toml::key& name, const toml::node& node) {
    std::vector<std::string_view> known;
    for (const PolicyKey& row : PolicyKeys()) {
      if (row.table != table) continue;
      known.push_back(row.key);
      if (row.key != name.str()) continue;
      const auto raw = RawOf(node);
      if (!raw)
        return At(node.source(), fmt::format("{} is {}; expected one value", row.Name(), Shown(node)));
      auto value = CheckPolicyValue(row, *raw);
      if (!value) return At(node.source(), value.error().message);
      layer_.settings.push_back({&row, std::move(*value), Where(name.source())});
      return {};
    }
    return At(name.source(), fmt::format("\"{}\" is no key of [{}]{}", Printable(name.str(), 60), table,
                                         DidYouMean(name.str(), known)));
  }

  Status ReadFigures(const toml::node& node) {
    const toml::table* table = node.as_table();
    if (table == nullptr)
      return At(node.source(), fmt::format("measured.figures is {}; expected a table", Shown(node)));
    for (const auto& [name, value] : *table) {
      const auto number = value.value<double>();
      if (!number || !std::isfinite(*number))
        return At(value.source(), fmt::format("measured.figures.{} is {}; expected a number",
                                              Printable(name.str(), 60), Shown(value)));
      if (layer_.figures.size() == kMostFigures)
        return At(name.source(), fmt::format("more than {} figures", kMostFigures));
      layer_.figures.emplace(name.str(), *number);
    }
    return {};
  }

  Status ReadPlace(const toml::node& node) {
    const toml::array* rules = node.as_array();
    if (rules == nullptr)
      return At(node.source(), fmt::format("place is {}; expected rules, each under [[place]]", Shown(node)));
    if (rules->size() > kMostRules)
      return At(node.source(),
                fmt::format("place has {} rules; at most {} are read", rules->size(), kMostRules));
    for (const toml::node& rule : *rules) {
      const toml::table* table = rule.as_table();
      if (table == nullptr)
        return At(rule.source(), fmt::format("a rule of place is {}; expected a table", Shown(rule)));
      MORAINE_RETURN_IF_ERROR(ReadRule(*table));
    }
    return {};
  }

  Status ReadRule(const toml::table& table) {
    static constexpr std::array<std::string_view, 3> kKnown = {"class", "layers", "tier"};
    PlaceRule rule;
    std::array<bool, 3> given{};
    for (const auto& [name, value] : table) {
      const auto* text = value.as_string();
      const std::string_view word = text == nullptr ? std::string_view() : std::string_view(text->get());
      const auto which = std::find(kKnown.begin(), kKnown.end(), name.str()) - kKnown.begin();
      if (which == 3) {
        return At(name.source(), fmt::format("\"{}\" is no key of a rule{}", Printable(name.str(), 60),
                                             DidYouMean(name.str(), kKnown)));
      }
      const bool understood = which == 0   ? ReadClass(word, &rule)
                              : which == 1 ? ReadLayers(word, &rule)
                                           : ReadTier(word, &rule);
      if (!understood) {
        return At(value.source(), fmt::format("place.{} is {}; expected {}", name.str(), Shown(value),
                                              which == 0   ? ClassNames()
                                              : which == 1 ? "\"all\", \"12\" or \"3-60\""
                                                           : "one of vram, ram, nvme"));
      }
      given[static_cast<size_t>(which)] = true;
    }
    for (const size_t needed : {0, 2}) {
      if (!given[needed])
        return At(table.source(),
                  fmt::format("a rule of place has no {}; expected class and tier", kKnown[needed]));
    }
    if (layer_.place.empty()) layer_.place_where = Where(table.source());
    layer_.place.push_back(rule);
    return {};
  }

  static std::string ClassNames() {
    std::string names = "one of ";
    for (int i = 0; i < kTensorClasses; ++i) {
      names += i == 0 ? "" : ", ";
      names += Name(static_cast<TensorClass>(i));
    }
    return names;
  }
  static bool ReadClass(std::string_view word, PlaceRule* rule) {
    for (int i = 0; i < kTensorClasses; ++i) {
      rule->tensor_class = static_cast<TensorClass>(i);
      if (Name(rule->tensor_class) == word) return true;
    }
    return false;
  }
  static bool ReadTier(std::string_view word, PlaceRule* rule) {
    for (const Tier tier : {Tier::kVram, Tier::kRam, Tier::kNvme}) {
      rule->tier = tier;
      if (Name(tier) == word) return true;
    }
    return false;
  }
  static bool ReadLayers(std::string_view word, PlaceRule* rule) {
    if (word == "all") return true;
    const char* end = word.data() + word.size();
    auto [rest, error] = std::from_chars(word.data(), end, rule->first_layer);
    rule->last_layer = rule->first_layer;
    if (error == std::errc() && rest != end && *rest == '-')
      std::tie(rest, error) = FromChars(rest + 1, end, &rule->last_layer);
    return error == std::errc() && rest == end && rule->first_layer >= 0 &&
           rule->first_layer <= rule->last_layer;
  }
  static std::pair<const char*, std::errc> FromChars(const char* begin, const char* end, int32_t* value) {
    const auto [rest, error] = std::from_chars(begin, end, *value);
    return {rest, error};
  }

  static std::optional<std::variant<int64_t, double, bool, std::string>> RawOf(const toml::node& node) {
    if (const auto* text = node.as_string()) return text->get();
    if (const auto* whole = node.as_integer()) return whole->get();
    if (const auto* number = node.as_floating_point()) return number->get();
    if (const auto* flag = node.as_boolean()) return flag->get();
    return std::nullopt;
  }

  static std::string Shown(const toml::node& node) {
    const auto raw = RawOf(node);
    if (!raw) return node.is_table() ? "a table" : node.is_array() ? "an array" : "a date or time";
    if (const auto* text = std::get_if<std::string>(&*raw))
      return fmt::format("\"{}\"", Printable(*text, 60));
    return std::visit([](const auto& value) { return fmt::format("{}", value); }, *raw);
  }

  std::string name_;
  PolicyLayer layer_;
};

}  // namespace

const PolicySetting* PolicyLayer::Find(const PolicyKey& key) const {
  for (const PolicySetting& setting : settings)
    if (setting.key == &key) return &setting;
  return nullptr;
}

void PolicyLayer::Set(PolicySetting setting) {
  std::erase_if(settings, [&](const PolicySetting& other) { return other.key == setting.key; });
  settings.push_back(std::move(setting));
}

Result<PolicyLayer> ParsePolicy(std::string_view text, const std::string& name) {
  Reader reader(Printable(name, 200));
  MORAINE_RETURN_IF_ERROR(reader.CheckBounds(text));
  MORAINE_RETURN_IF_ERROR(reader.CheckLetters(text));
  return reader.Read(text);
}

std::string PolicyText(const PolicyLayer& layer) {
  std::string text = "schema = 1\n";
  for (const std::string_view table : PolicyTables()) {
    std::string lines;
    for (const PolicyKey& key : PolicyKeys()) {
      const PolicySetting* setting = key.table == table ? layer.Find(key) : nullptr;
      if (setting != nullptr)
        lines += fmt::format("{} = {}\n", key.key, FormatPolicyValue(key, setting->value));
    }
    if (table == "measured.figures") {
      for (const auto& [name, value] : layer.figures) {
        PolicyKey quoted{.kind = PolicyKind::kText};
        lines += fmt::format("{} = {}\n", FormatPolicyValue(quoted, name), value);
      }
    }
    if (!lines.empty()) text += fmt::format("\n[{}]\n{}", table, lines);
  }
  for (const PlaceRule& rule : layer.place) {
    text += fmt::format("\n[[place]]\nclass = \"{}\"\n", Name(rule.tensor_class));
    if (rule.last_layer != INT32_MAX || rule.first_layer != 0)
      text += fmt::format("layers = \"{}-{}\"\n", rule.first_layer, rule.last_layer);
    text += fmt::format("tier = \"{}\"\n", Name(rule.tier));
  }
  return text;
}

}  // namespace moraine
