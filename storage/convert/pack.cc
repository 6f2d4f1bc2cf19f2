#include "storage/convert/pack.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <vector>

#include "runtime/core/printable.h"
#include "storage/checkpoint.h"
#include "storage/convert/quantise.h"
#include "storage/hf_names.h"
#include "storage/model_folder.h"

namespace moraine {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Kind = ParsedName::Kind;

constexpr int64_t kMostPerShard = int64_t{4} << 30;
constexpr int64_t kChunk = int64_t{4} << 20;
constexpr int64_t kMostConfigBytes = int64_t{4} << 20;
constexpr char kConfig[] = "config.json";
constexpr char kIndex[] = "model.safetensors.index.json";

bool IsRoutedExpert(const ParsedName& name) {
  return name.kind != Kind::kOther && name.kind != Kind::kBias && name.id.expert.value >= 0;
}

// Where a tensor to be written comes from: a tensor of the source as it is, or a weight to be converted,
// whose tensors follow each other in the list.
struct Origin {
  StoredRange copy;
  const StoredTensor* convert = nullptr;
  int part = 0;  // of a converted weight: which of its tensors
};

struct Place {
  size_t shard = 0;
  int64_t offset = 0;
};

class Packer {
 public:
  Packer(const Checkpoint& checkpoint, const ShardSet& source, const ExpertFormat& format)
      : checkpoint_(checkpoint), source_(source), format_(format) {}

  Result<PackReport> Pack(const std::string& out, const std::string& config_text,
                          const std::vector<std::string>& other_files, const WorkProgress& progress) {
    MORAINE_RETURN_IF_ERROR(List());
    MORAINE_ASSIGN_OR_RETURN(const std::string config, MakeConfig(config_text));
    shards_ = PlanShards(tensors_, kMostPerShard);
    const std::string index = IndexText(tensors_, shards_);
    int64_t bytes = static_cast<int64_t>(index.size() + config.size()) + (1 << 20);
    for (const NewShard& shard : shards_) bytes += shard.bytes;
    std::vector<File> others;
    for (const std::string& name : other_files) {
      MORAINE_ASSIGN_OR_RETURN(File file, OpenInFolder(checkpoint_.folder(), name));
      bytes += file.bytes();
      others.push_back(std::move(file));
    }
    MORAINE_ASSIGN_OR_RETURN(const auto folder, OutputFolder::Create(out, bytes));
    MORAINE_RETURN_IF_ERROR(WriteShards(*folder, progress));
    for (size_t i = 0; i < others.size(); ++i)
      MORAINE_RETURN_IF_ERROR(folder->CopyFile(other_files[i], others[i]));
    if (shards_.size() > 1) MORAINE_RETURN_IF_ERROR(folder->WriteText(kIndex, index));
    MORAINE_RETURN_IF_ERROR(folder->Finish(config));
    return report_;
  }

 private:
  bool ToIntegers() const { return IsInteger(format_.format); }

  // Every tensor of the source in the order of its files.
  Status List() {
    for (size_t shard = 0; shard < source_.headers.size(); ++shard) {
      std::vector<const TensorRecord*> order;
      for (const TensorRecord& record : source_.headers[shard].tensors) order.push_back(&record);
      std::sort(order.begin(), order.end(),
                [](const TensorRecord* a, const TensorRecord* b) { return a->offset < b->offset; });
      for (const TensorRecord* record : order) {
        report_.bytes_before += record->bytes;
        MORAINE_RETURN_IF_ERROR(ListOne(*record, static_cast<int32_t>(shard)));
      }
    }
    for (const NewTensor& tensor : tensors_) report_.bytes_after += tensor.bytes();
    return {};
  }

  Status ListOne(const TensorRecord& record, int32_t shard) {
    const ParsedName name = ParseHfName(record.name);
    if (!IsRoutedExpert(name)) {
      const bool renamed = ToIntegers() && name.kind == Kind::kBlockScale;
      tensors_.push_back(
          {renamed ? PartName(name.id, Kind::kScale) : record.name, record.dtype, record.shape});
      origins_.push_back({.copy = {shard, record.offset, record.bytes, record.dtype}});
      const bool scaled = record.dtype == StoredDtype::kF8E4M3 && name.kind == Kind::kWeight;
      if (scaled) fp8_modules_.push_back(record.name.substr(0, record.name.rfind('.')));
      return {};
    }
    if (name.kind != Kind::kWeight) return {};  // a part of a weight that is converted
    const StoredTensor* weight = checkpoint_.Find(name.id);
    MORAINE_ASSIGN_OR_RETURN(const int64_t group, GroupFor(format_, weight->columns, record.name));
    int part = 0;
    for (NewTensor& tensor : ExpertTensors(record.name, weight->rows, weight->columns, format_, group)) {
      tensors_.push_back(std::move(tensor));
      origins_.push_back({.convert = weight, .part = part++});
    }
    ++report_.experts;
    return {};
  }

