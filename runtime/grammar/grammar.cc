#include "runtime/grammar/grammar.h"

#include <algorithm>
#include <utility>

namespace moraine {
namespace {

ShapeId AddShape(Grammar* grammar, decltype(Shape::of) of) {
  grammar->shapes.push_back({.of = std::move(of)});
  return static_cast<ShapeId>(grammar->shapes.size() - 1);
}

void Index(ObjectShape* object) {
  std::vector<std::string> names;
  for (const ObjectShape::Property& property : object->properties) names.push_back(property.name);
  object->names = SortedTexts(std::move(names));
  const auto count = static_cast<uint32_t>(object->properties.size());
  object->property_of.assign(count, 0);
  object->next_required.assign(count + 1, count);
  for (uint32_t i = count; i-- > 0;) {
    const ObjectShape::Property& property = object->properties[i];
    object->property_of[object->names.Find(property.name)] = i;
    object->next_required[i] = property.required ? i : object->next_required[i + 1];
  }
}

// Of the least text, from the heights of values as they are known so far.
uint8_t HeightOf(const Shape& shape, const std::vector<Value>& values) {
  const auto within = [](uint8_t inner) {
    return inner < kMostLevels ? static_cast<uint8_t>(inner + 1) : kNoHeight;
  };
  uint8_t inner = 0;
  if (const auto* object = std::get_if<ObjectShape>(&shape.of)) {
    for (const ObjectShape::Property& property : object->properties) {
      if (property.required) inner = std::max(inner, values[property.value].height);
    }
    return within(inner);
  }
  if (const auto* array = std::get_if<ArrayShape>(&shape.of)) {
    if (array->least > array->most) return kNoHeight;
    return within(array->least > 0 ? values[array->items].height : uint8_t{0});
  }
  if (const auto* string = std::get_if<StringShape>(&shape.of))
    return string->least > string->most ? kNoHeight : uint8_t{0};
  if (const auto* literal = std::get_if<LiteralShape>(&shape.of))
    return literal->texts.texts().empty() ? kNoHeight : uint8_t{0};
  return 0;
}

}  // namespace

ValueId AddAnyValue(Grammar* grammar) {
  const auto any = static_cast<ValueId>(grammar->values.size());
  grammar->values.emplace_back();
  ObjectShape object;
  object.other = any;
  std::vector<ShapeId> shapes = {AddShape(grammar, std::move(object)),
                                 AddShape(grammar, ArrayShape{.items = any}),
                                 AddShape(grammar, StringShape{}), AddShape(grammar, NumberShape{}),
                                 AddShape(grammar, LiteralShape{SortedTexts({"false", "null", "true"})})};
  grammar->values[any].shapes = std::move(shapes);
  return any;
}

void FinishGrammar(Grammar* grammar) {
  for (Shape& shape : grammar->shapes) {
    if (auto* object = std::get_if<ObjectShape>(&shape.of)) Index(object);
  }
  // The least fixed point: each round knows what one level more can satisfy.
  for (bool changed = true; changed;) {
    changed = false;
    for (Shape& shape : grammar->shapes) shape.height = HeightOf(shape, grammar->values);
    for (Value& value : grammar->values) {
      uint8_t height = kNoHeight;
      for (const ShapeId shape : value.shapes) height = std::min(height, grammar->shapes[shape].height);
      changed = changed || height != value.height;
      value.height = height;
    }
  }
}

std::shared_ptr<const Grammar> AnyObjectGrammar() {
  auto grammar = std::make_shared<Grammar>();
  ObjectShape object;
  object.other = AddAnyValue(grammar.get());
  const ShapeId shape = AddShape(grammar.get(), std::move(object));
  grammar->root = static_cast<ValueId>(grammar->values.size());
  grammar->values.push_back({.shapes = {shape}});
  FinishGrammar(grammar.get());
  return grammar;
}

}  // namespace moraine
