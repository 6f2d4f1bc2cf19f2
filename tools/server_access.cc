#include "tools/server_access.h"

#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "runtime/core/file.h"

namespace moraine::tools {
namespace {

constexpr int64_t kMostKeyBytes = 4096;

}  // namespace

std::string DefaultSocket() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && runtime[0] == '/') return fmt::format("{}/moraine/serve.sock", runtime);
  return fmt::format("/tmp/moraine-{}/serve.sock", ::geteuid());
}

Result<std::string> ApiKey(const std::string& file) {
  std::string key;
  if (!file.empty()) {
    auto text = ReadText(file, kMostKeyBytes);
    if (!text.has_value()) return Fail(ErrorKind::kUsage, "--api-key-file: " + text.error().message);
    key = std::move(*text);
    struct stat found = {};
    if (::stat(file.c_str(), &found) == 0 && (found.st_mode & (S_IRGRP | S_IROTH)) != 0)
      fmt::print(stderr, "moraine: {}: others can read the key; chmod 600 it\n", file);
  } else if (const char* variable = std::getenv("MORAINE_API_KEY")) {
    key = variable;
  }
  const auto is_space = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!key.empty() && is_space(key.back())) key.pop_back();
  while (!key.empty() && is_space(key.front())) key.erase(0, 1);
  if (key.empty() && !file.empty())
    return Fail(ErrorKind::kUsage, fmt::format("--api-key-file {}: there is no key in it", file));
  for (const char c : key) {
    if (c <= ' ' || c > '~') return Fail(ErrorKind::kUsage, "the API key holds other than printable ASCII");
  }
  return key;
}

}  // namespace moraine::tools