  Result<std::string> MakeConfig(const std::string& text) const {
    Json config = Json::parse(text);  // Checkpoint::Open has read it
    const ModelShape& shape = checkpoint_.shape();
    if (ToIntegers()) {
      MORAINE_ASSIGN_OR_RETURN(std::vector<Json> groups,
                               ExpertGroups(format_, shape.hidden, shape.expert_inter));
      if (!fp8_modules_.empty())
        groups.push_back(Fp8Group(shape.fp8->rows, shape.fp8->columns, fp8_modules_));
      config["quantization_config"] = CompressedTensorsConfig(groups, {});
    } else if (config.contains("quantization_config")) {
      config["quantization_config"]["modules_to_not_convert"] = {"mlp.experts"};
    }
    return config.dump(2) + '\n';
  }

  Status WriteShards(OutputFolder& folder, const WorkProgress& progress) {
    places_.resize(tensors_.size());
    for (size_t s = 0; s < shards_.size(); ++s) {
      MORAINE_ASSIGN_OR_RETURN(OutputFile file, folder.CreateFile(shards_[s].file, shards_[s].bytes));
      MORAINE_RETURN_IF_ERROR(file.WriteAt(0, std::as_bytes(std::span(shards_[s].header))));
      files_.push_back(std::move(file));
      for (size_t i = 0; i < shards_[s].tensors.size(); ++i)
        places_[shards_[s].tensors[i]] = {s, shards_[s].offsets[i]};
    }
    std::mutex mutex;
    int64_t done = 0;
    const auto write_one = [&](int64_t number) -> Status {
      const auto i = static_cast<size_t>(number);
      int64_t bytes = tensors_[i].bytes();
      if (origins_[i].convert == nullptr) {
        MORAINE_RETURN_IF_ERROR(Copy(i));
      } else if (origins_[i].part == 0) {
        MORAINE_RETURN_IF_ERROR(Convert(i));
      }
      const std::lock_guard lock(mutex);
      done += bytes;
      if (progress && !progress(done, report_.bytes_after))
        return Fail(ErrorKind::kInterrupted, "stopped; nothing was kept");
      return {};
    };
    MORAINE_RETURN_IF_ERROR(InParallel(static_cast<int64_t>(tensors_.size()), write_one));
    for (const OutputFile& file : files_) MORAINE_RETURN_IF_ERROR(file.Sync());
    return {};
  }

  Status Copy(size_t i) const {
    const StoredRange& from = origins_[i].copy;
    thread_local std::vector<std::byte> buffer;
    for (int64_t at = 0; at < from.bytes; at += kChunk) {
      buffer.resize(static_cast<size_t>(std::min(kChunk, from.bytes - at)));
      MORAINE_RETURN_IF_ERROR(checkpoint_.ReadBytes(
          {from.shard, from.offset + at, static_cast<int64_t>(buffer.size()), from.dtype}, buffer));
      MORAINE_RETURN_IF_ERROR(Put(i, at, buffer));
    }
    return {};
  }

  Status Put(size_t i, int64_t at, std::span<const std::byte> bytes) const {
    return files_[places_[i].shard].WriteAt(places_[i].offset + at, bytes);
  }

  Status Convert(size_t i) const {
    const StoredTensor& weight = *origins_[i].convert;
    std::vector<float> values(static_cast<size_t>(weight.values()));
    MORAINE_RETURN_IF_ERROR(checkpoint_.ReadF32(weight, values));
    const auto bad = [&](int64_t row) {
      return Fail(ErrorKind::kModel,
                  fmt::format("{}: tensor \"{}\" has a value in row {} that {} cannot hold",
                              Printable(checkpoint_.folder()), checkpoint_.NameOf(weight.id), row,
                              Describe(format_.format).name));
    };
    return ToIntegers() ? PutIntegers(i, weight, values, bad) : PutFloats(i, weight, values, bad);
  }

