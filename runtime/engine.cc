#include "runtime/engine.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "cpu/cpu_backend.h"
#include "policies/attention_mode.h"
#include "runtime/available_memory.h"
#include "runtime/core/check.h"
#include "runtime/core/printable.h"
#include "runtime/kv_allocator.h"
#include "storage/checkpoint.h"

namespace moraine {
namespace {

constexpr int64_t kDefaultContext = 8192;
// Rows of logits computed at once when every position is wanted: 16 x 129,280 f32 = 8 MiB.
constexpr int32_t kLogitRows = 16;

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

std::string Size(double bytes) {
  return bytes >= 0x1p30 ? fmt::format("{:.2f} GiB", bytes / 0x1p30)
                         : fmt::format("{:.2f} MiB", bytes / 0x1p20);
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

struct Needs {
  double weights;
  double kv;
  double scratch;
  double all() const { return weights + kv + scratch; }
};

// Refuses before anything large is taken.
Status CheckFits(const std::string& folder, const Needs& needs, const std::optional<int64_t>& ram) {
  int64_t have = 0;
  if (ram) {
    have = *ram;
  } else {
    MORAINE_ASSIGN_OR_RETURN(have, AvailableMemory());
  }
  const auto available = static_cast<double>(have);
  if (needs.all() <= available) return {};
  return Fail(ErrorKind::kDoesNotFit,
              fmt::format("{}: does not fit: weights {} + KV cache {} + scratch {} are needed, {} {}; short "
                          "by {} (a smaller --ctx "
                          "shrinks the KV cache)",
                          folder, Size(needs.weights), Size(needs.kv), Size(needs.scratch), Size(available),
                          ram ? "allowed by --ram" : "available", Size(needs.all() - available)));
}

}  // namespace

Sequence::Sequence(Sequence&& other) noexcept
    : allocator_(other.allocator_),
      page_tokens_(other.page_tokens_),
      length_(std::exchange(other.length_, 0)),
      pages_(std::move(other.pages_)) {
  other.pages_.clear();
}

Sequence& Sequence::operator=(Sequence&& other) noexcept {
  if (this != &other) {
    Truncate(0);
    allocator_ = other.allocator_;
    page_tokens_ = other.page_tokens_;
    length_ = std::exchange(other.length_, 0);
    pages_ = std::move(other.pages_);
    other.pages_.clear();
  }
  return *this;
}

Sequence::~Sequence() { Truncate(0); }

void Sequence::Truncate(int64_t length) {
  MORAINE_CHECK(length >= 0 && length <= length_);
  length_ = length;
  const auto keep = static_cast<size_t>((length + page_tokens_ - 1) / page_tokens_);
  while (pages_.size() > keep) {
    allocator_->Release(pages_.back());
    pages_.pop_back();
  }
}

// Pages for `length` positions; the length itself moves only once a step has succeeded.
Status Sequence::Grow(int64_t length) {
  while (static_cast<int64_t>(pages_.size()) * page_tokens_ < length) {
    MORAINE_ASSIGN_OR_RETURN(const PageId page, allocator_->Take());
    pages_.push_back(page);
  }
  return {};
}

struct Engine::State {
  State(EngineOptions options_in, std::shared_ptr<const Checkpoint> checkpoint_in,
        std::unique_ptr<ModelWeights> weights_in, std::unique_ptr<CpuBackend> cpu_in,
        std::unique_ptr<Dense> dense_in, int64_t context_in, int32_t pages)
      : options(std::move(options_in)),
        checkpoint(std::move(checkpoint_in)),
        shape(checkpoint->shape()),
        weights(std::move(weights_in)),
        cpu(std::move(cpu_in)),
        dense(std::move(dense_in)),
        experts(cpu->MakeExperts(shape, options.prefill_chunk, ExpertFormats(*checkpoint))),
        grouping(shape.experts, shape.top_k, options.prefill_chunk),
        parts{shape, *weights, *dense, *experts, grouping, options.observer},
        context(context_in),
        allocator(pages),
        embedded(static_cast<size_t>(options.prefill_chunk * shape.hidden)) {
    last_rows.reserve(static_cast<size_t>(options.prefill_chunk));
    sequence_rows.reserve(static_cast<size_t>(options.prefill_chunk));
  }

