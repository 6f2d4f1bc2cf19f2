// Grammar: the JSON texts that are allowed, as shapes of values that name each other.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "runtime/grammar/sorted_texts.h"

namespace moraine {

/// Objects and lists within each other, at most.
constexpr uint8_t kMostLevels = 32;
/// The height of what no text can satisfy.
constexpr uint8_t kNoHeight = 0xFF;
constexpr uint32_t kUnbounded = 0xFFFFFFFFu;

/// Index of a place where a value stands, in Grammar::values.
using ValueId = uint32_t;
/// Index in Grammar::shapes.
using ShapeId = uint32_t;

/// Members in the order of `properties`, those that are not required left out or not; behind the required
/// ones also others, of any other name.
struct ObjectShape {
  struct Property {
    std::string name;  // without quotes, backslashes and control characters: spelled as it is
    ValueId value = 0;
    bool required = false;
  };
  std::vector<Property> properties;
  std::optional<ValueId> other;  // what members of other names hold

  // Made by FinishGrammar.
  SortedTexts names;
  std::vector<uint32_t> property_of;    // [place in names]
  std::vector<uint32_t> next_required;  // [n + 1]: the first at or behind each; n if there is none
};

struct ArrayShape {
  ValueId items = 0;
  uint32_t least = 0;
  uint32_t most = kUnbounded;
};

/// Code points, whichever way they are spelled.
struct StringShape {
  uint32_t least = 0;
  uint32_t most = kUnbounded;
};

struct NumberShape {
  bool whole = false;
};

/// One of some texts, spelled as they are.
struct LiteralShape {
  SortedTexts texts;
};

struct Shape {
  std::variant<ObjectShape, ArrayShape, StringShape, NumberShape, LiteralShape> of;
  uint8_t height = 0;  // levels the least of its texts needs; made by FinishGrammar
};

struct Value {
  std::vector<ShapeId> shapes;  // any of them; empty: nothing can stand here
  uint8_t height = kNoHeight;   // of the lowest of them; made by FinishGrammar
};

/// Immutable once finished; const calls from any thread.
struct Grammar {
  std::vector<Value> values;
  std::vector<Shape> shapes;
  ValueId root = 0;
};

/// Adds the value that any JSON text is, within the limits of numbers and levels.
ValueId AddAnyValue(Grammar* grammar);

/// Fills in what is made from the rest.
void FinishGrammar(Grammar* grammar);

/// Any JSON object.
std::shared_ptr<const Grammar> AnyObjectGrammar();

}  // namespace moraine
