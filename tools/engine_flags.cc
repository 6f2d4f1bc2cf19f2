#include "tools/engine_flags.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "tools/progress_bar.h"

namespace moraine::tools {
namespace {

struct Unit {
  const char* name;
  double bytes;
};
constexpr std::array kUnits = {Unit{"B", 1},        Unit{"kB", 1e3},     Unit{"MB", 1e6},
                               Unit{"GB", 1e9},     Unit{"TB", 1e12},    Unit{"KiB", 0x1p10},
                               Unit{"MiB", 0x1p20}, Unit{"GiB", 0x1p30}, Unit{"TiB", 0x1p40}};

}  // namespace

void AddEngineFlags(CLI::App& command, EngineFlags* flags) {
  command.add_option("MODEL", flags->model, "Folder of a checkpoint in Hugging Face layout")->required();
  command.add_option("--ctx", flags->ctx, "Context in tokens (default: the model's, at most 8192)")
      ->envname("MORAINE_CTX");
  command.add_option("--ram", flags->ram, "Ceiling on memory, e.g. 64GiB (default: what is available)")
      ->envname("MORAINE_RAM");
  command.add_option("--threads", flags->threads, "Worker threads (default: one per usable CPU)")
      ->envname("MORAINE_THREADS");
  command
      .add_option("--isa", flags->isa, "Kernels: auto, amx, avx512-vbmi, avx512-vnni, avx512, avx2, scalar")
      ->envname("MORAINE_ISA");
  command
      .add_option("--switch-over", flags->switch_over,
                  "Rows from which on products go by tiles (default: measured, by format)")
      ->check(CLI::Range(1, 1 << 20))
      ->envname("MORAINE_SWITCH_OVER");
  command
      .add_option("--activations", flags->activations,
                  "auto, or f32: no product rounds its input to int8 or bf16")
      ->check(CLI::IsMember({"auto", "f32"}))
      ->envname("MORAINE_ACTIVATIONS");
  command.add_option("--kv-type", flags->kv_type, "KV cache: bf16, fp8, f32")
      ->envname("MORAINE_KV_TYPE")
      ->capture_default_str();
}

Result<EngineOptions> MakeEngineOptions(const EngineFlags& flags) {
  EngineOptions options{.context = flags.ctx,
                        .threads = flags.threads,
                        .switch_over = flags.switch_over,
                        .isa = flags.isa,
                        .f32_activations = flags.activations == "f32",
                        .progress = ProgressBar("loading")};
  const auto kv_type = ParseKvType(flags.kv_type);
  if (!kv_type)
    return Fail(ErrorKind::kUsage,
                fmt::format("--kv-type \"{}\" is unknown; one of bf16, fp8, f32", flags.kv_type));
  options.kv_type = *kv_type;
  if (!flags.ram.empty()) {
    MORAINE_ASSIGN_OR_RETURN(const int64_t ram, ParseSize(flags.ram, "--ram"));
    options.ram = ram;
  }
  return options;
}

Result<int64_t> ParseSize(const std::string& text, const std::string& flag) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number) || number < 0) {
    return Fail(ErrorKind::kUsage, fmt::format("{} is \"{}\"; expected a size such as 8GiB", flag, text));
  }
  for (const Unit& unit : kUnits) {
    if (std::string_view(rest, end) != unit.name) continue;
    const double bytes = number * unit.bytes;
    if (bytes >= 0x1p63)
      return Fail(ErrorKind::kUsage, fmt::format("{} is {}: more than any machine has", flag, text));
    return static_cast<int64_t>(bytes);
  }
  return Fail(
      ErrorKind::kUsage,
      fmt::format("{} is \"{}\"; expected a unit: B, kB, MB, GB, TB, KiB, MiB, GiB or TiB", flag, text));
}

Result<std::vector<int32_t>> ParseIds(const std::string& text, const std::string& what) {
  std::vector<int32_t> ids;
  const char* at = text.data();
  const char* end = at + text.size();
  const auto separates = [](char c) { return c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (at != end) {
    if (separates(*at)) {
      ++at;
      continue;
    }
    int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || id < 0 || (next != end && !separates(*next))) {
      const auto shown = std::string(at, std::min<size_t>(static_cast<size_t>(end - at), 20));
      return Fail(ErrorKind::kUsage, fmt::format("{}: at byte {}: expected decimal token ids, found \"{}\"",
                                                 what, at - text.data(), shown));
    }
    ids.push_back(id);
    at = next;
  }
  if (ids.empty()) return Fail(ErrorKind::kUsage, fmt::format("{}: no token ids", what));
  return ids;
}

Result<std::vector<int32_t>> ReadIdsFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf()))
    return Fail(ErrorKind::kUsage, fmt::format("--ids-file {}: cannot be read or is empty", path));
  return ParseIds(text.str(), path);
}

}  // namespace moraine::tools
