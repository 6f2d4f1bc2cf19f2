#include "runtime/grammar/disjoint.h"

#include <nlohmann/json.hpp>
#include <string_view>

namespace moraine {
namespace {

constexpr int kDeepest = 3;
constexpr int kParsing = 20;  // costs that many comparisons

enum class Kind { kObject, kArray, kString, kNumber, kWord };

Kind KindOf(std::string_view literal) {
  switch (literal.front()) {
    case '{':
      return Kind::kObject;
    case '[':
      return Kind::kArray;
    case '"':
      return Kind::kString;
    case 't':
    case 'f':
    case 'n':
      return Kind::kWord;
    default:
      return Kind::kNumber;
  }
}

Kind KindOf(const Shape& shape) {
  // In the order of the variant; a literal's kind is that of its text.
  static constexpr Kind kKinds[] = {Kind::kObject, Kind::kArray, Kind::kString, Kind::kNumber};
  return kKinds[shape.of.index()];
}

// Whether the same value may be spelled otherwise: 1 is 1.0, and members have no order.
bool HasOtherSpellings(const std::string& literal) {
  const Kind kind = KindOf(literal);
  if (kind == Kind::kNumber) return literal.find_first_of(".eE") != literal.npos || literal == "-0";
  return kind == Kind::kObject || kind == Kind::kArray;
}

class Comparison {
 public:
  Comparison(const Grammar& grammar, int* budget) : grammar_(grammar), budget_(*budget) {}

  bool Values(ValueId a, ValueId b, int depth) {
    if (depth > kDeepest) return false;
    for (const ShapeId x : grammar_.values[a].shapes) {
      for (const ShapeId y : grammar_.values[b].shapes) {
        if (!Shapes(grammar_.shapes[x], grammar_.shapes[y], depth)) return false;
      }
    }
    return true;
  }

 private:
  bool Shapes(const Shape& a, const Shape& b, int depth) {
    if (!Pay(1)) return false;
    const auto* literal_a = std::get_if<LiteralShape>(&a.of);
    const auto* literal_b = std::get_if<LiteralShape>(&b.of);
    if (literal_a != nullptr && literal_b != nullptr) return Literals(*literal_a, *literal_b);
    if (literal_a != nullptr) return NoneIs(*literal_a, KindOf(b));
    if (literal_b != nullptr) return NoneIs(*literal_b, KindOf(a));
    if (KindOf(a) != KindOf(b)) return true;
    const auto* object_a = std::get_if<ObjectShape>(&a.of);
    const auto* object_b = std::get_if<ObjectShape>(&b.of);
    if (object_a == nullptr) return false;
    return NeedsWhatIsRefused(*object_a, *object_b, depth) || NeedsWhatIsRefused(*object_b, *object_a, depth);
  }

  static bool NoneIs(const LiteralShape& literal, Kind kind) {
    for (const std::string& text : literal.texts.texts()) {
      if (KindOf(text) == kind) return false;
    }
    return true;
  }

  bool Literals(const LiteralShape& a, const LiteralShape& b) {
    for (const std::string& text : a.texts.texts()) {
      if (!Pay(1) || b.texts.Find(text) != b.texts.texts().size()) return false;
    }
    return !MayEqual(a, b) && !MayEqual(b, a);
  }

  // Whether a text of `a` that has other spellings means one of `b`.
  bool MayEqual(const LiteralShape& a, const LiteralShape& b) {
    for (const std::string& x : a.texts.texts()) {
      if (!HasOtherSpellings(x)) continue;
      for (const std::string& y : b.texts.texts()) {
        if (!Pay(kParsing)) return true;
        if (KindOf(x) == KindOf(y) &&
            nlohmann::json::parse(x, nullptr, false) == nlohmann::json::parse(y, nullptr, false))
          return true;
      }
    }
    return false;
  }

  bool NeedsWhatIsRefused(const ObjectShape& a, const ObjectShape& b, int depth) {
    for (const ObjectShape::Property& property : a.properties) {
      if (!property.required) continue;
      const size_t place = b.names.Find(property.name);
      if (place == b.names.texts().size()) {
        if (!b.other) return true;
      } else if (Values(property.value, b.properties[b.property_of[place]].value, depth + 1)) {
        return true;
      }
    }
    return false;
  }

  bool Pay(int cost) {
    budget_ -= cost;
    return budget_ > 0;
  }

  const Grammar& grammar_;
  int& budget_;
};

}  // namespace

bool AreDisjoint(const Grammar& grammar, ValueId a, ValueId b, int* budget) {
  return Comparison(grammar, budget).Values(a, b, 0);
}

}  // namespace moraine
