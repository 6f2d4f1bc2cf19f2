// What the server counts for /metrics, beside what the scheduler, the engine and HTTP count themselves.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "runtime/scheduler.h"
#include "runtime/server/http/http_server.h"

namespace moraine {

/// Durations in buckets whose bounds double; any thread.
class DurationHistogram {
 public:
  void Add(double seconds);
  /// Prometheus text: _bucket, _sum and _count under `name`.
  std::string Text(const std::string& name, const std::string& help) const;

 private:
  static constexpr double kFirst = 1e-3;
  static constexpr size_t kBuckets = 20;  // 1 ms to 524 s
  std::array<std::atomic<int64_t>, kBuckets + 1> counts_{};
  std::atomic<int64_t> microseconds_{0};
};

struct ServerMetrics {
  DurationHistogram first_token;  // from the request to its first token
  DurationHistogram inter_token;
  std::atomic<int64_t> unknown_fields{0};
  std::atomic<int64_t> rejected{0};  // requests answered 4xx or 5xx above HTTP
};

/// The whole page. `scheduler` null: still loading. `kv_usage` is a share, 0 to 1.
std::string MetricsText(const ServerMetrics& metrics, const HttpCounters& http,
                        const SchedulerStats* scheduler, bool healthy);

}  // namespace moraine
