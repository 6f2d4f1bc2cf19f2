#include "runtime/server/plan_report.h"

#include <nlohmann/json.hpp>

namespace moraine {
namespace {

using Json = nlohmann::ordered_json;

// `part` of `whole`, or null where there is none.
Json Per(double part, double whole) { return whole > 0 ? Json(part / whole) : Json(nullptr); }

}  // namespace

std::string PlanWithSpeed(const ServedModel& model) {
  Json plan = Json::parse(model.plan_json);
  const SchedulerStats stats = model.scheduler->stats();
  if (model.predict) plan["predicted"] = Json::parse(model.predict(stats));
  const SchedulerSpeed& speed = stats.speed;
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  plan["measured"] = {
      {"decode_tok_s", Per(number(speed.alone_rows), speed.alone_seconds)},
      {"prefill_tok_s", Per(number(speed.prompt_rows), speed.prompt_seconds)},
      {"hit_rate", Per(number(speed.decode_hits), number(speed.decode_hits + speed.decode_misses))},
      {"nvme_bytes_per_token", Per(number(speed.decode_nvme_bytes), number(speed.decode_rows))},
      {"decode_rows", speed.decode_rows},
      {"prompt_rows", speed.prompt_rows}};
  return plan.dump();
}

}  // namespace moraine
