#include "tools/bench/fio.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tools/interrupt.h"

namespace moraine::tools {
namespace {

// What the command prints on stdout, and whether it ended well.
std::pair<std::string, bool> Capture(const std::string& command) {
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return {"", false};
  std::string text;
  std::array<char, 4096> part{};
  for (size_t got = 0; (got = std::fread(part.data(), 1, part.size(), pipe)) > 0;)
    text.append(part.data(), got);
  return {text, ::pclose(pipe) == 0};
}

// For the shell and for fio, which separates names by ':'.
std::string Quoted(const std::string& path) {
  std::string quoted = "'";
  for (const char c : path) {
    if (c == '\'') {
      quoted += "'\\''";
    } else if (c == ':') {
      quoted += "\\:";
    } else {
      quoted += c;
    }
  }
  quoted += '\'';
  return quoted;
}

}  // namespace

bool HasFio() { return std::system("command -v fio >/dev/null 2>&1") == 0; }

Result<FioReading> RunFio(const std::vector<File>& files, const FioShape& shape, double ramp_seconds,
                          double seconds) {
  std::string names;
  for (const File& file : files) names += fmt::format("{}{}", names.empty() ? "" : ":", Quoted(file.path()));
  // Whole milliseconds: fio takes no fraction of a second.
  const std::string command = fmt::format(
      "fio --name=r --filename={} --rw=randread:{} --bs={}k --iodepth={} --direct=1 --ioengine=io_uring "
      "--registerfiles=1 --time_based --ramp_time={}ms --runtime={}ms --norandommap --randrepeat=0 --thread "
      "--output-format=json 2>&1",
      names, std::max<int64_t>(1, shape.run_bytes / (shape.block_kib << 10)), shape.block_kib, shape.depth,
      static_cast<int64_t>(1000 * ramp_seconds), static_cast<int64_t>(1000 * seconds));
  const auto [text, good] = Capture(command);
  if (Interrupted()) return Fail(ErrorKind::kInterrupted, "interrupted");
  const size_t begin = text.find('{');
  const auto report =
      begin == std::string::npos
          ? nlohmann::json()
          : nlohmann::json::parse(text.begin() + static_cast<int64_t>(begin), text.end(), nullptr, false);
  if (!good || !report.is_object() || !report.contains("jobs"))
    return Fail(ErrorKind::kIo, fmt::format("fio failed: {}", text.substr(0, 300)));
  const auto& job = report["jobs"][0];
  return FioReading{.bytes_s = job["read"]["bw_bytes"].get<double>(),
                    .core = (job["usr_cpu"].get<double>() + job["sys_cpu"].get<double>()) / 100};
}

}  // namespace moraine::tools
