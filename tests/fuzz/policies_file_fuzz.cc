// Any text -> a policy. What is accepted reads back the same from what PolicyText writes; what is refused is
// refused in one line that says where.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "policies/policy_file.h"
#include "policies/policy_resolve.h"

namespace {

void Expect(bool condition, const char* promise) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

void ExpectUsageLine(const moraine::Error& error) {
  Expect(error.kind == moraine::ErrorKind::kUsage, "a policy that cannot be is a usage error");
  Expect(!error.message.empty() && error.message.size() < 2000, "messages are short");
  Expect(std::none_of(error.message.begin(), error.message.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }),
         "messages are one line");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto layer = moraine::ParsePolicy({reinterpret_cast<const char*>(data), size}, "p");
  if (!layer.has_value()) {
    ExpectUsageLine(layer.error());
    Expect(layer.error().message.starts_with("p:"), "messages say where");
    return 0;
  }
  const auto again = moraine::ParsePolicy(moraine::PolicyText(*layer), "q");
  Expect(again.has_value(), "what is written can be read");
  Expect(again->settings.size() == layer->settings.size(), "no setting is lost");
  for (const moraine::PolicySetting& setting : layer->settings) {
    const moraine::PolicySetting* same = again->Find(*setting.key);
    Expect(same != nullptr && same->value == setting.value, "values read back the same");
  }
  Expect(again->place == layer->place && again->figures == layer->figures,
         "rules and figures read back the same");
  const auto resolved = moraine::ResolvePolicy({.file = *layer});
  if (!resolved.has_value()) ExpectUsageLine(resolved.error());
  return 0;
}
