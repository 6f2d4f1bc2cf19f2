#include "tools/bench/expert_replay.h"

#include <array>
#include <random>

#include "tools/bench/read_bandwidth.h"

namespace moraine::tools {

ExpertReplay::ExpertReplay(const ModelShape& shape, const ExpertBank& bank, int32_t max_rows, CpuBackend* cpu)
    : shape_(shape),
      bank_(bank),
      grouping_(shape.experts, shape.top_k, max_rows),
      inputs_(static_cast<size_t>(max_rows * shape.hidden)) {
  const std::array formats = {bank.expert(0).front().weights.gate.format};
  experts_ = cpu->MakeExperts(shape, max_rows, formats);
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (float& value : inputs_) value = normal(random);
}

void ExpertReplay::Record(LayerId layer, const Routing& routing) {
  const int64_t count = int64_t{routing.rows} * routing.top_k;
  batches_.push_back({.layer = layer,
                      .rows = routing.rows,
                      .experts = {routing.experts, routing.experts + count},
                      .weights = {routing.weights, routing.weights + count}});
}

Result<double> ExpertReplay::Run() {
  experts_seen_ = 0;
  const double start = Seconds();
  for (const Batch& batch : batches_) {
    const Routing routing{.rows = batch.rows,
                          .top_k = shape_.top_k,
                          .experts = batch.experts.data(),
                          .weights = batch.weights.data(),
                          .inputs = inputs_.data()};
    const std::span<ExpertWork> work = grouping_.Group(routing);
    for (ExpertWork& w : work)
      w.slices = bank_.expert((int64_t{batch.layer.value} * shape_.experts + w.expert.value) % bank_.count());
    experts_seen_ += static_cast<int64_t>(work.size());
    MORAINE_ASSIGN_OR_RETURN(
        const ExpertSum sum,
        experts_->Run({.layer = batch.layer, .rows = batch.rows, .inputs = inputs_.data(), .work = work}));
    MORAINE_RETURN_IF_ERROR(sum.done.Wait());
  }
  return Seconds() - start;
}

int64_t ExpertReplay::pairs() const {
  int64_t pairs = 0;
  for (const Batch& batch : batches_) pairs += int64_t{batch.rows} * shape_.top_k;
  return pairs;
}

double PrefillFlops(const ModelShape& s, int64_t tokens) {
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  const double h = number(s.hidden);
  const double heads = s.heads;
  const double q_head = number(s.qk_head());
  const double queries = s.q_lora == 0 ? h * heads * q_head : number(s.q_lora) * (h + heads * q_head);
  const double attention = queries + h * number(s.kv_values()) +
                           number(s.kv_lora) * heads * number(s.qk_nope + s.v_head) +
                           heads * number(s.v_head) * h;
  const double seen = (number(tokens) + 1) / 2;  // positions, on average
  const double scores = heads * seen * (q_head + number(s.v_head));
  const double moe = h * s.experts + 3 * h * number(s.shared_inter() + s.top_k * s.expert_inter);
  const double row = s.layers * (attention + scores) + s.dense_layers * 3 * h * number(s.dense_inter) +
                     number(s.moe_layers()) * moe;
  return 2 * (number(tokens) * row + h * number(s.vocab));
}

double ExpertFlops(const ModelShape& s) {
  return 6.0 * static_cast<double>(s.hidden) * static_cast<double>(s.expert_inter);
}

}  // namespace moraine::tools
