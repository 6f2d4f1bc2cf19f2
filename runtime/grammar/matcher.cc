#include "runtime/grammar/matcher.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/core/check.h"
#include "runtime/grammar/json_number.h"

namespace moraine {
namespace {

// The shape of a prefix, which is no shape of the grammar.
constexpr uint32_t kPrefix = 0xFFFFFFFFu;

// Config::space: none, a line break and so many bytes less one, or one of these.
constexpr uint8_t kOneSpace = 0xFF;
constexpr uint8_t kTwoBreaks = 0xFE;
static_assert(1 + kMostIndent * kMostLevels < kTwoBreaks);

// Config::phase of a value: it stands behind a colon, on the same line.
constexpr uint8_t kSameLine = 1;

bool IsSpace(uint8_t byte) { return byte == ' ' || byte == '\n' || byte == '\t'; }

template <typename T>
const T& ShapeOf(const Grammar& grammar, const Config& config) {
  return std::get<T>(grammar.shapes[config.of].of);
}

void DropDoubles(Configs* configs) {
  if (configs->size() < 2) return;
  size_t kept = 0;
  for (size_t i = 0; i < configs->size() && kept < kMostConfigs; ++i) {
    const Config config = (*configs)[i];
    const auto end = configs->begin() + static_cast<std::ptrdiff_t>(kept);
    if (std::find(configs->begin(), end, config) == end) (*configs)[kept++] = config;
  }
  configs->resize(kept);
}

}  // namespace

static_assert(sizeof(Config) == 24, "no padding: configs are compared and hashed as bytes");

bool Config::operator==(const Config& other) const { return std::memcmp(this, &other, sizeof(*this)) == 0; }

size_t ConfigHash::operator()(const Config& config) const {
  uint64_t words[3];
  std::memcpy(words, &config, sizeof(words));
  uint64_t hash = 0;
  for (const uint64_t word : words) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
  }
  return hash;
}

Matcher::Matcher(std::shared_ptr<const Grammar> grammar, std::string_view prefix)
    : grammar_(std::move(grammar)),
      prefix_(prefix.empty() ? SortedTexts() : SortedTexts({std::string(prefix)})) {
  MORAINE_CHECK(grammar_->values[grammar_->root].height <= kMostLevels);
  below_.emplace_back();  // kDone
}

Configs Matcher::Start() {
  Config value;
  value.of = grammar_->root;
  value.at = At::kValue;
  if (prefix_.texts().empty()) return {value};
  Config prefix;
  prefix.of = kPrefix;
  prefix.among = prefix_.All();
  prefix.at = At::kLiteral;
  prefix.below = Below(value);
  return {prefix};
}

uint32_t Matcher::Below(const Config& config) {
  const auto [at, added] = numbers_.try_emplace(config, static_cast<uint32_t>(below_.size()));
  if (added) below_.push_back(config);
  return at->second;
}

void Matcher::Forget(size_t mark) {
  while (below_.size() > mark) {
    numbers_.erase(below_.back());
    below_.pop_back();
  }
}

bool Matcher::Fits(ValueId value, uint8_t level) const {
  return grammar_->values[value].height <= kMostLevels - level;
}

bool Matcher::Advance(std::string_view bytes, Configs* configs) {
  Configs reached;
  Configs now;
  Configs next;
  for (const Config& config : *configs) {
    now = {config};
    for (size_t i = 0; i < bytes.size() && !now.empty(); ++i) {
      Step(now, static_cast<uint8_t>(bytes[i]), &next);
      std::swap(now, next);
    }
    reached.insert(reached.end(), now.begin(), now.end());
  }
  if (reached.empty()) return false;
  DropDoubles(&reached);
  *configs = std::move(reached);
  return true;
}

