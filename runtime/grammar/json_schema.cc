#include "runtime/grammar/json_schema.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "runtime/core/printable.h"
#include "runtime/grammar/disjoint.h"

namespace moraine {
namespace {

using json = nlohmann::ordered_json;

constexpr std::array kNotes = {"title",      "description", "default",   "examples",
                               "deprecated", "readOnly",    "writeOnly", "discriminator",
                               "$comment",   "$schema",     "$defs",     "definitions"};
constexpr std::array kOfTypes = {"properties", "required", "additionalProperties",
                                 "items",      "minItems", "maxItems",
                                 "minLength",  "maxLength"};
constexpr int kDisjointBudget = 200000;

template <typename List, typename T>
bool Has(const List& list, const T& one) {
  return std::ranges::find(list, one) != list.end();
}

// As a JSON pointer spells it.
std::string Escaped(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

std::string Unescaped(std::string_view name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    const std::string_view two = name.substr(i, 2);
    out += two == "~0" ? '~' : two == "~1" ? '/' : name[i];
    if (two == "~0" || two == "~1") ++i;
  }
  return out;
}

// Whether a name is spelled in JSON as it is.
bool IsPlain(std::string_view name) {
  return std::ranges::none_of(name,
                              [](char c) { return c == '"' || c == '\\' || static_cast<uint8_t>(c) < 0x20; });
}

class Compiler {
 public:
  Compiler(const json& root, const SchemaOptions& options) : root_(root), options_(options) {}

  Result<std::shared_ptr<const Grammar>> Compile();

 private:
  // A schema within the schema.
  struct Place {
    const json* schema = nullptr;
    std::string pointer;
    std::vector<ValueId> branches;  // any of them
    bool one_of = false;            // but no two at once
  };

  [[nodiscard]] tl::unexpected<Error> Refuse(ValueId at, const std::string& why) const;
  Status RefuseKeyword(ValueId at, const std::string& keyword) const;
  Result<ValueId> PlaceOf(const json& schema, const std::string& pointer);
  ValueId Any();
  ShapeId Add(decltype(Shape::of) of);

  Status ReadPlace(ValueId at);
  Status ReadAny(ValueId at);
  Status ReadBranches(ValueId at, const char* keyword);
  Status ReadRef(ValueId at);
  Status ReadLiterals(ValueId at, const char* keyword);
  Status ReadTyped(ValueId at);
  Result<std::vector<std::string>> Types(ValueId at) const;
  Result<ShapeId> ReadObject(ValueId at);
  Status ReadRequired(ValueId at, ObjectShape* object);
  Result<ShapeId> ReadArray(ValueId at);
  Result<uint32_t> Count(ValueId at, const char* keyword, uint32_t absent) const;
  Status OnlyNotesBeside(ValueId at, std::initializer_list<std::string_view> read) const;
  Status JoinBranches(ValueId at);
  Status CheckOneOf(ValueId at, int* budget) const;

