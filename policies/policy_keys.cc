#include "policies/policy_keys.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "policies/nearest_name.h"
#include "policies/units.h"
#include "runtime/core/printable.h"

namespace moraine {
namespace {

using Raw = std::variant<int64_t, double, bool, std::string>;

constexpr double kAnySize = 0x1p62;
constexpr double kAnyCount = 2147483647;

#define FIELD(member) [](Policy& policy) -> PolicyField { return &policy.member; }

std::vector<PolicyKey> MakeKeys() {
  using K = PolicyKind;
  using G = PolicyGap;
  const auto eviction = EvictionNames();
  const std::vector<std::string_view> policies(eviction.begin(), eviction.end());
  const std::string_view kGpu = "a GPU";
  // One field a line would hide the table.
  // clang-format off
  return {
      {"memory", "ram", K::kSize, 0, kAnySize, {},
       "ceiling over everything in RAM (auto: what is available)",
       G::kNone, "", "", FIELD(memory.ram)},
      {"memory", "vram", K::kSize, 0, kAnySize, {},
       "the same of the GPU's memory",
       G::kRefuse, kGpu, "0B", FIELD(memory.vram)},
      {"memory", "margin", K::kSize, 0, kAnySize, {},
       "RAM left to others when memory.ram is auto",
       G::kNone, "", "", FIELD(memory.margin)},
      {"memory", "hugepages", K::kWord, 0, 0, {"on", "off"},
       "2 MiB pages for weights",
       G::kNotice, "huge pages of its own", "off", FIELD(memory.hugepages)},
      {"memory", "mlock", K::kFlag, 0, 0, {},
       "lock weights in RAM",
       G::kRefuse, "locking memory", "false", FIELD(memory.mlock)},

      {"context", "tokens", K::kCount, 1, kAnyCount, {},
       "positions a sequence (auto: the model's, at most 8192)",
       G::kNone, "", "", FIELD(context.tokens)},
      {"context", "kv_type", K::kWord, 0, 0, {"bf16", "fp8", "f32"},
       "how the KV cache is stored (auto: bf16)",
       G::kNone, "", "", FIELD(context.kv_type)},
      {"context", "slots", K::kCount, 1, 1024, {},
       "sequences at once of moraine serve (auto: 4)",
       G::kNone, "", "", FIELD(context.slots)},

      {"cache", "policy", K::kWord, 0, 0, policies,
       "which expert leaves first (auto: ewma)",
       G::kNone, "", "", FIELD(cache.policy)},
      {"cache", "slots", K::kCount, 0, kAnyCount, {},
       "experts in RAM (auto: as many as it holds)",
       G::kNone, "", "", FIELD(cache.slots)},
      {"cache", "half_life", K::kNumber, 1, 1e9, {},
       "tokens; of ewma's fast score (auto: 16)",
       G::kNone, "", "", FIELD(cache.half_life)},
      {"cache", "slow_half_life", K::kNumber, 1, 1e9, {},
       "tokens; of ewma's slow score (auto: 4096)",
       G::kNone, "", "", FIELD(cache.slow_half_life)},
      {"cache", "slow_weight", K::kNumber, 0, 100, {},
       "score = fast + slow_weight * slow (auto: 0.2)",
       G::kNone, "", "", FIELD(cache.slow_weight)},
      {"cache", "hysteresis", K::kNumber, 0, 100, {},
       "ewma: a newcomer must beat its victim by this share (auto: 0)",
       G::kNone, "", "", FIELD(cache.hysteresis)},
      {"cache", "floor_ram", K::kCount, 0, 4096, {},
       "experts in RAM that a layer never loses to other layers",
       G::kNone, "", "", FIELD(cache.floor_ram)},
      {"cache", "floor_vram", K::kCount, 0, 4096, {},
       "the same in VRAM",
       G::kRefuse, kGpu, "0", FIELD(cache.floor_vram)},
      {"cache", "second_touch", K::kFlag, 0, 0, {},
       "keep an expert from its second use on (auto: false)",
       G::kNone, "", "", FIELD(cache.second_touch)},
      {"cache", "staging", K::kCount, 1, 65536, {},
       "slots through which missing experts come",
       G::kNone, "", "", FIELD(cache.staging)},
      {"cache", "profile", K::kText, 0, 0, {},
       "a trace (moraine run --trace) whose uses policy pinned goes by",
       G::kNone, "", "", FIELD(cache.profile)},
      {"cache", "upload_budget", K::kCount, 0, 4096, {},
       "experts a token that may go from RAM to VRAM",
       G::kRefuse, kGpu, "0", FIELD(cache.upload_budget)},

      {"io", "backend", K::kWord, 0, 0, {"uring", "pread"},
       "how the drive is read (auto: io_uring where allowed)",
       G::kNone, "", "", FIELD(io.backend)},
      {"io", "depth", K::kCount, 1, 1024, {},
       "chunks under way on a drive (auto: 16)",
       G::kNone, "", "", FIELD(io.depth)},
      {"io", "chunk", K::kSize, 4096, 0x1p28, {},
       "bytes of a read, a multiple of 4KiB (auto: 1MiB)",
       G::kNone, "", "", FIELD(io.chunk)},
      {"io", "direct", K::kFlag, 0, 0, {},
       "past the page cache (auto: true)",
       G::kNone, "", "", FIELD(io.direct)},
      {"io", "retry", K::kCount, 0, 100, {},
       "of a read that failed (auto: 3)",
       G::kNone, "", "", FIELD(io.retry)},
      {"io", "stall_timeout", K::kTime, 0.1, 3600, {},
       "a drive silent for so long hangs (auto: 20s)",
       G::kNone, "", "", FIELD(io.stall_timeout)},

      {"cpu", "threads", K::kCount, 1, 1024, {},
       "workers (auto: one per usable CPU)",
       G::kNone, "", "", FIELD(cpu.threads)},
      {"cpu", "bind", K::kWord, 0, 0, {"cores", "none"},
       "pin workers (auto: cores)",
       G::kRefuse, "workers that are not pinned", "cores", FIELD(cpu.bind)},
      {"cpu", "isa", K::kWord, 0, 0, {"amx", "avx512-vbmi", "avx512-vnni", "avx512", "avx2", "scalar"},
       "best kernels allowed (auto: the CPU's)",
       G::kNone, "", "", FIELD(cpu.isa)},
      {"cpu", "activations", K::kWord, 0, 0, {"f32"},
       "f32: no product rounds its input to int8 or bf16",
       G::kNone, "", "", FIELD(cpu.activations)},
      {"cpu", "switch_over", K::kCount, 1, 1 << 20, {},
       "rows from which on products go by tiles (auto: measured, by format)",
       G::kNone, "", "", FIELD(cpu.switch_over)},

      {"prefill", "mode", K::kWord, 0, 0, {"cpu", "stream"},
       "where long prompts run",
       G::kRefuse, kGpu, "cpu", FIELD(prefill.mode)},
      {"prefill", "crossover", K::kCount, 1, kAnyCount, {},
       "rows from which mode stream pays",
       G::kRefuse, kGpu, "", FIELD(prefill.crossover)},
      {"prefill", "chunk", K::kCount, 1, 4096, {},
       "rows of the largest step (auto: 256)",
       G::kNone, "", "", FIELD(prefill.chunk)},

      {"prefetch", "mode", K::kWord, 0, 0, {"off", "next-gate"},
       "next-gate: guess with the next layer's router, read on idle drive time",
       G::kNone, "", "", FIELD(prefetch.mode)},
      {"prefetch", "width", K::kCount, 1, 256, {},
       "guesses a row (auto: the model's experts a token)",
       G::kNone, "", "", FIELD(prefetch.width)},
      {"prefetch", "min_useful", K::kNumber, 0, 1, {},
       "off below this share of useful reads (auto: 0.6)",
       G::kNone, "", "", FIELD(prefetch.min_useful)},

      {"serve", "prefix_disk", K::kSize, 0, kAnySize, {},
       "prompts kept on the drive for after a restart, at most so much (auto: 0B, none)",
       G::kNone, "", "", FIELD(serve.prefix_disk)},
      {"serve", "queue", K::kCount, 0, 100000, {},
       "requests that may wait (auto: 64)",
       G::kNone, "", "", FIELD(serve.queue)},
      {"serve", "grace", K::kTime, 0, 86400, {},
       "for answers under way when told to stop (auto: 10s)",
       G::kNone, "", "", FIELD(serve.grace)},
      {"serve", "temperature", K::kNumber, 0, 10, {},
       "of requests that name none (auto: generation_config.json's)",
       G::kNone, "", "", FIELD(serve.temperature)},
      {"serve", "top_p", K::kNumber, 0.001, 1, {},
       "of requests that name none (auto: generation_config.json's)",
       G::kNone, "", "", FIELD(serve.top_p)},

      {"speculation", "mode", K::kWord, 0, 0, {"off", "mtp"},
       "draft tokens with the MTP layer",
       G::kRefuse, "speculative decoding", "off", FIELD(speculation.mode)},
      {"speculation", "max_draft", K::kCount, 0, 8, {},
       "tokens drafted at once",
       G::kRefuse, "speculative decoding", "0", FIELD(speculation.max_draft)},

      {"lossy", "defer", K::kCount, 0, 256, {},
       "experts whose output joins one layer later",
       G::kRefuse, "deferral", "0", FIELD(lossy.defer)},
      {"lossy", "top_k", K::kCount, 0, 256, {},
       "experts a token; 0: the model's",
       G::kRefuse, "fewer experts", "0", FIELD(lossy.top_k)},
      {"lossy", "miss_drop", K::kNumber, 0, 1, {},
       "missing experts under this share of the gate are dropped",
       G::kRefuse, "dropping misses", "0", FIELD(lossy.miss_drop)},
      {"lossy", "route_margin", K::kNumber, 0, 1, {},
       "prefer experts that are there by so much",
       G::kRefuse, "cache-aware routing", "0", FIELD(lossy.route_margin)},
      {"lossy", "cold_format", K::kWord, 0, 0, {"stored", "int4-g64", "int8-g128"},
       "format of the coldest experts",
       G::kRefuse, "low-bit copies", "stored", FIELD(lossy.cold_format)},

      {"measured", "fingerprint", K::kText, 0, 0, {},
       "of the machine that was measured",
       G::kNone, "", "", FIELD(measured.fingerprint)},
      {"measured", "date", K::kText, 0, 0, {},
       "of the measurement",
       G::kNone, "", "", FIELD(measured.date)},
  };
  // clang-format on
}

#undef FIELD

tl::unexpected<Error> Expected(const PolicyKey& key, const std::string& found) {
  std::string expected;
  switch (key.kind) {
    case PolicyKind::kSize:
      expected = fmt::format("a size of {} to {}", FormatBytes(static_cast<int64_t>(key.least)),
                             FormatBytes(static_cast<int64_t>(key.most)));
      break;
    case PolicyKind::kTime:
      expected = fmt::format("a time of {} to {}", FormatSeconds(key.least), FormatSeconds(key.most));
      break;
    case PolicyKind::kCount:
      expected = fmt::format("a whole number, {:.0f} to {:.0f}", key.least, key.most);
      break;
    case PolicyKind::kNumber:
      expected = fmt::format("a number, {} to {}", key.least, key.most);
      break;
    case PolicyKind::kFlag:
      expected = "true or false";
      break;
    case PolicyKind::kWord:
      expected = fmt::format("one of auto, {}", fmt::join(key.words, ", "));
      break;
    case PolicyKind::kText:
      expected = fmt::format("a text of 1 to {} bytes", kMostPolicyText);
      break;
  }
  return Fail(ErrorKind::kUsage, fmt::format("{} is {}; expected {}", key.Name(), found, expected));
}

bool InRange(const PolicyKey& key, double value) { return value >= key.least && value <= key.most; }

Result<PolicyValue> CheckText(const PolicyKey& key, const std::string& text) {
  const std::string found = fmt::format("\"{}\"", Printable(text, 60));
  switch (key.kind) {
    case PolicyKind::kSize: {
      const auto bytes = ParseBytes(text);
      if (!bytes) return Fail(ErrorKind::kUsage, fmt::format("{} is {}", key.Name(), bytes.error().message));
      if (!InRange(key, static_cast<double>(*bytes))) return Expected(key, found);
      if (key.least >= 4096 && *bytes % 4096 != 0)
        return Fail(ErrorKind::kUsage,
                    fmt::format("{} is {}; expected a multiple of 4KiB", key.Name(), found));
      return PolicyValue(*bytes);
    }
    case PolicyKind::kTime: {
      const auto seconds = ParseSeconds(text);
      if (!seconds)
        return Fail(ErrorKind::kUsage, fmt::format("{} is {}", key.Name(), seconds.error().message));
      if (!InRange(key, *seconds)) return Expected(key, found);
      return PolicyValue(*seconds);
    }
    case PolicyKind::kWord:
      if (std::find(key.words.begin(), key.words.end(), text) == key.words.end()) return Expected(key, found);
      return PolicyValue(text);
    case PolicyKind::kText:
      if (text.empty() || text.size() > kMostPolicyText) return Expected(key, found);
      return PolicyValue(text);
    default:
      return Expected(key, found);
  }
}

}  // namespace

std::string_view Name(Tier tier) {
  switch (tier) {
    case Tier::kVram:
      return "vram";
    case Tier::kRam:
      return "ram";
    case Tier::kNvme:
      return "nvme";
  }
  return "";
}

EvictionOptions EvictionOf(const Policy::Cache& cache) {
  EvictionOptions options;
  options.policy = cache.policy.value_or(options.policy);
  options.half_life = cache.half_life.value_or(options.half_life);
  options.slow_half_life = cache.slow_half_life.value_or(options.slow_half_life);
  options.slow_weight = cache.slow_weight.value_or(options.slow_weight);
  options.hysteresis = cache.hysteresis.value_or(options.hysteresis);
  return options;
}

std::string PolicyKey::Name() const { return fmt::format("{}.{}", table, key); }

std::span<const PolicyKey> PolicyKeys() {
  static const std::vector<PolicyKey> keys = MakeKeys();
  return keys;
}

std::span<const std::string_view> PolicyTables() {
  static const std::vector<std::string_view> tables = [] {
    std::vector<std::string_view> names;
    for (const PolicyKey& key : PolicyKeys())
      if (std::find(names.begin(), names.end(), key.table) == names.end()) names.push_back(key.table);
    names.emplace_back("place");
    names.emplace_back("measured.figures");
    return names;
  }();
  return tables;
}

Result<const PolicyKey*> FindPolicyKey(std::string_view name) {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const PolicyKey& key : PolicyKeys()) all.push_back(key.Name());
    return all;
  }();
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return &PolicyKeys()[i];
  const std::vector<std::string_view> known(names.begin(), names.end());
  const std::string_view nearest = NearestName(name, known);
  return Fail(ErrorKind::kUsage, fmt::format("\"{}\" is no key of a policy{}", Printable(name, 60),
                                             nearest.empty() ? "; moraine policy keys lists them"
                                                             : fmt::format("; did you mean {}?", nearest)));
}

