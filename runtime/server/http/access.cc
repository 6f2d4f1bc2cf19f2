#include "runtime/server/http/access.h"

#include <strings.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "runtime/core/sha256.h"

namespace moraine {
namespace {

bool SameWord(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

// "host:port" and "[::1]:port" without the port.
std::string_view HostName(std::string_view host) {
  const size_t bracket = host.rfind(']');
  const size_t colon = host.rfind(':');
  if (colon == host.npos || (bracket != host.npos && colon < bracket)) return host;
  return host.substr(0, colon);
}

bool HostAllowed(const AccessRules& rules, std::string_view host) {
  const std::string_view name = HostName(host);
  for (const std::string_view known : {"localhost", "127.0.0.1", "[::1]"}) {
    if (SameWord(name, known)) return true;
  }
  return std::ranges::any_of(rules.hosts, [&](const std::string& known) { return SameWord(name, known); });
}

// A page of this server. That Host is one of its names has been checked where a name could be rebound to it.
bool IsOwnPage(const AccessRules& rules, const AccessFacts& facts) {
  constexpr std::string_view kScheme = "http://";
  return rules.own_page && facts.host && facts.origin->substr(0, kScheme.size()) == kScheme &&
         SameWord(facts.origin->substr(kScheme.size()), *facts.host);
}

std::string_view BearerOf(std::string_view authorization) {
  constexpr std::string_view kScheme = "Bearer ";
  if (authorization.size() < kScheme.size() || !SameWord(authorization.substr(0, kScheme.size()), kScheme))
    return {};
  return authorization.substr(kScheme.size());
}

}  // namespace

bool SameSecret(std::string_view a, std::string_view b) {
  // Digests have one length and tell nothing of a common prefix.
  const std::string left = Sha256Hex(a);
  const std::string right = Sha256Hex(b);
  unsigned differs = 0;
  for (size_t i = 0; i < left.size(); ++i) differs |= static_cast<uint8_t>(left[i] ^ right[i]);
  return differs == 0;
}

std::optional<AccessRefusal> CheckAccess(const AccessRules& rules, const AccessFacts& facts) {
  if (facts.check_host && (!facts.host || !HostAllowed(rules, *facts.host))) {
    return AccessRefusal{403, "host_not_allowed",
                         "the Host header names none of this server's names; --allow-host adds one"};
  }
  if (facts.origin) {
    const bool listed = std::ranges::find(rules.origins, *facts.origin) != rules.origins.end();
    if (!listed && !IsOwnPage(rules, facts)) {
      return AccessRefusal{403, "origin_not_allowed",
                           "web pages may ask only from origins given by --allow-origin"};
    }
    // A browser asks first without the key it will send.
    if (facts.method == "OPTIONS") return std::nullopt;
  }
  if (rules.key.empty() || std::ranges::find(rules.open_paths, facts.path) != rules.open_paths.end())
    return std::nullopt;
  const std::string_view bearer = BearerOf(facts.authorization);
  if (SameSecret(bearer.empty() ? facts.api_key : bearer, rules.key)) return std::nullopt;
  return AccessRefusal{401, "invalid_api_key",
                       "this server asks for its API key: send \"Authorization: Bearer KEY\""};
}

}  // namespace moraine