  const json& root_;
  const SchemaOptions options_;
  Grammar grammar_;
  std::vector<Place> places_;  // [ValueId]
  std::unordered_map<const json*, ValueId> known_;
  std::optional<ValueId> any_;
};

tl::unexpected<Error> Compiler::Refuse(ValueId at, const std::string& why) const {
  const std::string& pointer = places_[at].pointer;
  return Fail(ErrorKind::kUsage,
              fmt::format("at {}: {}", pointer.empty() ? "the root" : Printable(pointer, 300), why));
}

Status Compiler::RefuseKeyword(ValueId at, const std::string& keyword) const {
  if (Has(kOfTypes, keyword))
    return Refuse(at, fmt::format("\"{}\" says nothing without a \"type\" beside it", keyword));
  return Refuse(at, fmt::format("\"{}\" is not among the keywords that can be kept here (docs/serving.md)",
                                Printable(keyword, 60)));
}

Result<ValueId> Compiler::PlaceOf(const json& schema, const std::string& pointer) {
  const auto [at, added] = known_.try_emplace(&schema, static_cast<ValueId>(places_.size()));
  if (!added) return at->second;
  if (places_.size() >= kMostSchemaPlaces) {
    return Fail(ErrorKind::kUsage, fmt::format("at {}: more than {} schemas within the schema",
                                               Printable(pointer, 300), kMostSchemaPlaces));
  }
  Place place;
  place.schema = &schema;
  place.pointer = pointer;
  places_.push_back(std::move(place));
  grammar_.values.emplace_back();
  return at->second;
}

// The grammar's own values have a place too, so that the two lists go together.
ValueId Compiler::Any() {
  if (!any_) {
    any_ = AddAnyValue(&grammar_);
    places_.resize(grammar_.values.size());
  }
  return *any_;
}

ShapeId Compiler::Add(decltype(Shape::of) of) {
  grammar_.shapes.push_back({.of = std::move(of)});
  return static_cast<ShapeId>(grammar_.shapes.size() - 1);
}

Status Compiler::OnlyNotesBeside(ValueId at, std::initializer_list<std::string_view> read) const {
  for (const auto& [keyword, value] : places_[at].schema->items()) {
    const bool identity = keyword == "$id" && places_[at].pointer.empty();
    if (!identity && !Has(read, keyword) && !Has(kNotes, keyword)) return RefuseKeyword(at, keyword);
  }
  return {};
}

Status Compiler::ReadPlace(ValueId at) {
  const json& schema = *places_[at].schema;
  if (schema.is_boolean()) {
    return schema.get<bool>() ? ReadAny(at) : Status();
  }
  if (!schema.is_object()) return Refuse(at, "a schema is an object, true or false");
  for (const char* keyword : {"anyOf", "oneOf"}) {
    if (schema.contains(keyword)) return ReadBranches(at, keyword);
  }
  if (schema.contains("$ref")) return ReadRef(at);
  for (const char* keyword : {"enum", "const"}) {
    if (schema.contains(keyword)) return ReadLiterals(at, keyword);
  }
  if (schema.contains("type")) return ReadTyped(at);
  MORAINE_RETURN_IF_ERROR(OnlyNotesBeside(at, {}));
  return ReadAny(at);
}

Status Compiler::ReadAny(ValueId at) {
  const ValueId any = Any();
  places_[at].branches = {any};
  return {};
}

Status Compiler::ReadBranches(ValueId at, const char* keyword) {
  MORAINE_RETURN_IF_ERROR(OnlyNotesBeside(at, {keyword}));
  const json& list = (*places_[at].schema)[keyword];
  if (!list.is_array() || list.empty() || list.size() > kMostBranches)
    return Refuse(at, fmt::format("\"{}\" is no list of 1 to {} schemas", keyword, kMostBranches));
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string pointer = fmt::format("{}/{}/{}", places_[at].pointer, keyword, i);
    MORAINE_ASSIGN_OR_RETURN(const ValueId branch, PlaceOf(list[i], pointer));
    places_[at].branches.push_back(branch);
  }
  places_[at].one_of = keyword == std::string_view("oneOf");
  return {};
}

Status Compiler::ReadRef(ValueId at) {
  MORAINE_RETURN_IF_ERROR(OnlyNotesBeside(at, {"$ref"}));
  const json& ref = (*places_[at].schema)["$ref"];
  const std::string text = ref.is_string() ? ref.get<std::string>() : "";
  if (text == "#") {
    places_[at].branches = {0};
    return {};
  }
  for (const char* list : {"$defs", "definitions"}) {
    const std::string prefix = fmt::format("#/{}/", list);
    if (!text.starts_with(prefix)) continue;
    const std::string_view name = std::string_view(text).substr(prefix.size());
    if (name.find_first_of("/%") != name.npos || !root_.is_object()) break;
    const auto definitions = root_.find(list);
    if (definitions == root_.end() || !definitions->is_object()) break;
    const auto found = definitions->find(Unescaped(name));
    if (found == definitions->end()) break;
    MORAINE_ASSIGN_OR_RETURN(const ValueId target, PlaceOf(*found, fmt::format("/{}/{}", list, name)));
    places_[at].branches = {target};
    return {};
  }
  return Refuse(at,
                fmt::format("\"$ref\" {} leads to nothing: expected \"#\" or \"#/$defs/NAME\" of this schema",
                            Printable(ref.dump(-1, ' ', false, json::error_handler_t::replace), 100)));
}

Result<std::vector<std::string>> Compiler::Types(ValueId at) const {
  static constexpr std::array kTypes = {"object", "array", "string", "number", "integer", "boolean", "null"};
  std::vector<std::string> types;
  const json& type = (*places_[at].schema)["type"];
  for (const json& one : type.is_array() ? type : json::array({type})) {
    if (!one.is_string() || !Has(kTypes, one.get<std::string>()))
      return Refuse(at, "\"type\" is neither one of the seven types nor a list of them");
    if (!Has(types, one.get<std::string>())) types.push_back(one.get<std::string>());
  }
  if (types.empty()) return Refuse(at, "\"type\" is an empty list");
  return types;
}

// Of the values those whose type is allowed.
Status Compiler::ReadLiterals(ValueId at, const char* keyword) {
  MORAINE_RETURN_IF_ERROR(OnlyNotesBeside(at, {keyword, "type"}));
  const json& schema = *places_[at].schema;
  std::vector<std::string> types;
  if (schema.contains("type")) {
    MORAINE_ASSIGN_OR_RETURN(types, Types(at));
  }
  const json& values = schema[keyword];
  const bool is_list = keyword == std::string_view("enum");
  if (is_list && !values.is_array()) return Refuse(at, "\"enum\" is no list");
  std::vector<std::string> texts;
  for (const json& value : is_list ? values : json::array({values})) {
    const bool whole = value.is_number_integer();
    const bool allowed = types.empty() || Has(types, value.type_name()) || (whole && Has(types, "integer"));
    if (allowed) texts.push_back(value.dump());
  }
  if (texts.empty()) return Refuse(at, fmt::format("\"{}\" has no value that is allowed", keyword));
  grammar_.values[at].shapes = {Add(LiteralShape{SortedTexts(std::move(texts))})};
  return {};
}

Status Compiler::ReadTyped(ValueId at) {
  MORAINE_RETURN_IF_ERROR(OnlyNotesBeside(at, {"type", "properties", "required", "additionalProperties",
                                               "items", "minItems", "maxItems", "minLength", "maxLength"}));
  MORAINE_ASSIGN_OR_RETURN(const std::vector<std::string> types, Types(at));
  std::vector<ShapeId> shapes;
  std::vector<std::string> words;
  for (const std::string& type : types) {
    if (type == "object") {
      MORAINE_ASSIGN_OR_RETURN(const ShapeId object, ReadObject(at));
      shapes.push_back(object);
    } else if (type == "array") {
      MORAINE_ASSIGN_OR_RETURN(const ShapeId array, ReadArray(at));
      shapes.push_back(array);
    } else if (type == "string") {
      StringShape string;
      MORAINE_ASSIGN_OR_RETURN(string.least, Count(at, "minLength", 0));
      MORAINE_ASSIGN_OR_RETURN(string.most, Count(at, "maxLength", kUnbounded));
      shapes.push_back(Add(string));
    } else if (type == "number" || (type == "integer" && !Has(types, "number"))) {
      shapes.push_back(Add(NumberShape{.whole = type == "integer"}));
    } else if (type == "boolean") {
      words.insert(words.end(), {"true", "false"});
    } else if (type == "null") {
      words.emplace_back("null");
    }
  }
  if (!words.empty()) shapes.push_back(Add(LiteralShape{SortedTexts(std::move(words))}));
  grammar_.values[at].shapes = std::move(shapes);
  return {};
}

Result<ShapeId> Compiler::ReadObject(ValueId at) {
  const json& schema = *places_[at].schema;
  const std::string pointer = places_[at].pointer;
  ObjectShape object;
  const auto additional = schema.find("additionalProperties");
  if (additional == schema.end()) {
    if (!options_.strict) object.other = Any();
  } else if (!additional->is_boolean() || additional->get<bool>()) {
    MORAINE_ASSIGN_OR_RETURN(object.other, PlaceOf(*additional, pointer + "/additionalProperties"));
  }
  if (const auto properties = schema.find("properties"); properties != schema.end()) {
    if (!properties->is_object()) return Refuse(at, "\"properties\" is no object");
    for (const auto& [name, value] : properties->items()) {
      const std::string inner = fmt::format("{}/properties/{}", pointer, Escaped(name));
      MORAINE_ASSIGN_OR_RETURN(const ValueId property, PlaceOf(value, inner));
      if (!IsPlain(name)) return Refuse(property, "a name with a quote, a backslash or a control character");
      object.properties.push_back({name, property, false});
    }
  }
  MORAINE_RETURN_IF_ERROR(ReadRequired(at, &object));
  return Add(std::move(object));
}

// A name that is required and has no schema of its own has that of the additional members.
Status Compiler::ReadRequired(ValueId at, ObjectShape* object) {
  const json& schema = *places_[at].schema;
  const auto required = schema.find("required");
  if (required == schema.end()) return {};
  if (!required->is_array()) return Refuse(at, "\"required\" is no list of names");
  std::unordered_map<std::string, size_t> index;
  for (size_t i = 0; i < object->properties.size(); ++i) index.emplace(object->properties[i].name, i);
  for (const json& entry : *required) {
    if (!entry.is_string()) return Refuse(at, "\"required\" is no list of names");
    const auto name = entry.get<std::string>();
    const auto [place, added] = index.try_emplace(name, object->properties.size());
    if (!added) {
      object->properties[place->second].required = true;
    } else if (!object->other || !IsPlain(name)) {
      return Refuse(
          at, fmt::format("\"required\" names \"{}\", which \"properties\" has not", Printable(name, 60)));
    } else {
      object->properties.push_back({name, *object->other, true});
    }
  }
  return {};
}

Result<ShapeId> Compiler::ReadArray(ValueId at) {
  const json& schema = *places_[at].schema;
  ArrayShape array;
  MORAINE_ASSIGN_OR_RETURN(array.least, Count(at, "minItems", 0));
  MORAINE_ASSIGN_OR_RETURN(array.most, Count(at, "maxItems", kUnbounded));
  const auto items = schema.find("items");
  if (items == schema.end()) {
    array.items = Any();
  } else {
    MORAINE_ASSIGN_OR_RETURN(array.items, PlaceOf(*items, places_[at].pointer + "/items"));
  }
  return Add(array);
}

Result<uint32_t> Compiler::Count(ValueId at, const char* keyword, uint32_t absent) const {
  const json& schema = *places_[at].schema;
  const auto found = schema.find(keyword);
  if (found == schema.end()) return absent;
  if (!found->is_number_unsigned() || found->get<uint64_t>() > kMostCount)
    return Refuse(at, fmt::format("\"{}\" is no whole number from 0 to {}", keyword, kMostCount));
  return static_cast<uint32_t>(found->get<uint64_t>());
}

// The shapes of a place's branches, and of theirs, become its own.
Status Compiler::JoinBranches(ValueId at) {
  std::vector<ValueId> open = places_[at].branches;
  if (open.empty()) return {};
  std::vector<bool> seen(places_.size());
  std::vector<ShapeId> shapes;
  while (!open.empty()) {
    const ValueId one = open.back();
    open.pop_back();
    if (seen[one]) continue;
    seen[one] = true;
    open.insert(open.end(), places_[one].branches.begin(), places_[one].branches.end());
    if (!places_[one].branches.empty()) continue;
    for (const ShapeId shape : grammar_.values[one].shapes) {
      if (!Has(shapes, shape)) shapes.push_back(shape);
    }
    if (shapes.size() > kMostBranches)
      return Refuse(at, fmt::format("more than {} branches in all", kMostBranches));
  }
  grammar_.values[at].shapes = std::move(shapes);
  return {};
}

Status Compiler::CheckOneOf(ValueId at, int* budget) const {
  const std::vector<ValueId>& branches = places_[at].branches;
  for (size_t i = 0; places_[at].one_of && i < branches.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      if (AreDisjoint(grammar_, branches[k], branches[i], budget)) continue;
      return Refuse(at,
                    fmt::format("\"oneOf\": one text might satisfy the branches {} and {}; use anyOf, or let "
                                "them differ in type, a constant or a required member",
                                k, i));
    }
  }
  return {};
}

