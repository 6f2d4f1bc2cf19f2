#include "cpu/gemm/tile_gemm.h"

#include <dlfcn.h>
#include <fmt/core.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>

#include "cpu/gemm/aligned_bytes.h"
#include "runtime/core/check.h"
#include "runtime/core/quant_format.h"

namespace moraine {
namespace {

AlignedBytes Zeroed(int64_t bytes) {
  AlignedBytes memory(bytes);
  std::memset(memory.data(), 0, static_cast<size_t>(bytes));
  return memory;
}

// oneDNN's thread count is the calling thread's OpenMP setting, if it runs on OpenMP at all. Its own OpenMP
// is asked, whichever that is, and each thread's setting is put back: others may use it.
class OneThread {
 public:
  OneThread() {
    if (kGet != nullptr && kSet != nullptr) {
      before_ = kGet();
      kSet(1);
    }
  }
  ~OneThread() {
    if (before_ > 0) kSet(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  using Get = int (*)();
  using Set = void (*)(int);
  inline static const Get kGet = reinterpret_cast<Get>(dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
  inline static const Set kSet = reinterpret_cast<Set>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  int before_ = 0;
};

dnnl::cpu_isa CapOf(GemmIsa isa) {
  switch (isa) {
    case GemmIsa::kAvx2:
      return dnnl::cpu_isa::avx2;
    case GemmIsa::kAvx512:
      return dnnl::cpu_isa::avx512_core_bf16;
    case GemmIsa::kAny:
      break;
  }
  return dnnl::cpu_isa::isa_default;
}

// The numbers are sets of features.
bool Contains(dnnl::cpu_isa set, dnnl::cpu_isa part) {
  return (static_cast<unsigned>(set) & static_cast<unsigned>(part)) == static_cast<unsigned>(part);
}

// bf16 with AMX, and with AVX-512 BF16 on AMD, where it runs at twice the rate of f32. Intel's AVX-512 BF16
// without AMX runs at 0.6 of it: 118 and 205 GFLOP/s a core, M 64, K 1024, oneDNN 3.2 on Sapphire Rapids.
GemmType Fastest(dnnl::cpu_isa isa) {
  const bool bf16 = Contains(isa, dnnl::cpu_isa::avx512_core_amx) ||
                    (Contains(isa, dnnl::cpu_isa::avx512_core_bf16) && __builtin_cpu_is("amd") != 0);
  return bf16 ? GemmType::kBf16 : GemmType::kF32;
}

// Linux hands the tile registers out on request only; without it AMX would fault, so oneDNN would not use it.
void RequestTiles() {
  constexpr int kArchReqXcompPerm = 0x1023;
  constexpr int kXtiledata = 18;
  (void)syscall(SYS_arch_prctl, kArchReqXcompPerm, kXtiledata);
}

// Values of either type that bf16 holds exactly, in [-1, 1].
void Fill(GemmType type, std::byte* out, int64_t count, uint32_t seed) {
  for (int64_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    const float value = static_cast<float>(static_cast<int32_t>(seed >> 24) - 128) / 128.f;
    if (type == GemmType::kF32) {
      std::memcpy(out + 4 * i, &value, 4);
    } else {
      const uint16_t bits = F32ToBf16(value);
      std::memcpy(out + 2 * i, &bits, 2);
    }
  }
}

double Value(GemmType type, const std::byte* from, int64_t index) {
  if (type == GemmType::kF32) {
    float value;
    std::memcpy(&value, from + 4 * index, 4);
    return static_cast<double>(value);
  }
  uint16_t bits;
  std::memcpy(&bits, from + 2 * index, 2);
  return static_cast<double>(Bf16ToF32(bits));
}

class OneDnnGemm final : public TileGemm {
 public:
  OneDnnGemm(GemmType type, bool any_shape, int workers)
      : TileGemm(type, any_shape), engine_(dnnl::engine::kind::cpu, 0) {
    for (int i = 0; i < workers; ++i) {
      streams_.emplace_back(engine_);
      scratch_.emplace_back();
    }
  }

  Status Prepare(int64_t rows, int64_t depth) override;
  void Run(int64_t rows, int64_t depth, int64_t width, bool add, const void* a, const void* b, float* c,
           int worker) noexcept override;
  std::vector<GemmUse> Uses() const override;

 private:
  // What one worker hands to oneDNN: its memory objects get their addresses at each call.
  struct Arguments {
    dnnl::memory a, b, c, scratch;
    std::array<dnnl_exec_arg_t, 4> list;
    int64_t calls = 0;
  };
  struct Product {
    int64_t rows, depth, width;
    bool add;
    std::string implementation;
    dnnl::matmul primitive;
    std::vector<Arguments> workers;
  };

  Status Make(int64_t rows, int64_t depth, int64_t width, bool add);
  Status SelfTest(const Product& product);
  Product* Find(int64_t rows, int64_t depth, int64_t width, bool add) noexcept;

  dnnl::engine engine_;
  std::vector<dnnl::stream> streams_;
  std::vector<AlignedBytes> scratch_;  // [worker]
  int64_t scratch_bytes_ = 0;
  std::vector<Product> products_;
};

OneDnnGemm::Product* OneDnnGemm::Find(int64_t rows, int64_t depth, int64_t width, bool add) noexcept {
  for (Product& p : products_) {
    if (p.width == width && p.depth == depth && p.rows == rows && p.add == add) return &p;
  }
  return nullptr;
}

Status OneDnnGemm::Prepare(int64_t rows, int64_t depth) {
  MORAINE_CHECK(rows > 0 && depth > 0 && depth % kDepthUnit == 0);
  for (const int64_t width : Widths()) {
    for (const bool add : {false, true}) {
      if (Find(rows, depth, width, add) == nullptr) MORAINE_RETURN_IF_ERROR(Make(rows, depth, width, add));
    }
  }
  return {};
}

Status OneDnnGemm::Make(int64_t rows, int64_t depth, int64_t width, bool add) {
  using Tag = dnnl::memory::format_tag;
  const auto type =
      this->type() == GemmType::kF32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
  // A single panel of f32 is plain; of bf16 it is the interleaved form that dot products of pairs read.
  const Tag panel = this->type() == GemmType::kF32 ? Tag::ab
                    : width == 16                  ? Tag::BA16a16b2a
                    : width == 32                  ? Tag::BA16a32b2a
                    : width == 48                  ? Tag::BA16a48b2a
                                                   : Tag::BA16a64b2a;
  const std::string name = fmt::format(
      "{} [{}, {}] x [{}, {}]", this->type() == GemmType::kF32 ? "f32" : "bf16", rows, depth, depth, width);
  try {
    const OneThread one;  // the thread count is part of a primitive
    const dnnl::memory::desc a({rows, depth}, type, Tag::ab);
    const dnnl::memory::desc b({depth, width}, type, panel);
    const dnnl::memory::desc c({rows, width}, dnnl::memory::data_type::f32, Tag::ab);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (add) {
      dnnl::post_ops sum;
      sum.append_sum(1.f);
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::primitive_desc description(engine_, a, b, c, attributes);
    const std::string implementation = description.impl_info_str();
    if (implementation.rfind("ref", 0) == 0) {
      return Fail(ErrorKind::kInternal, fmt::format("oneDNN has only \"{}\" for {}", implementation, name));
    }
    const dnnl::memory::desc scratch = description.scratchpad_desc();
    if (static_cast<int64_t>(scratch.get_size()) > scratch_bytes_) {
      scratch_bytes_ = static_cast<int64_t>(scratch.get_size());
      for (AlignedBytes& memory : scratch_) memory = Zeroed(scratch_bytes_);
    }
    Product product{rows, depth, width, add, implementation, dnnl::matmul(description), {}};
    for (size_t i = 0; i < streams_.size(); ++i) {
      Arguments w{dnnl::memory(a, engine_, nullptr),
                  dnnl::memory(b, engine_, nullptr),
                  dnnl::memory(c, engine_, nullptr),
                  dnnl::memory(scratch, engine_, nullptr),
                  {}};
      w.list = {{{DNNL_ARG_SRC, w.a.get()},
                 {DNNL_ARG_WEIGHTS, w.b.get()},
                 {DNNL_ARG_DST, w.c.get()},
                 {DNNL_ARG_SCRATCHPAD, w.scratch.get()}}};
      product.workers.push_back(std::move(w));
    }
    products_.push_back(std::move(product));
  } catch (const dnnl::error& e) {
    return Fail(ErrorKind::kInternal, fmt::format("oneDNN cannot make {}: {}", name, e.what()));
  }
  return SelfTest(products_.back());
}

void OneDnnGemm::Run(int64_t rows, int64_t depth, int64_t width, bool add, const void* a, const void* b,
                     float* c, int worker) noexcept {
  const OneThread one;
  Product* product = Find(rows, depth, width, add);
  MORAINE_CHECK(product != nullptr);
  Arguments& w = product->workers[static_cast<size_t>(worker)];
  const auto point = [](dnnl::memory& memory, const void* at) {
    MORAINE_CHECK(dnnl_memory_set_data_handle(memory.get(), const_cast<void*>(at)) == dnnl_success);
  };
  point(w.a, a);
  point(w.b, b);
  point(w.c, c);
  point(w.scratch, scratch_[static_cast<size_t>(worker)].data());
  MORAINE_CHECK(dnnl_primitive_execute(product->primitive.get(), streams_[static_cast<size_t>(worker)].get(),
                                       static_cast<int>(w.list.size()), w.list.data()) == dnnl_success);
  ++w.calls;
}

// At the shape itself: one known release computes wrongly at depth 7168 and rightly at 256. All outputs in
// double would take longer than loading; one output in every row and at least one in every column is enough
// to see a block that is wrong.
Status OneDnnGemm::SelfTest(const Product& p) {
  const AlignedBytes a(p.rows * p.depth * Bytes(type()));
  const AlignedBytes b(p.depth * p.width * Bytes(type()));
  const AlignedBytes c(p.rows * p.width * int64_t{sizeof(float)});
  auto* sums = reinterpret_cast<float*>(c.data());
  Fill(type(), a.data(), p.rows * p.depth, 1);
  Fill(type(), b.data(), p.depth * p.width, 2);
  std::fill_n(sums, p.rows * p.width, 3.f);
  Run(p.rows, p.depth, p.width, p.add, a.data(), b.data(), sums, 0);
  for (int64_t i = 0; i < std::max(p.rows, p.width); ++i) {
    const int64_t row = i % p.rows;
    const int64_t column = i * 29 % p.width;
    double sum = p.add ? 3 : 0;
    double magnitude = sum;
    for (int64_t k = 0; k < p.depth; ++k) {
      const int64_t at =
          type() == GemmType::kF32 ? k * p.width + column : (k / 2 * p.width + column) * 2 + k % 2;
      const double term = Value(type(), a.data(), row * p.depth + k) * Value(type(), b.data(), at);
      sum += term;
      magnitude += std::fabs(term);
    }
    const auto got = static_cast<double>(sums[row * p.width + column]);
    // NaN fails.
    if (!(std::fabs(got - sum) <= static_cast<double>(p.depth + 8) * 0x1p-24 * magnitude)) {
      return Fail(
          ErrorKind::kInternal,
          fmt::format("oneDNN's \"{}\" computes [{}, {}] x [{}, {}] wrongly: {} at ({}, {}), expected {}",
                      p.implementation, p.rows, p.depth, p.depth, p.width, got, row, column, sum));
    }
  }
  for (Arguments& w : products_.back().workers) w.calls = 0;
  return {};
}

std::vector<GemmUse> OneDnnGemm::Uses() const {
  std::vector<GemmUse> uses;
  for (const Product& p : products_) {
    GemmUse use{p.implementation, type(), p.rows, p.depth, p.width, p.add, 0};
    for (const Arguments& w : p.workers) use.calls += w.calls;
    uses.push_back(std::move(use));
  }
  return uses;
}

}  // namespace

Result<std::unique_ptr<TileGemm>> TileGemm::Create(GemmIsa isa, int workers, std::optional<GemmType> type) {
  MORAINE_CHECK(workers > 0);
  if (isa == GemmIsa::kAny) {
    RequestTiles();
  } else {
    (void)dnnl::set_max_cpu_isa(CapOf(isa));  // refused once oneDNN has been used: seen below
  }
  const dnnl::cpu_isa effective = dnnl::get_effective_cpu_isa();
  if (isa != GemmIsa::kAny && !Contains(CapOf(isa), effective)) {
    return Fail(ErrorKind::kHardware, "oneDNN was used in this process before its ISA was limited");
  }
  if (!Contains(effective, dnnl::cpu_isa::avx2)) {
    return Fail(ErrorKind::kHardware, "oneDNN sees no AVX2: products stay with the other kernels");
  }
  if (type == GemmType::kBf16 && !Contains(effective, dnnl::cpu_isa::avx512_core_bf16)) {
    return Fail(ErrorKind::kHardware, "bf16 products need AVX-512 BF16");
  }
  try {
    return std::make_unique<OneDnnGemm>(type.value_or(Fastest(effective)),
                                        Contains(effective, dnnl::cpu_isa::avx512_core), workers);
  } catch (const dnnl::error& e) {
    return Fail(ErrorKind::kHardware, fmt::format("oneDNN has no CPU engine: {}", e.what()));
  }
}

}  // namespace moraine
