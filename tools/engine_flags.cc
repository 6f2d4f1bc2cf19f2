#include "tools/engine_flags.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "policies/replay.h"
#include "tools/load_trace.h"
#include "tools/progress_bar.h"

namespace moraine::tools {
namespace {

constexpr int32_t kServedSequences = 4;

// Policy keys have ranges that fit.
std::optional<int> Narrow(const std::optional<int64_t>& value) {
  return value ? std::optional<int>(static_cast<int>(*value)) : std::nullopt;
}

}  // namespace

void AddEngineFlags(CLI::App& command, EngineFlags* flags) {
  command.add_option("MODEL", flags->model, "Folder of a checkpoint in Hugging Face layout")->required();
  AddPolicyFlags(command, &flags->policy);
}

Result<EngineOptions> MakeEngineOptions(const EngineFlags& flags) {
  ResolvedPolicy resolved;
  return MakeEngineOptions(flags, &resolved);
}

Result<EngineOptions> MakeEngineOptions(const EngineFlags& flags, ResolvedPolicy* out) {
  MORAINE_ASSIGN_OR_RETURN(*out,
                           ResolveFlags(flags.policy, [](const char* name) { return std::getenv(name); }));
  const ResolvedPolicy& resolved = *out;
  fmt::print(stderr, "{}", DescribePolicy(resolved));
  for (const std::string& notice : resolved.notices) fmt::print(stderr, "moraine: {}\n", notice);
  EngineOptions options;
  options.progress = ProgressBar("loading");
  ApplyPolicy(resolved.policy, &options);
  MORAINE_RETURN_IF_ERROR(ApplyProfile(resolved.policy, &options));
  if (flags.serves) {
    options.sequences = Narrow(resolved.policy.context.slots).value_or(kServedSequences);
    options.disk_prefix = resolved.policy.serve.prefix_disk.value_or(0) > 0;
  }
  return options;
}

Status ApplyProfile(const Policy& policy, EngineOptions* options) {
  if (!policy.cache.profile) return {};
  const auto trace = LoadTrace(*policy.cache.profile);
  if (!trace.has_value()) return Fail(trace.error(), "cache.profile");
  options->experts.eviction.profile = CountUses(trace->routing);
  return {};
}

PrefetchOptions PrefetchOf(const Policy::Prefetch& prefetch) {
  PrefetchOptions options;
  if (prefetch.mode == "next-gate") options.mode = PrefetchMode::kNextGate;
  options.width = Narrow(prefetch.width).value_or(options.width);
  options.least_useful = prefetch.min_useful.value_or(options.least_useful);
  return options;
}

void ApplyPolicy(const Policy& policy, EngineOptions* options) {
  options->context = policy.context.tokens.value_or(options->context);
  if (policy.context.kv_type)
    options->kv_type = ParseKvType(*policy.context.kv_type).value_or(options->kv_type);
  if (policy.prefill.chunk) options->prefill_chunk = static_cast<int32_t>(*policy.prefill.chunk);
  if (policy.cpu.threads) options->threads = static_cast<int>(*policy.cpu.threads);
  options->switch_over = Narrow(policy.cpu.switch_over).value_or(options->switch_over);
  options->isa = policy.cpu.isa.value_or(options->isa);
  options->f32_activations = policy.cpu.activations == "f32";
  options->ram = policy.memory.ram;
  options->margin = policy.memory.margin;

  ExpertOptions& experts = options->experts;
  experts.slots = policy.cache.slots;
  experts.staging = Narrow(policy.cache.staging);
  experts.floor = Narrow(policy.cache.floor_ram);
  experts.second_touch = policy.cache.second_touch.value_or(false);
  experts.eviction = EvictionOf(policy.cache);
  experts.prefetch = PrefetchOf(policy.prefetch);

  StreamerOptions& streamer = experts.streamer;
  if (policy.io.backend == "uring") streamer.backend = StreamBackendKind::kUring;
  if (policy.io.backend == "pread") streamer.backend = StreamBackendKind::kPread;
  streamer.depth = Narrow(policy.io.depth).value_or(streamer.depth);
  streamer.background_depth = std::min(streamer.background_depth, streamer.depth);
  streamer.chunk_bytes = policy.io.chunk.value_or(streamer.chunk_bytes);
  streamer.direct = policy.io.direct.value_or(streamer.direct);
  streamer.retries = Narrow(policy.io.retry).value_or(streamer.retries);
  if (policy.io.stall_timeout) {
    streamer.stall_timeout = std::chrono::milliseconds(static_cast<int64_t>(1000 * *policy.io.stall_timeout));
  }
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
