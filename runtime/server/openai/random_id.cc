#include "runtime/server/openai/random_id.h"

#include <random>

namespace moraine {

std::string RandomId(std::string_view prefix) {
  constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuv";
  constexpr int kBits = 5;
  constexpr int kLettersEach = 6;  // of the 32 bits that the source gives at once
  std::random_device source;       // libstdc++: the processor's generator or the kernel's
  std::string id(prefix);
  for (int word = 0; word < 4; ++word) {
    unsigned bits = source();
    for (int i = 0; i < kLettersEach; ++i, bits >>= kBits) id += kLetters[bits & 31];
  }
  return id;
}

}  // namespace moraine
