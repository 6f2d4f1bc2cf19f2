#include "tests/grammar/random_schema.h"

#include <fmt/core.h>

#include <algorithm>
#include <string>
#include <vector>

namespace moraine::test {
namespace {

using json = nlohmann::ordered_json;

// Two of them begin alike, one is within another, one is beyond ASCII.
const std::vector<std::string> kNames = {"name", "na", "kind", "a", "ab", "b", "\xC3\xA9t\xC3\xA9", "c"};
const std::vector<std::string> kTexts = {
    "",         "a",   "hello",        "x\"y\\z",          "line\nbreak",
    "\xC3\xA9", "/\t", "\xE4\xBD\xA0", "\xF0\x9F\x98\x80", "\xE2\x82\xAC 5",
    "ab"};

bool Coin(Random* random) { return Pick(random, 2) == 0; }

json Scalar(Random* random) {
  switch (Pick(random, 6)) {
    case 0:
      return nullptr;
    case 1:
      return Coin(random);
    case 2:
      return static_cast<int64_t>(Pick(random, 4000)) - 2000;
    case 3:
      return static_cast<double>(Pick(random, 100000)) / 64 - 300;
    case 4:
      return static_cast<double>(Pick(random, 1000)) * (Coin(random) ? 1e-30 : 1e30);
    default:
      return kTexts[Pick(random, kTexts.size())];
  }
}

json AnyDocument(Random* random, int fuel) {
  if (fuel <= 0 || Pick(random, 3) > 0) return Scalar(random);
  json made = Coin(random) ? json::array() : json::object();
  for (size_t i = Pick(random, 3); i-- > 0;) {
    if (made.is_array()) {
      made.push_back(AnyDocument(random, fuel - 1));
    } else {
      made[fmt::format("x{}", i)] = AnyDocument(random, fuel - 1);
    }
  }
  return made;
}

class Maker {
 public:
  explicit Maker(Random* random) : random_(random) {}

  json Root() {
    json root = Coin(random_) ? Object(3) : Schema(3);
    if (!root.is_object() || root.contains("$ref")) root = Object(2);
    root["$defs"] = {{"leaf", Leaf()}, {"node", Object(1)}, {"b/c~d", Leaf()}};
    return root;
  }

 private:
  json Schema(int fuel) {
    if (fuel <= 0) return Leaf();
    switch (Pick(random_, 8)) {
      case 0:
      case 1:
        return Object(fuel);
      case 2:
      case 3:
        return Array(fuel);
      case 4:
        return {{"anyOf", {Schema(fuel - 1), Schema(fuel - 1), {{"type", "null"}}}}};
      case 5:
        return OneOf(fuel);
      case 6:
        return {{"$ref", Coin(random_) ? "#/$defs/leaf" : "#/$defs/b~1c~0d"}, {"description", "a leaf"}};
      default:
        return Leaf();
    }
  }

  json Leaf() {
    switch (Pick(random_, 9)) {
      case 0:
        return {{"type", "string"}};
      case 1:
        return {{"type", "string"}, {"minLength", Pick(random_, 3)}, {"maxLength", 3 + Pick(random_, 6)}};
      case 2:
        return {{"type", "integer"}, {"title", "n"}};
      case 3:
        return {{"type", "number"}};
      case 4:
        return {{"type", "boolean"}};
      case 5:
        return {{"type", {"string", "null"}}, {"minLength", Pick(random_, 2)}};
      case 6: {
        json values = json::array({"a", "ab", 1, 12, true, nullptr});
        values.push_back(Scalar(random_));
        return {{"enum", values}};
      }
      case 7:
        return {{"const", Scalar(random_)}};
      default:
        return Coin(random_) ? json(true) : json::object();
    }
  }

  json Object(int fuel) {
    json properties = json::object();
    json required = json::array();
    for (const std::string& name : kNames) {
      if (Pick(random_, 3) > 0) continue;
      properties[name] = Schema(fuel - 1);
      if (Coin(random_)) required.push_back(name);
    }
    if (Pick(random_, 4) == 0) properties["again"] = {{"$ref", Coin(random_) ? "#" : "#/$defs/node"}};
    json made = {{"type", "object"}, {"properties", properties}, {"required", required}};
    if (Coin(random_)) made["additionalProperties"] = Coin(random_) ? json(false) : Leaf();
    return made;
  }

