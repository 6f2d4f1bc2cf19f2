// A JSON number, byte by byte, of bounded length.
#pragma once

#include <cstdint>

namespace moraine {

enum class NumberPhase : uint8_t {
  kSign,
  kZero,
  kDigits,
  kPoint,
  kFraction,
  kExponent,
  kExponentSign,
  kExponentDigits,
};

struct NumberState {
  NumberPhase phase = NumberPhase::kSign;
  uint8_t length = 0;  // bytes of the part it stands in, a sign with its digits
};

/// At most 19 bytes before the point (so that whole numbers fit 64 bits), 20 digits behind it, 2 of exponent
/// (so that none is infinite).
bool BeginNumber(uint8_t byte, NumberState* state);
/// False: `byte` does not go on with the number. `whole`: no fraction and no exponent.
bool StepNumber(uint8_t byte, bool whole, NumberState* state);
/// Whether what has come is a number.
bool NumberMayEnd(NumberPhase phase);

}  // namespace moraine
