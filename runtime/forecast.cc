#include "runtime/forecast.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace moraine {
namespace {

// How far a rate may be from the truth, by where it comes from.
double Uncertainty(Origin origin) {
  switch (origin) {
    case Origin::kMeasured:
    case Origin::kRead:
      return 0.1;
    case Origin::kStated:
      return 0.2;
    case Origin::kAssumed:
      break;
  }
  return 0.4;
}

// The three rates a forecast is made with: each figure as low, as it is, and as high as it may be.
double At(const Figure& figure, int side) { return figure.value * (1 + side * Uncertainty(figure.origin)); }

double Over(double amount, double rate) { return amount > 0 ? amount / rate : 0; }

std::string Gb(double bytes) { return fmt::format("{:.2f} GB", 1e-9 * bytes); }
std::string GbS(double rate) { return fmt::format("{:.1f} GB/s", 1e-9 * rate); }
std::string GflopS(double rate) { return fmt::format("{:.0f} GFLOP/s", 1e-9 * rate); }

// Beside bytes and products: norms, router, waking and meeting of threads, a layer and step. The shipped
// model's four layers, which have hardly any bytes, take 0.3 to 0.5 ms a token (moraine bench
// models/tiny-r1).
constexpr double kLayerSeconds = 60e-6;

class Model {
 public:
  Model(const ModelWork& work, const Plan& plan, const Rates& rates, const ForecastOptions& options, int side)
      : work_(work), plan_(plan), rates_(rates), options_(options), side_(side) {}

  // Bytes a second at which one row reads weights of a format.
  double RowRate(const FormatWork& w) const {
    const ExpertRate* rate = FindExpertRate(rates_, w.format, w.group);
    return rate == nullptr ? At(rates_.memory_read, side_) : At(rate->decode_bytes_s, side_);
  }

  // FLOP a second of `rows` rows on matrices of a format: between what is known, in logarithms of rows; below
  // the first, the weights' reading counts.
  double RowsRate(const FormatWork& w, double rows) const {
    const double one = w.bytes > 0 ? 2 * w.weights / w.bytes * RowRate(w) : 0;
    const ExpertRate* rate = FindExpertRate(rates_, w.format, w.group);
    double before_rows = 1;
    double before = one;
    if (rate != nullptr) {
      for (const PrefillRate& next : rate->prefill) {
        const double flops = At(next.flops_s, side_);
        if (rows <= next.rows) {
          if (!(before > 0) || !(flops > 0) || next.rows <= before_rows) return flops;
          const double part = std::log(std::max(1.0, rows) / before_rows) / std::log(next.rows / before_rows);
          return before * std::pow(flops / before, part);
        }
        before_rows = next.rows;
        before = flops;
      }
    }
    return before;
  }

  double DenseSeconds() const {
    double seconds = Over(work_.head.bytes, RowRate(work_.head));
    for (const FormatWork& w : work_.dense) seconds += Over(w.bytes, RowRate(w));
    return seconds;
  }

  double AttentionSeconds(double positions) const {
    return std::max(Over(work_.attention_flops * positions, At(rates_.attention_flops, side_)),
                    Over(work_.kv_bytes * positions, At(rates_.memory_read, side_)));
  }

  double Hits() const {
    if (plan_.holds_all || work_.moe_layers == 0) return 1;
    return side_ < 0 ? options_.hits.low : side_ > 0 ? options_.hits.high : options_.hits.expected;
  }

  double ExpertSeconds() const { return Over(work_.expert.bytes, RowRate(work_.expert)); }
  double ReadSeconds() const { return Over(work_.expert.bytes, At(rates_.drive_read, side_)); }

  // One MoE layer's experts and shared expert: j of k are missing with the binomial's chance. The drive reads
  // while all that is there runs; what comes last runs alone.
  double LayerSeconds() const {
    const double miss = 1 - Hits();
    const double compute = ExpertSeconds();
    const double shared = Over(work_.shared.bytes / work_.moe_layers, RowRate(work_.shared));
    const double busy = work_.top_k * compute + shared;
    if (miss <= 0) return busy;
    double seconds = 0;
    double chance = std::pow(1 - miss, work_.top_k);
    for (double j = 0; j <= work_.top_k; ++j) {
      seconds += chance * (j == 0 ? busy : std::max(busy, j * ReadSeconds() + compute));
      if (miss < 1) chance *= (work_.top_k - j) / (j + 1) * miss / (1 - miss);
    }
    return miss < 1 ? seconds : std::max(busy, work_.top_k * ReadSeconds() + compute);
  }

  double SharedSeconds() const { return Over(work_.shared.bytes, RowRate(work_.shared)); }

  double LayersSeconds() const { return rates_.memory_read.value > 0 ? work_.layers * kLayerSeconds : 0; }