  EngineOptions options;
  std::shared_ptr<const Checkpoint> checkpoint;
  const ModelShape& shape;
  std::unique_ptr<ModelWeights> weights;
  std::unique_ptr<CpuBackend> cpu;
  std::unique_ptr<Dense> dense;
  std::unique_ptr<Experts> experts;
  ExpertGrouping grouping;
  StepParts parts;
  int64_t context;
  KvAllocator allocator;
  EngineStats stats;
  std::vector<float> embedded;  // [T, H]
  std::vector<SequenceRows> sequence_rows;
  std::vector<int32_t> last_rows;
  std::vector<float> logits;  // of a step's last rows, when there are more than one Head holds
};

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::Open(const std::string& folder, const EngineOptions& options) {
  MORAINE_ASSIGN_OR_RETURN(Checkpoint opened, Checkpoint::Open(folder, {.mtp = options.mtp}));
  auto checkpoint = std::make_shared<const Checkpoint>(std::move(opened));
  const ModelShape& shape = checkpoint->shape();
  if (shape.sparse) {
    return Fail(
        ErrorKind::kModel,
        fmt::format("{}: moraine synth --sparse wrote it: its weights are holes in the files and read as "
                    "zero, so there is nothing to run; moraine inspect works",
                    Printable(folder)));
  }
  MORAINE_RETURN_IF_ERROR(CheckOptions(options, shape));

  MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<CpuBackend> cpu,
                           CpuBackend::Create({.topology = options.topology,
                                               .threads = options.threads,
                                               .isa = options.isa,
                                               .f32_activations = options.f32_activations,
                                               .switch_over = options.switch_over}));
  const int64_t context = options.context != 0 ? options.context : std::min(shape.context, kDefaultContext);
  const int64_t pages = (context + options.page_tokens - 1) / options.page_tokens * options.sequences;
  const DenseOptions dense_options{.max_rows = options.prefill_chunk,
                                   .max_logit_rows = std::min(kLogitRows, options.prefill_chunk),
                                   .page_tokens = options.page_tokens,
                                   .pages = static_cast<int32_t>(std::min<int64_t>(pages, INT32_MAX)),
                                   .kv_type = options.kv_type};
  // In doubles: a shape that passes every check may still ask for more than 2^63 bytes of cache.
  const double layers = shape.layers + (options.mtp ? shape.mtp_layers : 0);
  const Needs needs{
      .weights = static_cast<double>(ModelWeights::BytesNeeded(*checkpoint)),
      .kv = static_cast<double>(pages) * options.page_tokens * layers *
            static_cast<double>(KvRowBytes(shape, options.kv_type)),
      .scratch = cpu->ScratchBytes(shape, dense_options, ExpertFormats(*checkpoint), options.mtp)};
  MORAINE_RETURN_IF_ERROR(CheckFits(checkpoint->folder(), needs, options.ram));
  if (pages != dense_options.pages) {
    return Fail(ErrorKind::kUsage,
                fmt::format("{} KV pages; at most {} can be numbered: use larger pages", pages, INT32_MAX));
  }
  MORAINE_ASSIGN_OR_RETURN(
      std::unique_ptr<ModelWeights> weights,
      ModelWeights::Load(checkpoint, cpu->topology(), cpu->node_workers(), options.progress));
  MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<Dense> dense,
                           cpu->MakeDense(shape, weights->dense(), dense_options));
  return std::unique_ptr<Engine>(
      new Engine(std::make_unique<State>(options, std::move(checkpoint), std::move(weights), std::move(cpu),
                                         std::move(dense), context, dense_options.pages)));
}

const ModelShape& Engine::shape() const { return state_->shape; }
const GenerationDefaults& Engine::generation() const { return state_->checkpoint->generation(); }
int64_t Engine::context() const { return state_->context; }
const EngineStats& Engine::stats() const { return state_->stats; }

std::string Engine::Describe() const {
  return fmt::format("{} thread{}, kernels {}, KV {} for {} positions", state_->cpu->threads(),
                     state_->cpu->threads() == 1 ? "" : "s", state_->cpu->KernelNames(),
                     Name(state_->options.kv_type), state_->context);
}

GemmReport Engine::PrefillReport() const { return state_->cpu->PrefillReport(); }

Sequence Engine::NewSequence() { return Sequence(&state_->allocator, state_->options.page_tokens); }

