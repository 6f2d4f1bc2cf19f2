#include "tools/tune_axes.h"

#include <algorithm>
#include <string>
#include <utility>

#include "runtime/core/check.h"

namespace moraine::tools {
namespace {

// A key with the values to try. Of an ordered one `automatic` is the number that the program takes by itself,
// or close to it: "auto" stands in its place.
struct Row {
  const char* name;
  std::vector<PolicyValue> values;
  PolicyValue automatic;
  bool ordered = true;
};

PolicyValue Whole(int64_t value) { return value; }
PolicyValue Word(const char* word) { return std::string(word); }

std::vector<PolicyValue> ThreadCounts(const TuneScene& scene) {
  std::vector<PolicyValue> counts;
  for (const int64_t n : {scene.workers / 2, scene.workers - 1, scene.workers, scene.hardware_threads}) {
    if (n >= 1 && std::find(counts.begin(), counts.end(), Whole(n)) == counts.end()) counts.push_back(n);
  }
  std::sort(counts.begin(), counts.end());
  return counts;
}

// Steps of four on the drive's keys, so that a step is more than noise; powers of two of rows.
std::vector<Row> Rows(const TuneScene& scene) {
  std::vector<PolicyValue> chunks;
  for (const int64_t rows : {32, 64, 128, 256, 512, 1024, 2048}) {
    if (rows <= 256 || rows < 2 * scene.longest_prompt) chunks.emplace_back(rows);
  }
  const Row threads{"cpu.threads", ThreadCounts(scene), Whole(scene.workers)};
  const Row chunk{"prefill.chunk", chunks, Whole(256)};
  const Row switch_over{"cpu.switch_over", {Whole(4), Whole(16), Whole(64)}, {}, false};
  if (!scene.streamed) return {threads, chunk, switch_over};
  constexpr int64_t kKiB = 1024;
  return {
      {"io.depth", {Whole(1), Whole(4), Whole(16), Whole(64), Whole(256)}, Whole(16)},
      threads,
      {"io.chunk",
       {Whole(64 * kKiB), Whole(256 * kKiB), Whole(1024 * kKiB), Whole(4096 * kKiB)},
       Whole(1024 * kKiB)},
      {"prefetch.mode", {Word("next-gate")}, Word("off"), false},
      {"cache.policy", {Word("lru"), Word("lfu")}, Word("ewma"), false},
      {"cache.half_life", {4.0, 16.0, 64.0, 256.0}, 16.0},
      chunk,
      {"io.backend", {Word("pread")}, Word("uring"), false},
      switch_over,
  };
}

PolicyValue ValueIn(const Policy& policy, const PolicyKey& key) {
  Policy copy = policy;
  return std::visit([](const auto* field) { return *field ? PolicyValue(**field) : PolicyValue(); },
                    key.field(copy));
}

TuneKey MakeKey(Row row, const Policy& policy) {
  const auto key = FindPolicyKey(row.name);
  MORAINE_CHECK(key.has_value());
  const PolicyValue user = ValueIn(policy, **key);
  const auto add = [&](const PolicyValue& value) {
    if (std::find(row.values.begin(), row.values.end(), value) == row.values.end())
      row.values.push_back(value);
  };
  add(row.automatic);
  if (!std::holds_alternative<std::monostate>(user)) add(user);
  if (row.ordered) std::sort(row.values.begin(), row.values.end());
  const auto place = [&](const PolicyValue& value) {
    return static_cast<size_t>(std::find(row.values.begin(), row.values.end(), value) - row.values.begin());
  };
  TuneKey made{.axis = {.name = row.name, .values = row.values.size(), .ordered = row.ordered}, .key = *key};
  made.axis.automatic = place(row.automatic);
  made.axis.start = std::holds_alternative<std::monostate>(user) ? made.axis.automatic : place(user);
  made.values = std::move(row.values);
  made.values[made.axis.automatic] = PolicyValue();
  return made;
}

}  // namespace

std::vector<TuneKey> TuneKeys(const Policy& policy, const TuneScene& scene) {
  std::vector<TuneKey> keys;
  for (Row& row : Rows(scene)) keys.push_back(MakeKey(std::move(row), policy));
  return keys;
}

Policy PolicyAt(const Policy& policy, const std::vector<TuneKey>& keys, const TunePoint& point) {
  Policy at = policy;
  for (size_t i = 0; i < keys.size(); ++i) {
    const PolicyValue& value = keys[i].values[point[i]];
    std::visit(
        [&](auto* field) {
          using Value = typename std::remove_pointer_t<decltype(field)>::value_type;
          field->reset();
          if (const auto* set = std::get_if<Value>(&value)) *field = *set;
        },
        keys[i].key->field(at));
  }
  return at;
}

}  // namespace moraine::tools
