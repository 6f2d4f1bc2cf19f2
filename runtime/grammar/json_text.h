// The inside of a JSON string, byte by byte: UTF-8 and escapes that mean whole code points.
#pragma once

#include <cstdint>

namespace moraine {

/// Where in a code point of a string one stands.
enum class TextPhase : uint8_t {
  kBetween,  // the string may end here
  // Well-formed UTF-8 (Unicode table 3-7): bytes that are left, and what the second may be.
  kOneLeft,
  kTwoLeft,
  kThreeLeft,
  kAfterE0,
  kAfterED,
  kAfterF0,
  kAfterF4,
  // Behind a backslash. Half of a surrogate pair comes with its other half or not at all.
  kEscape,
  kHex1,
  kHex2,
  kHex2AfterD,
  kHex3,
  kHex4,
  kHigh3,
  kHigh4,
  kLowSlash,
  kLowU,
  kLow1,
  kLow2,
  kLow3,
  kLow4,
  kRefused,
};

/// The phase after `byte`. The quote that ends the string is not of its inside: kRefused.
TextPhase StepText(TextPhase phase, uint8_t byte);

}  // namespace moraine
