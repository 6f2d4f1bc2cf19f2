#include "storage/checkpoint_builder.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <utility>

#include "runtime/core/printable.h"
#include "storage/tensor_parts.h"

namespace moraine {
namespace {

constexpr int64_t kMaxConfigBytes = int64_t{4} << 20;

std::string Quoted(std::string_view name) { return '"' + Printable(name, 160) + '"'; }

StoredRange RangeOf(const TensorRecord& record, int32_t shard) {
  return {.shard = shard, .offset = record.offset, .bytes = record.bytes, .dtype = record.dtype};
}

void Add(ClassSum& sum, const StoredTensor& tensor) {
  ++sum.tensors;
  sum.weights += tensor.values();
  sum.bytes += tensor.range.bytes;
  sum.scale_bytes += tensor.scale_bytes();
  sum.bytes_by_format[FormatName(tensor)] += tensor.range.bytes;
}

}  // namespace

tl::unexpected<Error> CheckpointBuilder::Refuse(const std::string& why) const {
  return Fail(ErrorKind::kModel, fmt::format("{}: {}", Printable(folder_), why));
}

tl::unexpected<Error> CheckpointBuilder::Contradiction(const std::string& why) const {
  return Refuse("config and weights disagree: " + why);
}

const WeightSpec* CheckpointBuilder::FindSpec(const WeightId& id) const {
  const auto at = std::lower_bound(specs_.begin(), specs_.end(), id,
                                   [](const WeightSpec& s, const WeightId& i) { return s.id < i; });
  return at != specs_.end() && at->id == id ? &*at : nullptr;
}

Status CheckpointBuilder::Build() {
  MORAINE_RETURN_IF_ERROR(ReadConfigs());
  MORAINE_ASSIGN_OR_RETURN(ShardSet set, OpenShards(folder_));
  shards = std::move(set.shards);
  headers_ = std::move(set.headers);
  MORAINE_RETURN_IF_ERROR(FindMtpLayers());
  MORAINE_RETURN_IF_ERROR(CheckListable());
  const std::vector<WeightSpec> in_order = ListWeights(shape, options_.mtp);
  specs_ = in_order;
  std::sort(specs_.begin(), specs_.end(),
            [](const WeightSpec& a, const WeightSpec& b) { return a.id < b.id; });
  MORAINE_RETURN_IF_ERROR(SortTensors());
  MORAINE_RETURN_IF_ERROR(TakeWeights(in_order));
  Count();
  return {};
}

Status CheckpointBuilder::ReadConfigs() {
  if (folder_.empty()) return Fail(ErrorKind::kModel, "the model folder has no name");
  const std::string shown = Printable(folder_);
  MORAINE_RETURN_IF_ERROR(CheckFolder(folder_));
  if (!ExistsInFolder(folder_, "config.json"))
    return Refuse("config.json is missing; expected a Hugging Face model folder");
  MORAINE_ASSIGN_OR_RETURN(const File config, OpenInFolder(folder_, "config.json"));
  MORAINE_ASSIGN_OR_RETURN(const std::string text, ReadText(config, kMaxConfigBytes));
  MORAINE_ASSIGN_OR_RETURN(shape, ParseHfConfig(text, shown));
  report.mtp_declared = shape.mtp_layers;
  if (!ExistsInFolder(folder_, "generation_config.json")) return {};

  MORAINE_ASSIGN_OR_RETURN(const File file, OpenInFolder(folder_, "generation_config.json"));
  MORAINE_ASSIGN_OR_RETURN(const std::string generation_text, ReadText(file, kMaxConfigBytes));
  MORAINE_ASSIGN_OR_RETURN(generation, ParseGenerationConfig(generation_text, shown));
  for (const int32_t token : generation.eos_tokens) {
    if (token >= shape.vocab) {
      return Refuse(
          fmt::format("generation_config.json: eos_token_id holds {}; expected less than "
                      "vocab_size, {}",
                      token, shape.vocab));
    }
  }
  if (!generation.eos_tokens.empty()) shape.eos_tokens = generation.eos_tokens;
  return {};
}

// DeepSeek appends MTP layers behind the last layer; their input projection tells them from layers the
// configuration does not know of.
Status CheckpointBuilder::FindMtpLayers() {
  std::set<int32_t> projections;
  for (const SafetensorsHeader& header : headers_) {
    for (const TensorRecord& record : header.tensors) {
      const ParsedName name = ParseHfName(record.name);
      if (name.kind == ParsedName::Kind::kWeight && name.id.role == WeightRole::kMtpProjection)
        projections.insert(name.id.layer.value);
    }
  }
  int32_t present = 0;
  while (projections.contains(shape.layers + present)) ++present;
  report.mtp_present = present;
  report.mtp_loaded = options_.mtp;
  if (options_.mtp && present == 0) {
    return Refuse(fmt::format("the MTP layer was asked for, but the shards hold none (expected {})",
                              Quoted(HfName({WeightRole::kMtpProjection, LayerId{shape.layers}, {}}))));
  }
  if (present > 0 && report.mtp_declared > 0 && present != report.mtp_declared) {
    return Contradiction(fmt::format("num_nextn_predict_layers is {}, but the shards hold {} MTP layers",
                                     report.mtp_declared, present));
  }
  shape.mtp_layers = present;
  return CheckShape(shape);
}

// A configuration alone can ask for a billion experts; the list of weights is made only when the shards could
// hold them.
Status CheckpointBuilder::CheckListable() const {
  constexpr int64_t kAlwaysListable = int64_t{1} << 20;
  int64_t stored = 0;
  for (const SafetensorsHeader& header : headers_) stored += static_cast<int64_t>(header.tensors.size());
  const int64_t asked = 3 * shape.experts * (shape.moe_layers() + shape.mtp_layers);
  if (asked <= std::max(stored, kAlwaysListable)) return {};
  return Contradiction(fmt::format("{} experts in each of {} layers are {} tensors, but the shards hold {}",
                                   shape.experts, shape.moe_layers(), asked, stored));
}

bool CheckpointBuilder::IsUnusedMtp(const ParsedName& name) const {
  return !options_.mtp && name.layer && *name.layer >= shape.layers &&
         *name.layer < shape.layers + shape.mtp_layers;
}

Status CheckpointBuilder::SortTensors() {
  for (size_t shard = 0; shard < headers_.size(); ++shard) {
    for (const TensorRecord& record : headers_[shard].tensors)
      MORAINE_RETURN_IF_ERROR(SortOne(record, static_cast<int32_t>(shard)));
  }
  std::sort(matches_.begin(), matches_.end(), [](const Match& a, const Match& b) { return a.id < b.id; });
  std::sort(report.extras.begin(), report.extras.end(),
            [](const ExtraTensor& a, const ExtraTensor& b) { return a.name < b.name; });
  return {};
}

Status CheckpointBuilder::SortOne(const TensorRecord& record, int32_t shard) {
  using Kind = ParsedName::Kind;
  ++report.stored_tensors;
  report.stored_bytes += record.bytes;
  const ParsedName name = ParseHfName(record.name);
  if (name.layer && *name.layer >= shape.layers + shape.mtp_layers) {
    return Contradiction(fmt::format("{} is of layer {}, but num_hidden_layers is {}{}", Quoted(record.name),
                                     *name.layer, shape.layers,
                                     shape.mtp_layers > 0 ? " and the MTP layers end before" : ""));
  }
  if (name.layer && *name.layer >= shape.layers) {
    ++report.mtp_stored.tensors;
    report.mtp_stored.bytes += record.bytes;
  }
  if (IsUnusedMtp(name)) return {};
  if (name.kind == Kind::kOther) {
    report.extras.push_back({record.name, RangeOf(record, shard)});
    return {};
  }
  if (name.kind == Kind::kBias)
    return Contradiction(
        fmt::format("{} is there, but config.json says nothing of biases", Quoted(record.name)));
  if (FindSpec(name.id) == nullptr) {
    // A tied head may be stored all the same; the embedding counts.
    if (name.id.role == WeightRole::kHead) {
      report.extras.push_back({record.name, RangeOf(record, shard)});
      return {};
    }
    return Contradiction(fmt::format("{} is there, but the model config.json describes has no such weight",
                                     Quoted(record.name)));
  }
  matches_.push_back({name.id, name.kind, &record, shard});
  return {};
}

Status CheckpointBuilder::TakeWeights(const std::vector<WeightSpec>& in_order) {
  const auto parts_of = [&](const WeightId& id) {
    TensorParts parts;
    for (auto at = std::lower_bound(matches_.begin(), matches_.end(), id,
                                    [](const Match&m, const WeightId&i) { return m.id < i; });
         at != matches_.end() && at->id == id; ++at) {
      parts[at->kind] = {at->record, at->shard};
    }
    return parts;
  };
  const WeightSpec* missing = nullptr;
  int64_t missing_count = 0;
  tensors.reserve(in_order.size());
  for (const WeightSpec& spec : in_order) {
    const TensorParts parts = parts_of(spec.id);
    if (!parts.HasWeight()) {
      if (const StoredPart part = parts.Any())
        return Refuse(fmt::format("{} is there, but its weight is not", Quoted(part.record->name)));
      if (spec.optional) continue;
      if (missing_count++ == 0) missing = &spec;
      continue;
    }
    Result<StoredTensor> tensor = AssembleTensor(spec, parts, shape, shards);
    if (!tensor.has_value()) {
      return tensor.error().kind == ErrorKind::kModel ? Fail(tensor.error(), Printable(folder_))
                                                      : tl::unexpected(tensor.error());
    }
    tensors.push_back(*std::move(tensor));
  }
  if (missing != nullptr) {
    return Refuse(fmt::format("tensor {} is missing{}{}", Quoted(HfName(missing->id)),
                              missing_count > 1 ? fmt::format(", and {} more", missing_count - 1) : "",
                              report.extras.empty()
                                  ? ""
                                  : fmt::format("; of the names stored, {} are unknown, such as {}",
                                                report.extras.size(), Quoted(report.extras.front().name))));
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.id < b.id; });
  return {};
}

void CheckpointBuilder::Count() {
  for (const StoredTensor& tensor : tensors)
    Add(report.classes.at(static_cast<size_t>(tensor.tensor_class)), tensor);
}

}  // namespace moraine