void Matcher::Step(const Configs& from, uint8_t byte, Configs* next) {
  next->clear();
  for (const Config& config : from) {
    StepOne(config, byte, next);
    if (next->size() < 2 * kMostConfigs) continue;
    DropDoubles(next);
    if (next->size() == kMostConfigs) return;
  }
  DropDoubles(next);
}

void Matcher::StepOne(const Config& from, uint8_t byte, Configs* next) {
  switch (from.at) {
    case At::kDone:
      return;
    case At::kString:
      return StepString(from, byte, next);
    case At::kObjectKey:
      return StepKey(from, byte, next);
    case At::kNumber:
      return StepNumberOf(from, byte, next);
    case At::kLiteral:
      return StepLiteral(from, byte, next);
    case At::kObjectColon: {
      if (byte != ':') return;
      Config object = from;
      object.at = At::kObjectNext;
      object.spelled = 0;
      Config value;
      value.of = from.spelled;
      value.at = At::kValue;
      value.phase = kSameLine;
      value.level = from.level;
      value.below = Below(object);
      next->push_back(value);
      return;
    }
    default:
      break;
  }
  if (StepSpace(from, byte, next)) return;
  if (from.at == At::kValue) return BeginValue(from.of, from.level, from.below, byte, next);
  if (from.at == At::kArrayOpen || from.at == At::kArrayNext) return StepArray(from, byte, next);
  StepMembers(from, byte, next);
}

// Whether the object or list may end here.
bool Matcher::MayClose(const Config& config) const {
  const auto& shape = grammar_->shapes[config.of].of;
  if (const auto* array = std::get_if<ArrayShape>(&shape)) return config.count >= array->least;
  const auto& object = std::get<ObjectShape>(shape);
  return object.next_required[config.count] == object.properties.size();
}

// True if `byte` is white space, allowed or not.
bool Matcher::StepSpace(const Config& from, uint8_t byte, Configs* next) const {
  if (!IsSpace(byte)) return false;
  // Behind a member or element it leads to the end alone.
  const bool behind = from.at == At::kObjectNext || from.at == At::kArrayNext;
  if (behind && !MayClose(from)) return true;
  uint8_t space = 0;
  if (from.space == 0) {
    if (byte == ' ') space = kOneSpace;
    if (byte == '\n' && !(from.at == At::kValue && from.phase == kSameLine)) space = 1;
  } else if (byte == '\n') {
    if (from.space == 1 && from.level == 0) space = kTwoBreaks;
  } else if (from.space <= kMostIndent * from.level) {
    space = static_cast<uint8_t>(from.space + 1);
  }
  if (space == 0) return true;
  next->push_back(from);
  next->back().space = space;
  return true;
}

void Matcher::BeginValue(ValueId value, uint8_t level, uint32_t below, uint8_t byte, Configs* next) {
  for (const ShapeId shape : grammar_->values[value].shapes) {
    if (grammar_->shapes[shape].height <= kMostLevels - level) BeginShape(shape, level, below, byte, next);
  }
}

void Matcher::BeginShape(ShapeId shape, uint8_t level, uint32_t below, uint8_t byte, Configs* next) {
  const auto& of = grammar_->shapes[shape].of;
  Config config;
  config.of = shape;
  config.level = level;
  config.below = below;
  if (std::holds_alternative<ObjectShape>(of)) {
    if (byte != '{') return;
    config.at = At::kObjectOpen;
    ++config.level;
  } else if (std::holds_alternative<ArrayShape>(of)) {
    if (byte != '[') return;
    config.at = At::kArrayOpen;
    ++config.level;
  } else if (std::holds_alternative<StringShape>(of)) {
    if (byte != '"') return;
    config.at = At::kString;
  } else if (std::holds_alternative<NumberShape>(of)) {
    NumberState number;
    if (!BeginNumber(byte, &number)) return;
    config.at = At::kNumber;
    config.phase = static_cast<uint8_t>(number.phase);
    config.space = number.length;
  } else {
    config.at = At::kLiteral;
    config.among = std::get<LiteralShape>(of).texts.All();
    return StepLiteral(config, byte, next);
  }
  next->push_back(config);
}

