#include "storage/convert/synth.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <vector>

#include "runtime/core/json_guard.h"
#include "runtime/core/tensor_class.h"
#include "storage/convert/expert_format.h"
#include "storage/convert/random_weights.h"
#include "storage/hf_config.h"
#include "storage/hf_names.h"

namespace moraine {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMostPerShard = int64_t{4} << 30;
constexpr int64_t kChunk = int64_t{4}
                           << 20;  // a thread's unit of work; a multiple of what FillCodes asks for
constexpr int32_t kFp8Block = 128;

uint32_t Bf16(float value) { return F32ToBf16(value); }

// The projections R1 stores as FP8: all matrices but embeddings, heads, the router and the MTP projection.
bool IsProjection(WeightRole role) {
  switch (role) {
    case WeightRole::kEmbedding:
    case WeightRole::kHead:
    case WeightRole::kRouter:
    case WeightRole::kMtpProjection:
    case WeightRole::kMtpEmbedding:
    case WeightRole::kMtpHead:
      return false;
    default:
      return true;
  }
}

bool IsRoutedExpert(WeightRole role) {
  return role == WeightRole::kExpertGate || role == WeightRole::kExpertUp || role == WeightRole::kExpertDown;
}

// Root mean square of a matrix's outputs for inputs of 1. Selective attention and routing, logits of
// deviation 2, and branches that add to the residual stream without drowning it.
float Gain(WeightRole role) {
  switch (role) {
    case WeightRole::kHead:
    case WeightRole::kMtpHead:
      return 2.f;
    case WeightRole::kRouter:
      return 1.3f;
    case WeightRole::kQ:
    case WeightRole::kQB:
    case WeightRole::kDenseDown:
    case WeightRole::kSharedDown:
    case WeightRole::kExpertDown:
      return 1.2f;
    case WeightRole::kO:
      return 0.8f;
    default:
      return 1.f;
  }
}

// A tensor to be written, and what is in it: codes of a table, or these bytes.
struct Part {
  NewTensor tensor;
  std::shared_ptr<const CodeTable> table;
  std::string bytes;  // when there is no table: the whole content
};

class Planner {
 public:
  Planner(const SynthOptions& options, bool fp8, const ExpertFormat& experts)
      : options_(options), fp8_(fp8), experts_(experts) {}

  Result<std::vector<Part>> Plan(const ModelShape& shape) {
    for (const WeightSpec& spec : ListWeights(shape, shape.mtp_layers > 0))
      MORAINE_RETURN_IF_ERROR(Add(spec));
    return std::move(parts_);
  }

 private:
  Status Add(const WeightSpec& spec) {
    const std::string name = HfName(spec.id);
    if (spec.columns == 0) {
      AddVector(spec, name);
      return {};
    }
    const auto sigma = static_cast<float>(Gain(spec.id.role) / std::sqrt(static_cast<double>(FanIn(spec))));
    if (fp8_ && IsProjection(spec.id.role)) {
      AddFp8(spec, name, sigma);
    } else if (IsInteger(experts_.format) && IsRoutedExpert(spec.id.role)) {
      return AddIntegers(spec, name, sigma);
    } else {
      AddPart(spec, {name, StoredDtype::kBf16, {spec.rows, spec.columns}},
              [&](float d) { return Bf16(d / kByteSumDeviation * sigma); });
    }
    return {};
  }

  // An embedding's row is the input itself.
  static int64_t FanIn(const WeightSpec& spec) {
    const bool embedding =
        spec.id.role == WeightRole::kEmbedding || spec.id.role == WeightRole::kMtpEmbedding;
    return embedding ? 1 : spec.columns;
  }

  // Weights of one role are alike in everything, so they share a table for each type of tensor.
  void AddPart(const WeightSpec& spec, NewTensor tensor, const std::function<uint32_t(float)>& code) {
    std::shared_ptr<const CodeTable>& table = tables_[{spec.id.role, tensor.dtype}];
    if (table == nullptr) table = std::make_shared<const CodeTable>(MakeTable(code));
    parts_.push_back({std::move(tensor), table, {}});
  }

  void AddVector(const WeightSpec& spec, const std::string& name) {
    if (spec.id.role == WeightRole::kRouterBias) {
      const auto unit = static_cast<float>(options_.skew / kByteSumDeviation);
      AddPart(spec, {name, StoredDtype::kF32, {spec.rows}},
              [&](float d) { return std::bit_cast<uint32_t>(d * unit); });
    } else {
      AddPart(spec, {name, StoredDtype::kBf16, {spec.rows}},
              [](float d) { return Bf16(1.f + 0.1f * d / kByteSumDeviation); });
    }
  }

  // Scales of a tensor's blocks differ by a fifth, so that one taken for another is seen. `of_one` is the
  // scale that gives codes of deviation `code_sigma` the deviation `sigma`.
  static std::function<float(float)> ScaleOf(float sigma, float code_sigma) {
    const float unit = sigma / code_sigma;
    return [unit](float d) { return unit * std::exp(0.2f * d / kByteSumMean); };
  }