  template <typename Bad>
  Status PutIntegers(size_t i, const StoredTensor& weight, std::span<const float> values,
                     const Bad& bad) const {
    const int64_t row_bytes = 4 * tensors_[i].shape[1];
    const int64_t groups = tensors_[i + 1].shape[1];
    std::vector<std::byte> codes(static_cast<size_t>(weight.rows * row_bytes));
    std::vector<uint16_t> scales(static_cast<size_t>(weight.rows * groups));
    for (int64_t r = 0; r < weight.rows; ++r) {
      const auto columns = static_cast<size_t>(weight.columns);
      if (!QuantiseRow(
              values.subspan(static_cast<size_t>(r) * columns, columns), Describe(format_.format).bits,
              weight.columns / groups,
              std::span(codes).subspan(static_cast<size_t>(r * row_bytes), static_cast<size_t>(row_bytes)),
              std::span(scales).subspan(static_cast<size_t>(r * groups), static_cast<size_t>(groups))))
        return bad(r);
    }
    const int64_t shape[2] = {weight.rows, weight.columns};
    MORAINE_RETURN_IF_ERROR(Put(i, 0, codes));
    MORAINE_RETURN_IF_ERROR(Put(i + 1, 0, std::as_bytes(std::span(scales))));
    return Put(i + 2, 0, std::as_bytes(std::span(shape)));
  }

  template <typename Bad>
  Status PutFloats(size_t i, const StoredTensor& weight, std::span<const float> values,
                   const Bad& bad) const {
    const auto bad_row = [&](size_t at) { return bad(static_cast<int64_t>(at) / weight.columns); };
    for (size_t at = 0; at < values.size(); ++at) {
      const float largest = format_.format == WeightFormat::kF16 ? 65504.f : 3.38e38f;
      if (!(std::fabs(values[at]) <= largest)) return bad_row(at);
    }
    if (format_.format == WeightFormat::kF32) return Put(i, 0, std::as_bytes(values));
    std::vector<uint16_t> halves(values.size());
    for (size_t at = 0; at < values.size(); ++at) {
      halves[at] = format_.format == WeightFormat::kBf16 ? F32ToBf16(values[at]) : F32ToF16(values[at]);
    }
    return Put(i, 0, std::as_bytes(std::span(halves)));
  }

  const Checkpoint& checkpoint_;
  const ShardSet& source_;
  ExpertFormat format_;
  std::vector<NewTensor> tensors_;
  std::vector<Origin> origins_;  // of each tensor
  std::vector<std::string> fp8_modules_;
  std::vector<NewShard> shards_;
  std::vector<OutputFile> files_;  // of each shard
  std::vector<Place> places_;      // of each tensor
  PackReport report_;
};

// The folder's other files, which go along as they are: tokenizer, templates, licence. Not weights in any
// format.
std::vector<std::string> OtherFiles(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (auto at = fs::directory_iterator(folder, error); !error && at != fs::directory_iterator();
       at.increment(error)) {
    const std::string name = at->path().filename().string();
    std::error_code ignored;
    if (!fs::is_regular_file(at->path(), ignored) || name == kConfig || name == kIndex) continue;
    bool weights = false;
    for (const char* ending : {".safetensors", ".bin", ".pt", ".pth", ".gguf"})
      weights |= name.ends_with(ending);
    if (!weights) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Result<PackReport> Pack(const std::string& model, const std::string& out, const ExpertFormat& format,
                        const WorkProgress& progress) {
  MORAINE_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(model));
  if (checkpoint.report().mtp_present > 0) {
    MORAINE_ASSIGN_OR_RETURN(checkpoint, Checkpoint::Open(model, {.mtp = true}));
  }
  const ModelShape& shape = checkpoint.shape();
  const std::string shown = Printable(model);
  if (shape.sparse) return Fail(ErrorKind::kUsage, fmt::format("{}: is sparse: there are no weights", shown));
  if (!shape.integer.empty()) {
    return Fail(ErrorKind::kUsage, fmt::format("{}: its weights are integers already; pack starts from the "
                                               "model they were made from",
                                               shown));
  }
  if (shape.moe_layers() == 0)
    return Fail(ErrorKind::kUsage, fmt::format("{}: has no routed experts to convert", shown));
  MORAINE_ASSIGN_OR_RETURN(const ShardSet source, OpenShards(model));
  MORAINE_ASSIGN_OR_RETURN(const File config, OpenInFolder(model, kConfig));
  MORAINE_ASSIGN_OR_RETURN(const std::string config_text, ReadText(config, kMostConfigBytes));
  return Packer(checkpoint, source, format).Pack(out, config_text, OtherFiles(model), progress);
}

}  // namespace moraine