// Whether `property` may come when those before config.count are past: no required one is left out.
bool Matcher::IsNext(const ObjectShape& object, const Config& config, uint32_t property) const {
  return property >= config.count && property <= object.next_required[config.count] &&
         Fits(object.properties[property].value, config.level);
}

bool Matcher::TakesOthers(const ObjectShape& object, const Config& config) const {
  return object.other && object.next_required[config.count] == object.properties.size() &&
         Fits(*object.other, config.level);
}

bool Matcher::HasNext(const ObjectShape& object, const Config& config, SortedTexts::Range among) const {
  for (uint32_t place = among.first; place < among.last; ++place) {
    if (IsNext(object, config, object.property_of[place])) return true;
  }
  return false;
}

// Between names and values.
void Matcher::StepMembers(const Config& from, uint8_t byte, Configs* next) {
  const auto& object = ShapeOf<ObjectShape>(*grammar_, from);
  if (byte == '}') {
    if (MayClose(from) && from.at != At::kObjectComma) Return(from, next);
    return;
  }
  const bool behind = from.at == At::kObjectNext;
  const uint8_t goes_on = behind ? ',' : '"';
  if (byte != goes_on || (behind && from.space != 0)) return;
  if (!TakesOthers(object, from) && !HasNext(object, from, object.names.All())) return;
  Config config = from;
  config.space = 0;
  if (behind) {
    config.at = At::kObjectComma;
  } else {
    config.at = At::kObjectKey;
    config.among = object.names.All();
  }
  next->push_back(config);
}

// A name may yet be one of those the shape knows, or one of its own, or both. What the shape knows is spelled
// as it is, so beside such names no other may have escapes: "\u0061" would be "a" again.
void Matcher::StepKey(const Config& from, uint8_t byte, Configs* next) {
  const auto& object = ShapeOf<ObjectShape>(*grammar_, from);
  if (byte == '"' && static_cast<TextPhase>(from.phase) == TextPhase::kBetween) return EndKey(from, next);
  const TextPhase phase = StepText(static_cast<TextPhase>(from.phase), byte);
  if (phase == TextPhase::kRefused || (phase == TextPhase::kEscape && !object.properties.empty())) return;
  Config config = from;
  config.phase = static_cast<uint8_t>(phase);
  config.among = object.names.Narrow(from.among, from.spelled, byte);
  ++config.spelled;
  if (!TakesOthers(object, from)) {
    if (!HasNext(object, from, config.among)) return;
  } else if (config.among.empty()) {
    config.among = {};
    config.spelled = 0;
  }
  next->push_back(config);
}

void Matcher::EndKey(const Config& from, Configs* next) {
  const auto& object = ShapeOf<ObjectShape>(*grammar_, from);
  Config config = from;
  config.at = At::kObjectColon;
  config.among = {};
  if (object.names.Ends(from.among, from.spelled)) {
    const uint32_t property = object.property_of[from.among.first];
    if (!IsNext(object, from, property)) return;
    config.count = property + 1;
    config.spelled = object.properties[property].value;
  } else {
    if (!TakesOthers(object, from)) return;
    config.count = static_cast<uint32_t>(object.properties.size());
    config.spelled = *object.other;
  }
  next->push_back(config);
}

bool Matcher::TakesMore(const ArrayShape& array, const Config& config) const {
  return config.count < array.most && Fits(array.items, config.level);
}

