#include "runtime/grammar/json_number.h"

namespace moraine {
namespace {

using enum NumberPhase;

constexpr uint8_t kMostWhole = 19;
constexpr uint8_t kMostFraction = 20;
constexpr uint8_t kMostExponent = 2;

bool IsDigit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

bool Digit(uint8_t byte, uint8_t most, NumberPhase phase, NumberState* state) {
  if (!IsDigit(byte) || state->length >= most) return false;
  *state = {phase, static_cast<uint8_t>(state->length + 1)};
  return true;
}

}  // namespace

bool BeginNumber(uint8_t byte, NumberState* state) {
  if (byte != '-' && !IsDigit(byte)) return false;
  *state = {byte == '-' ? kSign : byte == '0' ? kZero : kDigits, 1};
  return true;
}

bool StepNumber(uint8_t byte, bool whole, NumberState* state) {
  const bool goes_on = !whole && (byte == '.' || (byte | 0x20) == 'e');
  const NumberPhase part = byte == '.' ? kPoint : kExponent;
  switch (state->phase) {
    case kSign:
      return Digit(byte, kMostWhole, byte == '0' ? kZero : kDigits, state);
    case kZero:
    case kDigits:
      if (goes_on) {
        *state = {part, 0};
        return true;
      }
      return state->phase == kDigits && Digit(byte, kMostWhole, kDigits, state);
    case kPoint:
    case kFraction:
      if (goes_on && state->phase == kFraction && part == kExponent) {
        *state = {kExponent, 0};
        return true;
      }
      return Digit(byte, kMostFraction, kFraction, state);
    case kExponent:
      if (byte == '+' || byte == '-') {
        *state = {kExponentSign, 0};
        return true;
      }
      [[fallthrough]];
    case kExponentSign:
    case kExponentDigits:
      return Digit(byte, kMostExponent, kExponentDigits, state);
  }
  return false;
}

bool NumberMayEnd(NumberPhase phase) {
  return phase == kZero || phase == kDigits || phase == kFraction || phase == kExponentDigits;
}

}  // namespace moraine
