// Matcher: follows a text through a grammar, byte by byte, in every way it may be meant.
//
// Each way is a Config: where in which shape the text stands, and under it, by number, the places it returns
// to when the shape is done. Two ways that stand alike are one. From every config that Step gives, some text
// leads to the end: what cannot be finished within the levels that are left is not begun.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/grammar/grammar.h"
#include "runtime/grammar/json_text.h"

namespace moraine {

/// White space is what formatters write, so that no text is nothing but that: one space, or a line break and
/// at most so many spaces or tabs for each object and list around; two line breaks before all. There is none
/// before a colon or comma.
constexpr uint8_t kMostIndent = 4;
/// Ways followed at once; further ones are dropped, with texts that only they allow.
constexpr size_t kMostConfigs = 64;

struct Config {
  enum class At : uint8_t {
    kDone,
    kValue,        // a value comes
    kObjectOpen,   // behind the brace
    kObjectKey,    // within a name
    kObjectColon,  // behind a name
    kObjectNext,   // behind a member
    kObjectComma,
    kArrayOpen,
    kArrayNext,
    kString,
    kNumber,
    kLiteral,
  };

  uint32_t of = 0;           // the ValueId at kValue, else the ShapeId
  uint32_t count = 0;        // properties passed, elements, or code points
  uint32_t spelled = 0;      // bytes of a name or literal; at kObjectColon the ValueId of what comes
  SortedTexts::Range among;  // names or literals it may yet be
  At at = At::kDone;
  uint8_t phase = 0;   // TextPhase or NumberPhase
  uint8_t space = 0;   // white space just before; of a number, NumberState::length
  uint8_t level = 0;   // objects and lists around, itself included
  uint32_t below = 0;  // what it returns to

  bool operator==(const Config& other) const;
};

struct ConfigHash {
  size_t operator()(const Config& config) const;
};

using Configs = std::vector<Config>;

/// One thread. Numbers of configs below mean something to the matcher that gave them.
class Matcher {
 public:
  /// `prefix`: text that comes before the value, as it is.
  explicit Matcher(std::shared_ptr<const Grammar> grammar, std::string_view prefix = {});

  Configs Start();
  /// Where `byte` leads from all of `from`, without doubles: none if it is not allowed there.
  void Step(const Configs& from, uint8_t byte, Configs* next);
  /// Goes on by `bytes` from each of them, one at a time, and keeps what comes of it without doubles. So it
  /// succeeds if Step does, byte by byte, from any one alone. False: no way goes on, *configs is as it was.
  bool Advance(std::string_view bytes, Configs* configs);

  /// The text is whole here.
  bool MayEnd(const Config& config) const;
  /// Something may follow.
  bool GoesOn(const Config& config);
  /// Code points without escapes that may come within a string before it must end; 0 where none is under way.
  uint32_t FreeCharacters(const Config& config) const;

  /// What Step has remembered since Mark is forgotten by Forget: configs that came in between are void.
  size_t Mark() const { return below_.size(); }
  void Forget(size_t mark);

 private:
  using At = Config::At;

  bool StepSpace(const Config& from, uint8_t byte, Configs* next) const;
  bool MayClose(const Config& config) const;
  void StepOne(const Config& from, uint8_t byte, Configs* next);
  uint32_t Below(const Config& config);
  void BeginValue(ValueId value, uint8_t level, uint32_t below, uint8_t byte, Configs* next);
  void BeginShape(ShapeId shape, uint8_t level, uint32_t below, uint8_t byte, Configs* next);
  void Return(const Config& from, Configs* next) { next->push_back(below_[from.below]); }
  void StepMembers(const Config& from, uint8_t byte, Configs* next);
  void StepKey(const Config& from, uint8_t byte, Configs* next);
  void EndKey(const Config& from, Configs* next);
  void StepArray(const Config& from, uint8_t byte, Configs* next);
  void StepString(const Config& from, uint8_t byte, Configs* next);
  void StepNumberOf(const Config& from, uint8_t byte, Configs* next);
  void StepLiteral(const Config& from, uint8_t byte, Configs* next);
  bool EndsHere(const Config& config) const;
  bool Fits(ValueId value, uint8_t level) const;
  bool IsNext(const ObjectShape& object, const Config& config, uint32_t property) const;
  bool TakesOthers(const ObjectShape& object, const Config& config) const;
  bool HasNext(const ObjectShape& object, const Config& config, SortedTexts::Range among) const;
  bool TakesMore(const ArrayShape& array, const Config& config) const;

  const std::shared_ptr<const Grammar> grammar_;
  const SortedTexts prefix_;
  std::vector<Config> below_;
  std::unordered_map<Config, uint32_t, ConfigHash> numbers_;
};

}  // namespace moraine
