#include "runtime/engine_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "runtime/disk_cache/disk_prefix_options.h"
#include "runtime/sampler.h"

namespace moraine {
namespace {

constexpr int64_t kDefaultContext = 8192;
// Stacks, streams, oneDNN's compiled products: what the process grows by beside what the plan counts.
constexpr int64_t kProcessReserve = int64_t{48} << 20;
constexpr int64_t kLeastMargin = int64_t{256} << 20;

Status CheckOptions(const EngineOptions& o, const ModelShape& shape) {
  if (o.context < 0 || o.context > shape.context) {
    return Fail(ErrorKind::kUsage,
                fmt::format("--ctx is {}; this model's context is {} positions", o.context, shape.context));
  }
  if (o.prefill_chunk < 1 || o.prefill_chunk > 4096) {
    return Fail(ErrorKind::kUsage, fmt::format("prefill chunk is {}; expected 1 to 4096", o.prefill_chunk));
  }
  if (o.page_tokens < 1 || o.page_tokens > 65536) {
    return Fail(ErrorKind::kUsage,
                fmt::format("KV page is {} positions; expected 1 to 65536", o.page_tokens));
  }
  if (o.sequences < 1 || o.sequences > 1024) {
    return Fail(ErrorKind::kUsage, fmt::format("{} sequences; expected 1 to 1024", o.sequences));
  }
  return {};
}

std::vector<WeightFormat> ExpertFormats(const Checkpoint& checkpoint) {
  std::vector<WeightFormat> formats;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    if (tensor.tensor_class != TensorClass::kRouted && tensor.tensor_class != TensorClass::kMtp) continue;
    if (std::find(formats.begin(), formats.end(), tensor.format) == formats.end())
      formats.push_back(tensor.format);
  }
  return formats;
}

// What choosing tokens takes: the logits of a step that decodes more sequences than Head takes rows, and each
// sampler's list.
double ChoiceBytes(const EngineOptions& o, const ModelShape& shape) {
  const int32_t rows = std::min(o.sequences, o.prefill_chunk);
  const double logits = rows > kLogitRows ? sizeof(float) * static_cast<double>(rows) : 0;
  return static_cast<double>(shape.vocab) * logits + o.sequences * Sampler::Bytes(shape.vocab);
}

// Where the tokens of a block are too many there is no DiskPrefix (its Create says so).
double DiskBufferBytes(const EngineOptions& o, double token_bytes) {
  if (!o.disk_prefix) return 0;
  const int64_t tokens = std::min(DiskBlockTokens(o.prefill_chunk, o.page_tokens), kMostDiskBlockTokens);
  return kDiskBuffers * static_cast<double>(tokens) * token_bytes;
}

}  // namespace

Result<MemoryLimit> RamLimit(const EngineOptions& o) {
  if (o.ram) {
    MemoryLimit limit{*o.ram, "--ram"};
    if (auto group = CgroupMemoryLimit(); group && group->bytes < limit.bytes) return *std::move(group);
    return limit;
  }
  MORAINE_ASSIGN_OR_RETURN(MemoryLimit limit, FindMemoryLimit());
  const int64_t margin = o.margin.value_or(std::max(kLeastMargin, limit.bytes / 50));
  limit.source += fmt::format(" less {}", HumanBytes(static_cast<double>(margin)));
  limit.bytes = std::max<int64_t>(0, limit.bytes - margin);
  return limit;
}

Result<EnginePlan> PlanEngine(const Checkpoint& checkpoint, const ExpertLayout& layout, const CpuBackend& cpu,
                              const EngineOptions& options, MemoryLimit ram) {
  const ModelShape& shape = checkpoint.shape();
  MORAINE_RETURN_IF_ERROR(CheckOptions(options, shape));
  EnginePlan planned;
  planned.context = options.context != 0 ? options.context : std::min(shape.context, kDefaultContext);
  planned.expert_formats = ExpertFormats(checkpoint);
  const int64_t pages = (planned.context + options.page_tokens - 1) / options.page_tokens * options.sequences;
  planned.dense = {.max_rows = options.prefill_chunk,
                   .max_logit_rows = std::min(kLogitRows, options.prefill_chunk),
                   .page_tokens = options.page_tokens,
                   .pages = static_cast<int32_t>(std::min<int64_t>(pages, INT32_MAX)),
                   .kv_type = options.kv_type};
  // In doubles: a shape that passes every check may still ask for more than 2^63 bytes of cache.
  const double layers = shape.layers + (options.mtp ? shape.mtp_layers : 0);
  planned.request = {
      .ram = std::move(ram),
      .process = ResidentBytes() + kProcessReserve,
      .weights = ModelWeights::BytesNeeded(checkpoint),
      .kv = static_cast<double>(pages) * options.page_tokens * layers *
            static_cast<double>(KvRowBytes(shape, options.kv_type)),
      .disk_buffers =
          DiskBufferBytes(options, layers * static_cast<double>(KvRowBytes(shape, options.kv_type))),
      .scratch = cpu.ScratchBytes(shape, planned.dense, planned.expert_formats, options.mtp) +
                 ChoiceBytes(options, shape),
      .kv_bytes_per_token = shape.layers * KvRowBytes(shape, options.kv_type),
      .expert_bytes = layout.layers() == 0
                          ? 0
                          : StoredExpertBytes(layout.Matrices(LayerId{shape.dense_layers}, ExpertId{0})),
      .classes = {layout.classes().begin(), layout.classes().end()},
      .slots = options.experts.slots,
      .staging = options.experts.staging};
  MORAINE_ASSIGN_OR_RETURN(planned.plan, MakePlan(shape, planned.request));
  if (pages != planned.dense.pages) {
    return Fail(ErrorKind::kUsage,
                fmt::format("{} KV pages; at most {} can be numbered: use larger pages", pages, INT32_MAX));
  }
  return planned;
}

}  // namespace moraine
