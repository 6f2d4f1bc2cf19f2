#include "runtime/server/metrics.h"

#include <fmt/core.h>

namespace moraine {
namespace {

std::string One(const char* type, const char* name, const char* help, int64_t value) {
  return fmt::format("# HELP moraine_{0} {1}\n# TYPE moraine_{0} {2}\nmoraine_{0} {3}\n", name, help, type,
                     value);
}

std::string Gauge(const char* name, const char* help, int64_t value) {
  return One("gauge", name, help, value);
}

std::string Counter(const char* name, const char* help, int64_t value) {
  return One("counter", name, help, value);
}

std::string DiskText(const DiskPrefixStats& stats) {
  return Counter("prefix_disk_hit_tokens_total", "Tokens of prompts read from the drive, not computed",
                 stats.hit_tokens) +
         Counter("prefix_disk_read_bytes_total", "Of cached prompts, read from the drive", stats.read_bytes) +
         Counter("prefix_disk_written_bytes_total", "Of cached prompts, written to the drive",
                 stats.written_bytes) +
         Counter("prefix_disk_broken_total", "Blocks that did not pass their checksums and were removed",
                 stats.broken) +
         Counter("prefix_disk_removed_total", "Blocks removed to keep to the cap", stats.removed) +
         Gauge("prefix_disk_bytes", "Of cached prompts, on the drive", stats.bytes);
}

std::string SchedulerText(const SchedulerStats& stats) {
  const EngineStats& engine = stats.engine;
  return Gauge("num_requests_running", "Requests with a sequence of their own", stats.running) +
         Gauge("num_requests_waiting", "Requests in the queue", stats.waiting) +
         Counter("requests_finished_total", "Requests that ended by themselves", stats.finished) +
         Counter("requests_cancelled_total", "Requests whose client left or that were stopped",
                 stats.cancelled) +
         Counter("requests_failed_total", "Requests that ended with an error", stats.failed) +
         Counter("requests_deferred_total", "Requests refused because the queue was full", stats.refused) +
         Counter("prompt_tokens_total", "Tokens of prompts", stats.prompt_tokens) +
         Counter("prompt_tokens_cached_total", "Of them, found in the cache", stats.cached_tokens) +
         Counter("tokens_predicted_total", "Tokens generated", stats.completion_tokens) +
         Counter("steps_total", "Steps of the engine", stats.steps) +
         Counter("rows_total", "Tokens run through the layers", engine.rows) +
         Counter("ram_bytes_total", "Weights read from memory", engine.ram_bytes) +
         Counter("nvme_bytes_total", "Weights read from the drive", engine.nvme_bytes) +
         Counter("expert_hits_total", "Experts that were in memory", engine.expert_hits) +
         Counter("expert_misses_total", "Experts that were not", engine.expert_misses) +
         Counter("expert_guesses_total", "Experts read ahead", engine.guesses) +
         Counter("expert_guesses_used_total", "Of them, used", engine.guesses_used) +
         Counter("read_retries_total", "Reads made again after an error or a short count",
                 engine.read_retries) +
         (stats.on_disk ? DiskText(stats.disk) : "");
}

}  // namespace

void DurationHistogram::Add(double seconds) {
  size_t bucket = 0;
  for (double bound = kFirst; bucket < kBuckets && seconds > bound; bound *= 2) ++bucket;
  ++counts_[bucket];
  microseconds_ += static_cast<int64_t>(seconds * 1e6);
}

std::string DurationHistogram::Text(const std::string& name, const std::string& help) const {
  std::string text = fmt::format("# HELP moraine_{0} {1}\n# TYPE moraine_{0} histogram\n", name, help);
  int64_t sum = 0;
  double bound = kFirst;
  for (size_t i = 0; i < kBuckets; ++i, bound *= 2) {
    sum += counts_[i];
    text += fmt::format("moraine_{}_bucket{{le=\"{:g}\"}} {}\n", name, bound, sum);
  }
  sum += counts_[kBuckets];
  return text +
         fmt::format("moraine_{0}_bucket{{le=\"+Inf\"}} {1}\nmoraine_{0}_sum {2}\nmoraine_{0}_count {1}\n",
                     name, sum, static_cast<double>(microseconds_) * 1e-6);
}

std::string MetricsText(const ServerMetrics& metrics, const HttpCounters& http,
                        const SchedulerStats* scheduler, bool healthy) {
  std::string text =
      Gauge("healthy", "1: the model is loaded and the engine works", healthy ? 1 : 0) +
      Gauge("http_connections", "Open connections", http.open.load()) +
      Counter("http_connections_total", "Connections accepted", http.connections) +
      Counter("http_requests_total", "Requests read whole", http.requests) +
      Counter("http_refused_total", "Connections and requests refused before any endpoint saw them",
              http.refused) +
      Counter("http_cut_total", "Connections cut: too slow, or not reading", http.cut) +
      Counter("http_gone_total", "Clients that left before their answer's end", http.gone) +
      Counter("requests_rejected_total", "Requests an endpoint answered with an error", metrics.rejected) +
      Counter("unknown_fields_total", "Members of requests that nobody knows", metrics.unknown_fields);
  text += metrics.first_token.Text("time_to_first_token_seconds", "From a request to its first token");
  text += metrics.inter_token.Text("inter_token_latency_seconds", "Between two tokens of a request");
  if (scheduler != nullptr) text += SchedulerText(*scheduler);
  return text;
}

}  // namespace moraine