Result<PolicyValue> CheckPolicyValue(const PolicyKey& key, const Raw& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    if (*text == "auto" && key.kind != PolicyKind::kText) return PolicyValue();
    return CheckText(key, *text);
  }
  if (const auto* flag = std::get_if<bool>(&value)) {
    if (key.kind == PolicyKind::kFlag) return PolicyValue(*flag);
    return Expected(key, *flag ? "true" : "false");
  }
  const auto* whole = std::get_if<int64_t>(&value);
  const double number = whole != nullptr ? static_cast<double>(*whole) : std::get<double>(value);
  const std::string found = whole != nullptr ? fmt::format("{}", *whole) : fmt::format("{}", number);
  if (key.kind == PolicyKind::kSize || key.kind == PolicyKind::kTime) {
    return Fail(ErrorKind::kUsage, fmt::format("{} is {}; expected a unit, such as {}", key.Name(), found,
                                               key.kind == PolicyKind::kSize ? "\"8GiB\"" : "\"30s\""));
  }
  if (key.kind == PolicyKind::kNumber && InRange(key, number)) return PolicyValue(number);
  if (key.kind == PolicyKind::kCount && whole != nullptr && InRange(key, number)) return PolicyValue(*whole);
  return Expected(key, found);
}

Result<PolicyValue> ParsePolicyValue(const PolicyKey& key, std::string_view text) {
  if (text == "auto" && key.kind != PolicyKind::kText) return PolicyValue();
  if (key.kind == PolicyKind::kFlag) {
    if (text == "true") return PolicyValue(true);
    if (text == "false") return PolicyValue(false);
  }
  const char* end = text.data() + text.size();
  if (key.kind == PolicyKind::kCount) {
    int64_t whole = 0;
    const auto [rest, error] = std::from_chars(text.data(), end, whole);
    if (error == std::errc() && rest == end) return CheckPolicyValue(key, whole);
  }
  if (key.kind == PolicyKind::kNumber) {
    double number = 0;
    const auto [rest, error] = std::from_chars(text.data(), end, number);
    if (error == std::errc() && rest == end) return CheckPolicyValue(key, number);
  }
  return CheckText(key, std::string(text));
}

std::string FormatPolicyValue(const PolicyKey& key, const PolicyValue& value) {
  if (std::holds_alternative<std::monostate>(value)) return "\"auto\"";
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* whole = std::get_if<int64_t>(&value))
    return key.kind == PolicyKind::kSize ? fmt::format("\"{}\"", FormatBytes(*whole))
                                         : fmt::format("{}", *whole);
  if (const auto* number = std::get_if<double>(&value))
    return key.kind == PolicyKind::kTime ? fmt::format("\"{}\"", FormatSeconds(*number))
                                         : fmt::format("{}", *number);
  std::string quoted = "\"";
  for (const char c : std::get<std::string>(value)) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      quoted += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string DidYouMean(std::string_view name, std::span<const std::string_view> known) {
  const std::string_view nearest = NearestName(name, known);
  if (!nearest.empty()) return fmt::format("; did you mean {}?", nearest);
  return fmt::format("; known are {}", fmt::join(known, ", "));
}

}  // namespace moraine