  // What routed experts add to a token: the shared one is among the dense weights.
  double RoutedSeconds() const {
    return work_.moe_layers > 0 ? work_.moe_layers * LayerSeconds() - SharedSeconds() : 0;
  }

  // Each embedding row is read from the drive, too little to count; a token's time.
  double TokenSeconds() const {
    return DenseSeconds() + AttentionSeconds(options_.position) + RoutedSeconds() + LayersSeconds();
  }

  double MissedBytes() const { return (1 - Hits()) * work_.moe_layers * work_.top_k * work_.expert.bytes; }

  struct ChunkTimes {
    double dense = 0;
    double attention = 0;
    double experts = 0;
    double drive = 0;
    double all = 0;
  };

  // A chunk of `rows` rows behind `cached` positions. Of the experts it touches as many are there as have a
  // slot: a prompt touches nearly all, so nothing else is left to chance.
  ChunkTimes Chunk(double rows, double cached) const {
    ChunkTimes t;
    t.dense = LayersSeconds();
    for (const FormatWork& w : work_.dense) t.dense += Over(2 * rows * w.weights, RowsRate(w, rows));
    const double mean = cached + rows / 2;
    t.attention = Over(work_.prompt_flops * rows * mean, At(rates_.attention_flops, side_));
    if (!work_.dense.empty())
      t.attention += Over(work_.expansion_flops * (cached + rows), RowsRate(work_.dense.front(), 64));
    if (work_.moe_layers > 0) {
      const double touched = work_.experts * (1 - std::pow(1 - work_.top_k / work_.experts, rows));
      const double rows_each = rows * work_.top_k / touched;
      t.experts = work_.moe_layers *
                  Over(2 * rows * work_.top_k * work_.expert.weights, RowsRate(work_.expert, rows_each));
      const double absent = plan_.holds_all ? 0 : 1 - SlotShare(plan_);
      t.drive = work_.moe_layers * touched * absent * ReadSeconds();
    }
    t.all = t.dense + t.attention + std::max(t.experts, t.drive);
    return t;
  }

  ChunkTimes Prompt() const {
    ChunkTimes sum;
    const double tokens = std::max(1.0, options_.prompt_tokens);
    const double chunk = std::max(1.0, options_.chunk);
    // The parts of a chunk's time are linear in what is cached, so all full chunks are as many times the
    // middle one.
    const double full = std::floor(tokens / chunk);
    const auto add = [&](const ChunkTimes& t, double times) {
      sum.dense += times * t.dense;
      sum.attention += times * t.attention;
      sum.experts += times * t.experts;
      sum.drive += times * t.drive;
      sum.all += times * t.all;
    };
    if (full > 0) add(Chunk(chunk, (full - 1) / 2 * chunk), full);
    if (tokens > full * chunk) add(Chunk(tokens - full * chunk, full * chunk), 1);
    sum.dense += Over(work_.head.bytes, RowRate(work_.head));
    sum.all += Over(work_.head.bytes, RowRate(work_.head));
    return sum;
  }