  json Array(int fuel) {
    json made = {{"type", "array"}, {"items", Schema(fuel - 1)}};
    if (Coin(random_)) made["minItems"] = Pick(random_, 3);
    if (Coin(random_)) made["maxItems"] = 2 + Pick(random_, 3);
    return made;
  }

  json OneOf(int fuel) {
    json branches = json::array();
    for (const char* kind : {"x", "y", "xy"}) {
      json branch = Object(fuel - 1);
      branch["properties"]["kind"] = {{"const", kind}};
      branch["required"].push_back("kind");
      branches.push_back(branch);
    }
    branches.push_back({{"type", {"integer", "null"}}});
    return {{"oneOf", branches}};
  }

  Random* random_;
};

class Writer {
 public:
  Writer(const json& root, bool strict, Random* random) : root_(root), strict_(strict), random_(random) {}

  json Make(const json& schema, int fuel) {
    if (schema.is_boolean()) return AnyDocument(random_, fuel);
    if (schema.contains("$ref")) {
      const std::string ref = schema["$ref"];
      return Make(ref == "#" ? root_ : root_.at(json::json_pointer(ref.substr(1))), fuel);
    }
    for (const char* keyword : {"anyOf", "oneOf"}) {
      if (!schema.contains(keyword)) continue;
      // The last branch is the simplest.
      const json& branches = schema[keyword];
      return Make(fuel <= 0 ? branches.back() : branches[Pick(random_, branches.size())], fuel);
    }
    if (schema.contains("const")) return schema["const"];
    if (schema.contains("enum")) return schema["enum"][Pick(random_, schema["enum"].size())];
    if (!schema.contains("type")) return AnyDocument(random_, fuel);
    const json& type = schema["type"];
    const std::string one = type.is_array() ? type[Pick(random_, type.size())] : type;
    return Typed(schema, one, fuel);
  }

 private:
  json Typed(const json& schema, const std::string& type, int fuel) {
    if (type == "null") return nullptr;
    if (type == "boolean") return Coin(random_);
    if (type == "integer") return static_cast<int64_t>(Pick(random_, 1u << 31)) - (1 << 30);
    if (type == "number") return static_cast<double>(Pick(random_, 1u << 20)) / 512;
    if (type == "string") return Text(schema);
    return type == "array" ? List(schema, fuel) : Members(schema, fuel);
  }

  json Text(const json& schema) {
    const size_t least = schema.value("minLength", size_t{0});
    const size_t most = schema.value("maxLength", least + 5);
    static const std::vector<std::string> kCharacters = {
        "a", "\"", "\\", "\n", "\xC3\xA9", "\xF0\x9F\x98\x80", "z"};
    std::string text;
    for (size_t i = least + Pick(random_, most - least + 1); i-- > 0;)
      text += kCharacters[Pick(random_, kCharacters.size())];
    return text;
  }

  json List(const json& schema, int fuel) {
    const size_t least = schema.value("minItems", size_t{0});
    const size_t most = schema.value("maxItems", least + 3);
    json made = json::array();
    for (size_t i = fuel <= 0 ? least : least + Pick(random_, most - least + 1); i-- > 0;)
      made.push_back(Make(schema.value("items", json(true)), fuel - 1));
    return made;
  }

  json Members(const json& schema, int fuel) {
    json made = json::object();
    const json required = schema.value("required", json::array());
    const auto needs = [&](const std::string& name) {
      return std::find(required.begin(), required.end(), name) != required.end();
    };
    const json properties = schema.value("properties", json::object());
    for (const auto& [name, value] : properties.items()) {
      if (needs(name) || (fuel > 0 && Coin(random_))) made[name] = Make(value, fuel - 1);
    }
    const json additional = schema.value("additionalProperties", json(!strict_));
    if (additional != json(false) && fuel > 0 && Coin(random_)) made["extra"] = Make(additional, fuel - 1);
    return made;
  }

  const json& root_;
  const bool strict_;
  Random* random_;
};

}  // namespace

size_t Pick(Random* random, size_t below) { return static_cast<size_t>((*random)() % below); }

json RandomSchema(Random* random) { return Maker(random).Root(); }

json RandomDocument(const json& schema, const json& root, bool strict, Random* random) {
  return Writer(root, strict, random).Make(schema, 4);
}

}  // namespace moraine::test