Result<std::shared_ptr<const Grammar>> Compiler::Compile() {
  const size_t bytes = root_.dump(-1, ' ', false, json::error_handler_t::replace).size();
  if (bytes > kMostSchemaBytes) {
    return Fail(ErrorKind::kUsage,
                fmt::format("at the root: {} bytes, over the limit of {}", bytes, kMostSchemaBytes));
  }
  MORAINE_ASSIGN_OR_RETURN(grammar_.root, PlaceOf(root_, ""));
  // Grows as it goes: a place names further ones.
  for (ValueId at = 0; at < places_.size(); ++at) {
    if (places_[at].schema == nullptr) continue;
    MORAINE_RETURN_IF_ERROR(ReadPlace(at));
  }
  for (ValueId at = 0; at < places_.size(); ++at) MORAINE_RETURN_IF_ERROR(JoinBranches(at));
  FinishGrammar(&grammar_);
  int budget = kDisjointBudget;
  for (ValueId at = 0; at < places_.size(); ++at) MORAINE_RETURN_IF_ERROR(CheckOneOf(at, &budget));
  if (grammar_.values[grammar_.root].height > kMostLevels) {
    return Refuse(
        grammar_.root,
        fmt::format("no text of at most {} objects and lists within each other satisfies it", kMostLevels));
  }
  return std::make_shared<const Grammar>(std::move(grammar_));
}

}  // namespace

Result<std::shared_ptr<const Grammar>> CompileJsonSchema(const json& schema, const SchemaOptions& options) {
  return Compiler(schema, options).Compile();
}

}  // namespace moraine
