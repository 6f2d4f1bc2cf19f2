// The keys of a policy: one row each with kind, range, meaning, and what this version lacks for it. Files,
// flags, the environment, reports and documentation all read this list.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "policies/policy.h"
#include "runtime/core/result.h"

namespace moraine {

enum class PolicyKind : uint8_t {
  kSize,    // "8GiB" -> bytes
  kTime,    // "30s" -> seconds
  kCount,   // a whole number
  kNumber,  // any number
  kFlag,    // true, false
  kWord,    // one of PolicyKey::words
  kText,    // up to kMostPolicyText bytes
};
constexpr size_t kMostPolicyText = 1024;

/// A checked value; monostate is "auto": what the program would do by itself.
using PolicyValue = std::variant<std::monostate, int64_t, double, bool, std::string>;
/// Where it belongs in a Policy.
using PolicyField = std::variant<std::optional<int64_t>*, std::optional<double>*, std::optional<bool>*,
                                 std::optional<std::string>*>;

/// What becomes of a key that needs something this version lacks, at any other value than `neutral`.
enum class PolicyGap : uint8_t {
  kNone,    // it works
  kNotice,  // the run goes on and says that the key changes nothing
  kRefuse,  // the run would not be what was asked for
};

struct PolicyKey {
  std::string_view table;
  std::string_view key;
  PolicyKind kind;
  double least = 0;  // of sizes, times and numbers
  double most = 0;
  std::vector<std::string_view> words;
  std::string_view meaning;  // and the default
  PolicyGap gap = PolicyGap::kNone;
  std::string_view lacks;    // with a gap: the feature
  std::string_view neutral;  // with a gap: a value that needs nothing, as text
  PolicyField (*field)(Policy&) = nullptr;

  /// "cache.policy".
  std::string Name() const;
};

/// By table in the file's order.
std::span<const PolicyKey> PolicyKeys();
/// The tables, in order: those of the keys, and "place" and "measured.figures".
std::span<const std::string_view> PolicyTables();

/// The row of "cache.policy"; kUsage with the nearest name.
Result<const PolicyKey*> FindPolicyKey(std::string_view name);

/// A value as a TOML file gives it, checked: kUsage says what was found and what is expected. "auto" is
/// understood for every key but texts.
Result<PolicyValue> CheckPolicyValue(const PolicyKey& key,
                                     const std::variant<int64_t, double, bool, std::string>& value);
/// The same from the text of a flag or of the environment.
Result<PolicyValue> ParsePolicyValue(const PolicyKey& key, std::string_view text);

/// As a file would say it: "8GiB" with its quotes, 16, true.
std::string FormatPolicyValue(const PolicyKey& key, const PolicyValue& value);

/// "; did you mean NAME?", or the known names when none is near.
std::string DidYouMean(std::string_view name, std::span<const std::string_view> known);

}  // namespace moraine