// Checks the inputs, embeds them and walks them through the layers; lengths move when all of it has
// succeeded.
Status Engine::Run(std::span<const StepInput> inputs) {
  State& s = *state_;
  s.sequence_rows.clear();
  int32_t row = 0;
  for (const StepInput& input : inputs) {
    const auto count = static_cast<int32_t>(input.tokens.size());
    const int64_t length = input.sequence->length_ + count;
    MORAINE_CHECK(count > 0 && row + count <= s.options.prefill_chunk);
    if (length > s.context) {
      return Fail(ErrorKind::kUsage,
                  fmt::format("the context is full: {} tokens of {}; raise --ctx (this model allows {})",
                              length, s.context, s.shape.context));
    }
    for (const int32_t token : input.tokens) {
      if (token >= 0 && token < s.shape.vocab) continue;
      return Fail(ErrorKind::kUsage,
                  fmt::format("token id {} is outside the vocabulary of {}", token, s.shape.vocab));
    }
    MORAINE_RETURN_IF_ERROR(input.sequence->Grow(length));
    MORAINE_RETURN_IF_ERROR(
        s.weights->Embed(input.tokens, std::span(s.embedded)
                                           .subspan(static_cast<size_t>(row * s.shape.hidden),
                                                    static_cast<size_t>(count * s.shape.hidden))));
    s.sequence_rows.push_back({.first_row = row,
                               .rows = count,
                               .first_position = input.sequence->length_,
                               .pages = input.sequence->pages_,
                               .mode = ChooseAttentionMode(s.shape, count, length)});
    row += count;
  }
  const int64_t experts_before = s.parts.experts_read;
  MORAINE_RETURN_IF_ERROR(DecodeStep(s.parts, s.sequence_rows,
                                     std::span(s.embedded).first(static_cast<size_t>(row * s.shape.hidden))));
  for (const StepInput& input : inputs) input.sequence->length_ += static_cast<int64_t>(input.tokens.size());
  s.stats.rows += row;
  s.stats.steps += 1;
  s.stats.ram_bytes +=
      s.weights->dense_bytes_per_row() + (s.parts.experts_read - experts_before) * s.weights->expert_bytes();
  s.stats.nvme_bytes += row * s.weights->embedding_row_bytes();
  return {};
}

Result<std::span<const float>> Engine::Step(std::span<const StepInput> inputs) {
  State& s = *state_;
  MORAINE_RETURN_IF_ERROR(Run(inputs));
  s.last_rows.clear();
  for (const SequenceRows& rows : s.sequence_rows) s.last_rows.push_back(rows.first_row + rows.rows - 1);
  const size_t batch = static_cast<size_t>(std::min(kLogitRows, s.options.prefill_chunk));
  if (s.last_rows.size() <= batch) return s.dense->Head(s.last_rows);
  const auto vocab = static_cast<size_t>(s.shape.vocab);
  s.logits.resize(s.last_rows.size() * vocab);
  for (size_t first = 0; first < s.last_rows.size(); first += batch) {
    const auto rows = std::span(s.last_rows).subspan(first, std::min(batch, s.last_rows.size() - first));
    MORAINE_ASSIGN_OR_RETURN(const std::span<const float> part, s.dense->Head(rows));
    std::copy(part.begin(), part.end(), s.logits.begin() + static_cast<std::ptrdiff_t>(first * vocab));
  }
  return std::span<const float>(s.logits);
}

Result<std::span<const float>> Engine::Prefill(Sequence* sequence, std::span<const int32_t> tokens,
                                               const Stop& stop) {
  MORAINE_CHECK(!tokens.empty());
  const auto chunk = static_cast<size_t>(state_->options.prefill_chunk);
  size_t done = 0;
  for (; tokens.size() - done > chunk; done += chunk) {
    if (stop && stop(static_cast<int64_t>(done)))
      return Fail(ErrorKind::kInterrupted, "stopped during the prompt");
    const StepInput input{sequence, tokens.subspan(done, chunk)};
    MORAINE_RETURN_IF_ERROR(Run({&input, 1}));
  }
  const StepInput input{sequence, tokens.subspan(done)};
  return Step({&input, 1});
}

Status Engine::Score(Sequence* sequence, std::span<const int32_t> tokens, const LogitSink& sink) {
  const auto chunk = static_cast<size_t>(state_->options.prefill_chunk);
  const int32_t batch = std::min(kLogitRows, state_->options.prefill_chunk);
  for (size_t done = 0; done < tokens.size(); done += chunk) {
    const StepInput input{sequence, tokens.subspan(done, std::min(chunk, tokens.size() - done))};
    MORAINE_RETURN_IF_ERROR(Run({&input, 1}));
    const auto rows = static_cast<int32_t>(input.tokens.size());
    for (int32_t first = 0; first < rows; first += batch) {
      std::vector<int32_t> wanted;
      for (int32_t row = first; row < std::min(first + batch, rows); ++row) wanted.push_back(row);
      MORAINE_ASSIGN_OR_RETURN(const std::span<const float> logits, state_->dense->Head(wanted));
      MORAINE_RETURN_IF_ERROR(sink(static_cast<int64_t>(done) + first, logits));
    }
  }
  return {};
}

}  // namespace moraine
