#include "cpu/gemm/plain_gemm.h"

#include <dlfcn.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "cpu/gemm/aligned_bytes.h"
#include "runtime/core/check.h"

namespace moraine {
namespace {

constexpr int64_t kShard = 512;

// Each worker's own setting of whichever OpenMP oneDNN came with.
void OneThread() {
  using Set = void (*)(int);
  static const Set set = reinterpret_cast<Set>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  if (set != nullptr) set(1);
}

// Finite values of moderate size in either type.
void FillRandom(std::byte* at, int64_t bytes, uint64_t seed) {
  for (int64_t i = 0; i + 8 <= bytes; i += 8) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const uint64_t bits = (seed & 0x807F807F807F807Fu) | 0x3C003C003C003C00u;
    std::memcpy(at + i, &bits, sizeof bits);
  }
}

class OneDnnPlain final : public PlainGemm {
 public:
  OneDnnPlain(GemmType type, const Shape& shape, WorkerPool& pool)
      : shape_(shape), engine_(dnnl::engine::kind::cpu, 0) {
    OneThread();
    for (int i = 0; i < pool.threads(); ++i) streams_.emplace_back(engine_);
    gate_up_ = Make(type, shape.hidden, std::min(kShard, 2 * shape.inner));
    down_ = Make(type, shape.inner, std::min(kShard, shape.hidden));
    const int64_t per_expert =
        Shards(2 * shape.inner) * gate_up_.weight_bytes + Shards(shape.hidden) * down_.weight_bytes;
    weights_ = AlignedBytes(per_expert * shape.experts);
    pool.ParallelFor(shape.experts, [&](int64_t e, int) {
      FillRandom(weights_.data() + e * per_expert, per_expert, static_cast<uint64_t>(e));
    });
  }

  void Run(WorkerPool& pool) override {
    std::byte* at = weights_.data();
    for (int64_t e = 0; e < shape_.experts; ++e) {
      at = RunOne(pool, gate_up_, Shards(2 * shape_.inner), at);
      at = RunOne(pool, down_, Shards(shape_.hidden), at);
    }
  }
  double Flops() const override {
    return 6.0 * static_cast<double>(shape_.rows) * static_cast<double>(shape_.hidden) *
           static_cast<double>(shape_.inner) * static_cast<double>(shape_.experts);
  }
  std::string implementation() const override { return gate_up_.implementation; }

 private:
  struct Product {
    std::string implementation;
    dnnl::matmul primitive;
    dnnl::memory::desc a, b, c, scratch;
    int64_t weight_bytes = 0;
    AlignedBytes input;
    std::vector<AlignedBytes> outputs, scratches;  // [worker]
  };

  static int64_t Shards(int64_t columns) { return (columns + kShard - 1) / kShard; }

  Product Make(GemmType type, int64_t depth, int64_t columns) {
    using Tag = dnnl::memory::format_tag;
    const auto data = type == GemmType::kF32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc description(
        engine_, dnnl::memory::desc({shape_.rows, depth}, data, Tag::ab),
        dnnl::memory::desc({depth, columns}, data, Tag::any),
        dnnl::memory::desc({shape_.rows, columns}, dnnl::memory::data_type::f32, Tag::ab), attributes);
    Product p{description.impl_info_str(),
              dnnl::matmul(description),
              description.src_desc(),
              description.weights_desc(),
              description.dst_desc(),
              description.scratchpad_desc(),
              0,
              {},
              {},
              {}};
    const auto size = [](const dnnl::memory::desc& d) {
      return static_cast<int64_t>((d.get_size() + 63) / 64 * 64);
    };
    p.weight_bytes = size(p.b);
    p.input = AlignedBytes(size(p.a));
    FillRandom(p.input.data(), p.input.bytes(), 7);
    for (size_t i = 0; i < streams_.size(); ++i) {
      p.outputs.emplace_back(size(p.c));
      p.scratches.emplace_back(size(p.scratch));
    }
    return p;
  }

  std::byte* RunOne(WorkerPool& pool, Product& p, int64_t shards, std::byte* weights) {
    pool.ParallelFor(shards, [&](int64_t shard, int worker) {
      OneThread();
      const auto w = static_cast<size_t>(worker);
      p.primitive.execute(streams_[w],
                          {{DNNL_ARG_SRC, dnnl::memory(p.a, engine_, p.input.data())},
                           {DNNL_ARG_WEIGHTS, dnnl::memory(p.b, engine_, weights + shard * p.weight_bytes)},
                           {DNNL_ARG_DST, dnnl::memory(p.c, engine_, p.outputs[w].data())},
                           {DNNL_ARG_SCRATCHPAD, dnnl::memory(p.scratch, engine_, p.scratches[w].data())}});
    });
    return weights + shards * p.weight_bytes;
  }

  Shape shape_;
  dnnl::engine engine_;
  std::vector<dnnl::stream> streams_;
  Product gate_up_, down_;
  AlignedBytes weights_;
};

}  // namespace

Result<std::unique_ptr<PlainGemm>> PlainGemm::Create(GemmType type, const Shape& shape, WorkerPool& pool) {
  try {
    auto made = std::make_unique<OneDnnPlain>(type, shape, pool);
    if (made->implementation().rfind("ref", 0) == 0) {
      return Fail(ErrorKind::kInternal, fmt::format("oneDNN has only \"{}\"", made->implementation()));
    }
    return made;
  } catch (const dnnl::error& e) {
    return Fail(ErrorKind::kInternal, fmt::format("oneDNN cannot make a plain product: {}", e.what()));
  }
}

}  // namespace moraine
