#include "runtime/server/ui/page.h"

#include <fmt/core.h>

#include <cstdint>

#include "runtime/core/check.h"
#include "runtime/core/sha256.h"

namespace moraine {
namespace {

std::string_view Between(std::string_view text, std::string_view before, std::string_view after) {
  const size_t begin = text.find(before);
  const size_t end = text.find(after, begin == text.npos ? text.npos : begin);
  MORAINE_CHECK(begin != text.npos && end != text.npos);
  return text.substr(begin + before.size(), end - begin - before.size());
}

int Digit(char hex) { return hex <= '9' ? hex - '0' : hex - 'a' + 10; }

// Base64 of the bytes that `hex` spells; a multiple of three is not needed: `=` fills up.
std::string Base64OfHex(const std::string& hex) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int held = 0;
  for (const char c : hex) {
    bits = bits << 4 | static_cast<uint32_t>(Digit(c));
    for (held += 4; held >= 6;) {
      held -= 6;
      out += kLetters[bits >> held & 63];
    }
  }
  if (held > 0) out += kLetters[bits << (6 - held) & 63];
  while (out.size() % 4 != 0) out += '=';
  return out;
}

std::string HashOf(std::string_view block) { return "'sha256-" + Base64OfHex(Sha256Hex(block)) + "'"; }

}  // namespace

std::string PagePolicy(std::string_view html) {
  return fmt::format(
      "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; base-uri 'none'; "
      "form-action 'none'; frame-ancestors 'none'",
      HashOf(Between(html, "<style>", "</style>")), HashOf(Between(html, "<script>", "</script>")));
}

HttpResponse PageResponse() {
  static const std::string policy = PagePolicy(kPageHtml);
  return {.body = std::string(kPageHtml),
          .content_type = "text/html; charset=utf-8",
          .headers = {{"Content-Security-Policy", policy},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"}}};
}

}  // namespace moraine