 private:
  const ModelWork& work_;
  const Plan& plan_;
  const Rates& rates_;
  const ForecastOptions& options_;
  int side_;
};

std::string ReaderOf(const FormatWork& w, const Rates& rates) {
  const ExpertRate* rate = FindExpertRate(rates, w.format, w.group);
  return rate != nullptr && rate->decode_bytes_s.value < kMemoryBound * rates.memory_read.value ? "cpu"
                                                                                                : "ram";
}

std::string LongestResource(const std::vector<Stage>& stages) {
  std::map<std::string, double> busy;
  for (const Stage& stage : stages) busy[stage.resource] += stage.seconds;
  std::string best;
  for (const auto& [resource, seconds] : busy) {
    if (best.empty() || seconds > busy[best]) best = resource;
  }
  return best;
}

double Rate(double amount, double seconds) {
  return seconds > 0 && std::isfinite(seconds) ? amount / seconds : 0;
}

Speed Decode(const ModelWork& work, const Rates& rates, const ForecastOptions& o, const Model& model,
             const Model& worst, const Model& best) {
  Speed speed{
      .tok_s = Rate(1, model.TokenSeconds()),
      .low = Rate(1, worst.TokenSeconds()),
      .high = Rate(1, best.TokenSeconds()),
      .token = {.dense = model.TokenSeconds() - model.RoutedSeconds(), .experts = model.RoutedSeconds()}};
  const double bytes = work.dense_bytes() + work.head.bytes;
  const double dense = model.DenseSeconds();
  speed.stages.push_back({"dense weights", work.dense.empty() ? "ram" : ReaderOf(work.dense.front(), rates),
                          dense, fmt::format("{} / {}", Gb(bytes), GbS(Rate(bytes, dense)))});
  speed.stages.push_back({"attention", "cpu", model.AttentionSeconds(o.position),
                          fmt::format("{:.0f} positions x {:.1f} MFLOP / {}", o.position,
                                      1e-6 * work.attention_flops, GflopS(rates.attention_flops.value))});
  speed.stages.push_back({"steps of layers", "cpu", model.LayersSeconds(),
                          fmt::format("{:.0f} layers x {:.0f} us", work.layers, 1e6 * kLayerSeconds)});
  if (work.moe_layers == 0) {
    speed.limit = LongestResource(speed.stages);
    return speed;
  }
  const double runs = work.moe_layers * work.top_k;
  speed.stages.push_back({"routed experts", ReaderOf(work.expert, rates), runs * model.ExpertSeconds(),
                          fmt::format("{:.0f} x {:.1f} MB / {}", runs, 1e-6 * work.expert.bytes,
                                      GbS(model.RowRate(work.expert)))});
  if (model.Hits() < 1) {
    speed.stages.push_back(
        {"experts from the drive", "nvme", runs * (1 - model.Hits()) * model.ReadSeconds(),
         fmt::format("{:.1f} % missing of {:.0f} x {:.1f} MB / {}", 100 * (1 - model.Hits()), runs,
                     1e-6 * work.expert.bytes, GbS(rates.drive_read.value))});
  }
  speed.limit = LongestResource(speed.stages);
  return speed;
}

Speed Prefill(const ModelWork& work, const Rates& rates, const ForecastOptions& o, const Model& model,
              const Model& worst, const Model& best) {
  const Model::ChunkTimes t = model.Prompt();
  Speed speed{.tok_s = Rate(o.prompt_tokens, t.all),
              .low = Rate(o.prompt_tokens, worst.Prompt().all),
              .high = Rate(o.prompt_tokens, best.Prompt().all)};
  const double dense = t.dense + t.attention;
  speed.token = StepSeconds{.dense = dense, .experts = t.all - dense} / o.prompt_tokens;
  speed.stages.push_back(
      {"dense weights", "cpu", t.dense,
       fmt::format("{:.0f} tokens x {:.1f} GFLOP", o.prompt_tokens, 2e-9 * work.dense_weights())});
  speed.stages.push_back({"attention", "cpu", t.attention,
                          fmt::format("{:.0f} tokens over {:.0f} positions at the mean, {}", o.prompt_tokens,
                                      o.prompt_tokens / 2, GflopS(rates.attention_flops.value))});
  if (work.moe_layers > 0) {
    speed.stages.push_back({"routed experts", "cpu", t.experts,
                            fmt::format("{:.0f} tokens x {:.1f} GFLOP, chunks of {:.0f}", o.prompt_tokens,
                                        2e-9 * work.moe_layers * work.top_k * work.expert.weights, o.chunk)});
  }
  if (t.drive > 0) {
    speed.stages.push_back(
        {"experts from the drive", "nvme", t.drive,
         fmt::format("what has no slot, once a chunk, at {}", GbS(rates.drive_read.value))});
  }
  speed.limit = LongestResource(speed.stages);
  return speed;
}

}  // namespace

double SlotShare(const Plan& plan) {
  if (plan.routed_experts == 0) return 1;
  double slots = 0;
  for (const int32_t n : plan.slots) slots += n;
  return std::min(1.0, slots / static_cast<double>(plan.routed_experts));
}

Forecast MakeForecast(const ModelWork& work, const Plan& plan, const Rates& rates,
                      const ForecastOptions& options) {
  const Model model(work, plan, rates, options, 0);
  const Model worst(work, plan, rates, options, -1);
  const Model best(work, plan, rates, options, 1);
  Forecast forecast{.decode = Decode(work, rates, options, model, worst, best),
                    .prefill = Prefill(work, rates, options, model, worst, best)};
  forecast.first_token_s = Rate(options.prompt_tokens, forecast.prefill.tok_s);
  const double experts = work.moe_layers * work.experts * work.expert.bytes;
  forecast.load_bytes = plan.holds_all ? work.stored_bytes : std::max(0.0, work.stored_bytes - experts);
  forecast.load_s = rates.drive_read.value > 0 ? forecast.load_bytes / rates.drive_read.value : 0;
  forecast.hits = {worst.Hits(), model.Hits(), best.Hits()};
  forecast.nvme_bytes_per_token = model.MissedBytes() + work.embedding_row_bytes;
  forecast.ram_bytes_per_token = work.dense_bytes() + work.head.bytes + work.kv_bytes * options.position +
                                 work.moe_layers * work.top_k * work.expert.bytes;
  return forecast;
}

}  // namespace moraine
