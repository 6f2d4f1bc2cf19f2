#include "runtime/grammar/json_text.h"

namespace moraine {
namespace {

using enum TextPhase;

TextPhase If(bool allowed, TextPhase phase) { return allowed ? phase : kRefused; }

bool Within(uint8_t byte, uint8_t least, uint8_t most) { return byte >= least && byte <= most; }

bool IsHex(uint8_t byte) {
  return Within(byte, '0', '9') || Within(byte, 'a', 'f') || Within(byte, 'A', 'F');
}

TextPhase Begin(uint8_t byte) {
  if (byte == '"' || byte < 0x20) return kRefused;
  if (byte == '\\') return kEscape;
  if (byte < 0x80) return kBetween;
  if (byte < 0xC2 || byte > 0xF4) return kRefused;
  if (byte < 0xE0) return kOneLeft;
  if (byte == 0xE0) return kAfterE0;
  if (byte == 0xED) return kAfterED;
  if (byte < 0xF0) return kTwoLeft;
  if (byte == 0xF0) return kAfterF0;
  if (byte == 0xF4) return kAfterF4;
  return kThreeLeft;
}

TextPhase Escape(uint8_t byte) {
  switch (byte) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
      return kBetween;
    case 'u':
      return kHex1;
    default:
      return kRefused;
  }
}

}  // namespace

TextPhase StepText(TextPhase phase, uint8_t byte) {
  switch (phase) {
    case kBetween:
      return Begin(byte);
    case kOneLeft:
      return If(Within(byte, 0x80, 0xBF), kBetween);
    case kTwoLeft:
      return If(Within(byte, 0x80, 0xBF), kOneLeft);
    case kThreeLeft:
      return If(Within(byte, 0x80, 0xBF), kTwoLeft);
    case kAfterE0:
      return If(Within(byte, 0xA0, 0xBF), kOneLeft);
    case kAfterED:
      return If(Within(byte, 0x80, 0x9F), kOneLeft);
    case kAfterF0:
      return If(Within(byte, 0x90, 0xBF), kTwoLeft);
    case kAfterF4:
      return If(Within(byte, 0x80, 0x8F), kTwoLeft);
    case kEscape:
      return Escape(byte);
    case kHex1:
      return byte == 'd' || byte == 'D' ? kHex2AfterD : If(IsHex(byte), kHex2);
    case kHex2:
      return If(IsHex(byte), kHex3);
    case kHex2AfterD:
      // D8..DB is the first half of a pair; DC..DF the second, which cannot come first.
      if (Within(byte, '0', '7')) return kHex3;
      return If(byte == '8' || byte == '9' || (byte | 0x20) == 'a' || (byte | 0x20) == 'b', kHigh3);
    case kHex3:
      return If(IsHex(byte), kHex4);
    case kHex4:
      return If(IsHex(byte), kBetween);
    case kHigh3:
      return If(IsHex(byte), kHigh4);
    case kHigh4:
      return If(IsHex(byte), kLowSlash);
    case kLowSlash:
      return If(byte == '\\', kLowU);
    case kLowU:
      return If(byte == 'u', kLow1);
    case kLow1:
      return If(byte == 'd' || byte == 'D', kLow2);
    case kLow2:
      return If(Within(static_cast<uint8_t>(byte | 0x20), 'c', 'f'), kLow3);
    case kLow3:
      return If(IsHex(byte), kLow4);
    case kLow4:
      return If(IsHex(byte), kBetween);
    case kRefused:
      return kRefused;
  }
  return kRefused;
}

}  // namespace moraine