  void AddFp8(const WeightSpec& spec, const std::string& name, float sigma) {
    // The largest sum is the format's largest number; of a block's 16,384 sums one comes within a tenth of
    // it.
    constexpr float kUnit = 448.f / kByteSumMean;
    AddPart(spec, {name, StoredDtype::kF8E4M3, {spec.rows, spec.columns}},
            [](float d) { return F32ToFp8E4M3(d * kUnit); });
    const auto scale = ScaleOf(sigma, kByteSumDeviation * kUnit);
    AddPart(spec,
            {name + "_scale_inv",
             StoredDtype::kF32,
             {(spec.rows + kFp8Block - 1) / kFp8Block, (spec.columns + kFp8Block - 1) / kFp8Block}},
            [&](float d) { return std::bit_cast<uint32_t>(scale(d)); });
  }

  Status AddIntegers(const WeightSpec& spec, const std::string& name, float sigma) {
    MORAINE_ASSIGN_OR_RETURN(const int64_t group, GroupFor(experts_, spec.columns, name));
    const std::vector<NewTensor> tensors = ExpertTensors(name, spec.rows, spec.columns, experts_, group);
    // Three quarters of the largest sum is the largest code: what lies beyond (one in 10,000) is clipped, and
    // four bits are used as a quantiser would use them.
    const int half = experts_.format == WeightFormat::kInt4Group ? kInt4Zero : kInt8Zero;
    const float unit = static_cast<float>(half) / (0.75f * kByteSumMean);
    AddPart(spec, tensors[0], [&](float d) {
      return static_cast<uint32_t>(std::clamp(static_cast<int>(std::lrint(d * unit)), -half, half - 1) +
                                   half);
    });
    const auto scale = ScaleOf(sigma, kByteSumDeviation * unit);
    AddPart(spec, tensors[1], [&](float d) { return Bf16(scale(d)); });
    Part shape{tensors[2], nullptr, std::string(16, '\0')};
    std::memcpy(shape.bytes.data(), &spec.rows, 8);
    std::memcpy(shape.bytes.data() + 8, &spec.columns, 8);
    parts_.push_back(std::move(shape));
    return {};
  }

  const SynthOptions& options_;
  bool fp8_;
  ExpertFormat experts_;
  std::map<std::pair<WeightRole, StoredDtype>, std::shared_ptr<const CodeTable>> tables_;
  std::vector<Part> parts_;
};

// A piece of one tensor.
struct Chunk {
  size_t shard;
  size_t part;
  int64_t file_offset;
  int64_t begin;  // within the tensor
  int64_t bytes;
};

std::vector<Chunk> Cut(const std::vector<Part>& parts, const std::vector<NewShard>& shards, bool sparse) {
  std::vector<Chunk> chunks;
  for (size_t s = 0; s < shards.size(); ++s) {
    for (size_t i = 0; i < shards[s].tensors.size(); ++i) {
      const Part& part = parts[shards[s].tensors[i]];
      // Holes stand for weights, not for the shapes that tell of them.
      if (sparse && part.table != nullptr) continue;
      const int64_t bytes = part.tensor.bytes();
      for (int64_t at = 0; at < bytes; at += kChunk) {
        chunks.push_back(
            {s, shards[s].tensors[i], shards[s].offsets[i] + at, at, std::min(kChunk, bytes - at)});
      }
    }
  }
  return chunks;
}

int CodeBits(const NewTensor& tensor, const ExpertFormat& experts) {
  if (tensor.dtype == StoredDtype::kI32) return Describe(experts.format).bits;
  return Bits(tensor.dtype);
}

// The configuration of the folder: what was asked for in layers and format, and that it is no model.
Result<Json> MakeConfig(const SynthOptions& options, const ExpertFormat& experts) {
  MORAINE_ASSIGN_OR_RETURN(const nlohmann::json parsed, ParseJson(options.config_text, "config.json"));
  if (!parsed.is_object()) return Fail(ErrorKind::kModel, "config.json: expected an object");
  Json config = Json::parse(options.config_text);
  config.erase("quantization_config");
  // Read once as it is, so that what follows can count on the fields.
  MORAINE_ASSIGN_OR_RETURN(const ModelShape shape, ParseHfConfig(config.dump(), "config.json"));
  if (options.layers != 0) {
    config["num_hidden_layers"] = options.layers;
    config["first_k_dense_replace"] = std::min(shape.dense_layers, options.layers - 1);
    config.erase("num_mtp_layers");
    if (config.contains("num_nextn_predict_layers")) config["num_nextn_predict_layers"] = 0;
  }
  if (options.format == "fp8") {
    config["quantization_config"] = {{"activation_scheme", "dynamic"},
                                     {"fmt", "e4m3"},
                                     {"quant_method", "fp8"},
                                     {"weight_block_size", {kFp8Block, kFp8Block}}};
  } else if (IsInteger(experts.format)) {
    MORAINE_ASSIGN_OR_RETURN(const std::vector<Json> groups,
                             ExpertGroups(experts, shape.hidden, shape.expert_inter));
    config["quantization_config"] = CompressedTensorsConfig(groups, {});
  }
  config["moraine_synth"] = {
      {"format", options.format}, {"seed", options.seed}, {"skew", options.skew}, {"sparse", options.sparse}};
  return config;
}

Status CheckOptions(const SynthOptions& options) {
  if (options.layers < 0 || options.layers > 4096)
    return Fail(ErrorKind::kUsage, fmt::format("layers is {}; expected 1 to 4096", options.layers));
  if (!(options.skew >= 0 && options.skew <= 100))
    return Fail(ErrorKind::kUsage, fmt::format("skew is {}; expected 0 to 100", options.skew));
  return {};
}

Status WriteChunks(OutputFolder& folder, const std::vector<Part>& parts, const std::vector<NewShard>& shards,
                   const SynthOptions& options, const ExpertFormat& experts, const WorkProgress& progress) {
  std::vector<OutputFile> files;
  for (const NewShard& shard : shards) {
    MORAINE_ASSIGN_OR_RETURN(OutputFile file, folder.CreateFile(shard.file, shard.bytes));
    MORAINE_RETURN_IF_ERROR(file.WriteAt(0, std::as_bytes(std::span(shard.header))));
    files.push_back(std::move(file));
  }
  const std::vector<Chunk> chunks = Cut(parts, shards, options.sparse);
  int64_t total = 0;
  for (const Chunk& chunk : chunks) total += chunk.bytes;
  int64_t done = 0;
  std::mutex mutex;
  const auto write_one = [&](int64_t number) -> Status {
    const Chunk& chunk = chunks[static_cast<size_t>(number)];
    const Part& part = parts[chunk.part];
    thread_local std::vector<std::byte> buffer;
    buffer.resize(static_cast<size_t>(chunk.bytes));
    if (part.table != nullptr) {
      FillCodes(StreamKey(options.seed, part.tensor.name), *part.table, CodeBits(part.tensor, experts),
                chunk.begin, buffer);
    } else {
      std::memcpy(buffer.data(), part.bytes.data(), buffer.size());
    }
    MORAINE_RETURN_IF_ERROR(files[chunk.shard].WriteAt(chunk.file_offset, buffer));
    const std::lock_guard lock(mutex);
    done += chunk.bytes;
    if (progress && !progress(done, total)) return Fail(ErrorKind::kInterrupted, "stopped; nothing was kept");
    return {};
  };
  MORAINE_RETURN_IF_ERROR(InParallel(static_cast<int64_t>(chunks.size()), write_one));
  for (const OutputFile& file : files) MORAINE_RETURN_IF_ERROR(file.Sync());
  return {};
}

}  // namespace

