// Who may talk to the server: key, Host and Origin. Pure functions over the headers of one request.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moraine {

struct AccessRules {
  std::string key;                      // empty: none is asked for
  std::vector<std::string> hosts;       // names besides localhost, 127.0.0.1 and [::1] that Host may say
  std::vector<std::string> origins;     // web pages that may ask ("https://chat.example"); compared whole
  std::vector<std::string> open_paths;  // no key needed
  bool own_page = false;                // a page served here may ask: one whose origin is http:// and Host
};

/// What decides, of one request.
struct AccessFacts {
  bool check_host = false;  // it came over loopback TCP, where a web page may have rebound its name
  std::string_view method;
  std::string_view path;
  std::optional<std::string_view> host;
  std::optional<std::string_view> origin;
  std::string_view authorization;  // empty: absent
  std::string_view api_key;        // of X-Api-Key
};

struct AccessRefusal {
  int status;  // 401, 403
  const char* code;
  const char* message;
};

/// Empty: go on.
std::optional<AccessRefusal> CheckAccess(const AccessRules& rules, const AccessFacts& facts);

/// True if both are the same; the time it takes does not depend on where they differ.
bool SameSecret(std::string_view a, std::string_view b);

}  // namespace moraine