void Matcher::StepArray(const Config& from, uint8_t byte, Configs* next) {
  const auto& array = ShapeOf<ArrayShape>(*grammar_, from);
  if (byte == ']') {
    if (MayClose(from)) Return(from, next);
    return;
  }
  if (from.at == At::kArrayNext && (byte != ',' || from.space != 0)) return;
  if (!TakesMore(array, from)) return;
  Config after = from;
  after.at = At::kArrayNext;
  after.space = 0;
  // Past the least nothing depends on how many there are, unless there is a most.
  after.count = array.most == kUnbounded ? std::min(from.count + 1, array.least) : from.count + 1;
  const uint32_t below = Below(after);
  if (from.at == At::kArrayOpen) return BeginValue(array.items, from.level, below, byte, next);
  Config value;
  value.of = array.items;
  value.at = At::kValue;
  value.level = from.level;
  value.below = below;
  next->push_back(value);
}

void Matcher::StepString(const Config& from, uint8_t byte, Configs* next) {
  const auto& string = ShapeOf<StringShape>(*grammar_, from);
  const bool between = static_cast<TextPhase>(from.phase) == TextPhase::kBetween;
  if (between && byte == '"') {
    if (from.count >= string.least) Return(from, next);
    return;
  }
  if (between && from.count >= string.most) return;
  const TextPhase phase = StepText(static_cast<TextPhase>(from.phase), byte);
  if (phase == TextPhase::kRefused) return;
  Config config = from;
  config.phase = static_cast<uint8_t>(phase);
  if (phase == TextPhase::kBetween)
    config.count = string.most == kUnbounded ? std::min(from.count + 1, string.least) : from.count + 1;
  next->push_back(config);
}

void Matcher::StepNumberOf(const Config& from, uint8_t byte, Configs* next) {
  NumberState number{static_cast<NumberPhase>(from.phase), from.space};
  if (!StepNumber(byte, ShapeOf<NumberShape>(*grammar_, from).whole, &number)) {
    if (EndsHere(from)) StepOne(Config(below_[from.below]), byte, next);
    return;
  }
  Config config = from;
  config.phase = static_cast<uint8_t>(number.phase);
  config.space = number.length;
  next->push_back(config);
}

void Matcher::StepLiteral(const Config& from, uint8_t byte, Configs* next) {
  const SortedTexts& texts = from.of == kPrefix ? prefix_ : ShapeOf<LiteralShape>(*grammar_, from).texts;
  if (EndsHere(from)) StepOne(Config(below_[from.below]), byte, next);
  Config config = from;
  config.among = texts.Narrow(from.among, from.spelled, byte);
  ++config.spelled;
  if (config.among.empty()) return;
  const bool whole = config.among.last - config.among.first == 1 && texts.Ends(config.among, config.spelled);
  whole ? Return(from, next) : next->push_back(config);
}

// A number or literal that may be whole, though more of it may come.
bool Matcher::EndsHere(const Config& config) const {
  if (config.at == At::kNumber) return NumberMayEnd(static_cast<NumberPhase>(config.phase));
  if (config.at != At::kLiteral || config.of == kPrefix) return false;
  return ShapeOf<LiteralShape>(*grammar_, config).texts.Ends(config.among, config.spelled);
}

bool Matcher::MayEnd(const Config& config) const {
  return config.at == At::kDone || (config.below == 0 && EndsHere(config));
}

bool Matcher::GoesOn(const Config& config) {
  if (!MayEnd(config)) return true;
  // A number or literal that is all there is.
  Configs next;
  for (int byte = 0; byte < 256 && next.empty(); ++byte) StepOne(config, static_cast<uint8_t>(byte), &next);
  return !next.empty();
}

uint32_t Matcher::FreeCharacters(const Config& config) const {
  if (static_cast<TextPhase>(config.phase) != TextPhase::kBetween) return 0;
  if (config.at == At::kString) {
    const uint32_t most = ShapeOf<StringShape>(*grammar_, config).most;
    return most == kUnbounded ? kUnbounded : most - config.count;
  }
  if (config.at != At::kObjectKey) return 0;
  return TakesOthers(ShapeOf<ObjectShape>(*grammar_, config), config) ? kUnbounded : 0;
}

}  // namespace moraine