Status Synthesise(const SynthOptions& options, const std::string& path, const WorkProgress& progress) {
  MORAINE_RETURN_IF_ERROR(CheckOptions(options));
  ExpertFormat experts;
  if (options.format != "fp8") {
    MORAINE_ASSIGN_OR_RETURN(experts, ParseExpertFormat(options.format));
    if (!IsInteger(experts.format) && experts.format != WeightFormat::kBf16)
      return Fail(
          ErrorKind::kUsage,
          fmt::format("format \"{}\" cannot be made up here; fp8, bf16, int8-..., int4-...", options.format));
  }
  MORAINE_ASSIGN_OR_RETURN(const Json config, MakeConfig(options, experts));
  MORAINE_ASSIGN_OR_RETURN(const ModelShape shape,
                           ParseHfConfig(config.dump(), "the configuration asked for"));
  if (options.skew != 0 && !shape.router.correction_bias) {
    return Fail(ErrorKind::kUsage, fmt::format("skew needs e_score_correction_bias, which {} does not have",
                                               shape.architecture));
  }
  MORAINE_ASSIGN_OR_RETURN(const std::vector<Part> parts,
                           Planner(options, options.format == "fp8", experts).Plan(shape));
  std::vector<NewTensor> tensors;
  for (const Part& part : parts) tensors.push_back(part.tensor);
  const std::vector<NewShard> shards = PlanShards(tensors, kMostPerShard);
  const std::string index = IndexText(tensors, shards);
  auto bytes = static_cast<int64_t>(index.size()) + (1 << 20);
  for (const NewShard& shard : shards)
    bytes += options.sparse ? static_cast<int64_t>(shard.header.size()) : shard.bytes;
  MORAINE_ASSIGN_OR_RETURN(const auto folder, OutputFolder::Create(path, bytes));
  MORAINE_RETURN_IF_ERROR(WriteChunks(*folder, parts, shards, options, experts, progress));
  if (shards.size() > 1) MORAINE_RETURN_IF_ERROR(folder->WriteText("model.safetensors.index.json", index));
  const Json generation = {{"_from_model_config", true},
                           {"bos_token_id", config.value("bos_token_id", Json())},
                           {"eos_token_id", config.value("eos_token_id", Json())},
                           {"do_sample", true},
                           {"temperature", 0.6},
                           {"top_p", 0.95}};
  MORAINE_RETURN_IF_ERROR(folder->WriteText("generation_config.json", generation.dump(2) + '\n'));
  return folder->Finish(config.dump(2) + '\n');
}

}  // namespace moraine
