#include "storage/tensor_parts.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/printable.h"

namespace moraine {
namespace {

using Kind = ParsedName::Kind;

std::string Quoted(std::string_view name) { return '"' + Printable(name, 160) + '"'; }

std::string Dimensions(std::span<const int64_t> shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += fmt::format("{}{}", text.size() > 1 ? ", " : "", size);
  return text + "]";
}

int64_t DivideUp(int64_t size, int64_t unit) { return (size + unit - 1) / unit; }

tl::unexpected<Error> Refuse(std::string why) { return Fail(ErrorKind::kModel, std::move(why)); }

tl::unexpected<Error> Contradiction(const std::string& why) {
  return Refuse("config and weights disagree: " + why);
}

Status ExpectShape(const TensorRecord& record, const std::vector<int64_t>& expected, const std::string& why) {
  if (record.shape == expected) return {};
  return Contradiction(fmt::format("tensor {} has shape {}; expected {}: {}", Quoted(record.name),
                                   Dimensions(record.shape), Dimensions(expected), why));
}

Status ExpectDtype(const TensorRecord& record, std::initializer_list<StoredDtype> allowed) {
  std::string names;
  for (const StoredDtype dtype : allowed) {
    if (record.dtype == dtype) return {};
    names += (names.empty() ? "" : " or ") + std::string(Name(dtype));
  }
  return Refuse(fmt::format("tensor {} is {}; expected {}", Quoted(record.name), Name(record.dtype), names));
}

constexpr std::initializer_list<StoredDtype> kScaleTypes = {StoredDtype::kF32, StoredDtype::kBf16,
                                                            StoredDtype::kF16};

// Puts one weight together; one use.
class Assembler {
 public:
  Assembler(const WeightSpec& spec, const TensorParts& parts, const ModelShape& shape,
            std::span<const File> shards)
      : spec_(spec), left_(parts), shape_(shape), shards_(shards) {}

  Result<StoredTensor> Assemble() {
    tensor_ = {
        .id = spec_.id, .tensor_class = spec_.tensor_class, .rows = spec_.rows, .columns = spec_.columns};
    MORAINE_RETURN_IF_ERROR(TakeAll());
    // Embedding rows are read from the file one by one.
    const bool embedding =
        spec_.id.role == WeightRole::kEmbedding || spec_.id.role == WeightRole::kMtpEmbedding;
    if (embedding && tensor_.scales) {
      return Refuse(fmt::format("tensor {} is {}; expected an embedding in F32, F16 or BF16",
                                Quoted(weight_->name), FormatName(tensor_)));
    }
    // What no branch asked for has no meaning beside this weight.
    if (const StoredPart extra = left_.Any()) {
      return Refuse(
          fmt::format("{} is there, but {} is {}, which takes no block scales or other parts of "
                      "this name",
                      Quoted(extra.record->name), Quoted(weight_->name), Name(tensor_.range.dtype)));
    }
    return std::move(tensor_);
  }

 private:
  Status TakeAll() {
    if (left_[Kind::kPacked]) {
      if (left_[Kind::kWeight]) {
        return Refuse(fmt::format("{} and {} are both there; expected one of them",
                                  Quoted(left_[Kind::kWeight].record->name),
                                  Quoted(left_[Kind::kPacked].record->name)));
      }
      return TakePacked();
    }
    const TensorRecord& record = *left_[Kind::kWeight].record;
    if (record.dtype == StoredDtype::kI8 && spec_.columns != 0) return TakeInt8();
    return TakeFloat();
  }

  // Moves a part into the tensor's own description.
  StoredRange Take(Kind kind) {
    const StoredPart part = std::exchange(left_[kind], {});
    return {.shard = part.shard,
            .offset = part.record->offset,
            .bytes = part.record->bytes,
            .dtype = part.record->dtype};
  }

  Status TakeWeight(Kind kind) {
    weight_ = left_[kind].record;
    tensor_.range = Take(kind);
    tensor_.row_bytes = tensor_.range.bytes / tensor_.rows;
    return {};
  }

  Status TakeFloat() {
    const TensorRecord& record = *left_[Kind::kWeight].record;
    std::vector<int64_t> expected = {spec_.rows};
    if (spec_.columns != 0) expected.push_back(spec_.columns);
    if (record.shape != expected) {
      return Contradiction(fmt::format("tensor {} has shape {}, config.json asks for {}", Quoted(record.name),
                                       Dimensions(record.shape), Dimensions(expected)));
    }
    const std::optional<WeightFormat> format = FormatOf(record.dtype);
    if (!format || (Describe(*format).scaled && spec_.columns == 0)) {
      return Refuse(fmt::format(
          "tensor {} is {}; expected {}", Quoted(record.name), Name(record.dtype),
          spec_.columns == 0
              ? "F32, F16 or BF16"
              : "F32, F16, BF16, or F8_E4M3 with weight_scale_inv, or integers of compressed-tensors"));
    }
    tensor_.format = *format;
    MORAINE_RETURN_IF_ERROR(TakeWeight(Kind::kWeight));
    return Describe(*format).scaled ? TakeBlockScales() : Status();
  }

  Status TakeBlockScales() {
    if (!shape_.fp8) {
      return Contradiction(
          fmt::format("tensor {} is F8_E4M3, but config.json has no quantization_config.weight_block_size",
                      Quoted(weight_->name)));
    }
    // DeepSeek's name, or compressed-tensors'; with both, the one that stays is refused as an extra part.
    const Kind kind = left_[Kind::kBlockScale] ? Kind::kBlockScale : Kind::kScale;
    if (!left_[kind]) {
      return Refuse(fmt::format(
          "tensor {} is missing: the block scales of an F8_E4M3 weight (or {}, their "
          "name in compressed-tensors)",
          Quoted(PartName(spec_.id, Kind::kBlockScale)), Quoted(PartName(spec_.id, Kind::kScale))));
    }
    const Fp8Blocks& blocks = *shape_.fp8;
    return TakeScales(kind, blocks.rows, blocks.columns,
                      fmt::format("one scale for each {}x{} block of [{}, {}]", blocks.rows, blocks.columns,
                                  spec_.rows, spec_.columns));
  }

  Status TakeScales(Kind kind, int64_t block_rows, int64_t block_columns, const std::string& why) {
    const TensorRecord& record = *left_[kind].record;
    const int64_t rows = DivideUp(spec_.rows, block_rows);
    const int64_t columns = DivideUp(spec_.columns, block_columns);
    MORAINE_RETURN_IF_ERROR(ExpectShape(record, {rows, columns}, why));
    MORAINE_RETURN_IF_ERROR(ExpectDtype(record, kScaleTypes));
    tensor_.scales = StoredScales{.range = Take(kind),
                                  .rows = rows,
                                  .columns = columns,
                                  .block_rows = static_cast<int32_t>(block_rows),
                                  .block_columns = static_cast<int32_t>(block_columns),
                                  .ending = Ending(kind)};
    return {};
  }

  Status TakePacked() {
    const TensorRecord& record = *left_[Kind::kPacked].record;
    if (spec_.columns == 0) {
      return Refuse(fmt::format("tensor {} is there; expected {} in F32, F16 or BF16", Quoted(record.name),
                                Quoted(HfName(spec_.id))));
    }
    MORAINE_RETURN_IF_ERROR(ExpectDtype(record, {StoredDtype::kI32}));
    MORAINE_ASSIGN_OR_RETURN(const IntegerScheme scheme, FindScheme(record));
    MORAINE_RETURN_IF_ERROR(ExpectShape(record, {spec_.rows, DivideUp(spec_.columns * scheme.bits, 32)},
                                        fmt::format("[{}, {}] in {} bits, {} to a word", spec_.rows,
                                                    spec_.columns, scheme.bits, 32 / scheme.bits)));
    MORAINE_RETURN_IF_ERROR(CheckStoredShape());
    tensor_.format = scheme.bits == 4 ? WeightFormat::kInt4Group : WeightFormat::kInt8Group;
    MORAINE_RETURN_IF_ERROR(TakeWeight(Kind::kPacked));
    return TakeGroups(scheme, true);
  }

  Status TakeInt8() {
    const TensorRecord& record = *left_[Kind::kWeight].record;
    MORAINE_ASSIGN_OR_RETURN(const IntegerScheme scheme, FindScheme(record));
    MORAINE_RETURN_IF_ERROR(ExpectShape(record, {spec_.rows, spec_.columns}, "as config.json asks for"));
    tensor_.format = WeightFormat::kInt8Group;
    MORAINE_RETURN_IF_ERROR(TakeWeight(Kind::kWeight));
    return TakeGroups(scheme, false);
  }

  // The first scheme of config.json whose bits, groups and zero points are those stored. When none is, the
  // one that is nearest, for the checks that follow to say what differs.
  Result<IntegerScheme> FindScheme(const TensorRecord& record) const {
    if (shape_.integer.empty()) {
      return Contradiction(fmt::format(
          "tensor {} is {}, but config.json has no quantization_config of compressed-tensors with integers",
          Quoted(record.name), Name(record.dtype)));
    }
    const StoredPart& scale = left_[Kind::kScale];
    const auto nearness = [&](const IntegerScheme& scheme) {
      const int64_t groups = scheme.group == 0 ? 1 : DivideUp(spec_.columns, scheme.group);
      const bool bits = record.dtype == StoredDtype::kI8
                            ? scheme.bits == 8
                            : record.shape.back() == DivideUp(spec_.columns * scheme.bits, 32);
      const bool divides = scheme.group == 0 || spec_.columns % scheme.group == 0;
      const bool group = divides && scale && scale.record->shape == std::vector<int64_t>{spec_.rows, groups};
      const bool zeros = scheme.symmetric != static_cast<bool>(left_[Kind::kZeroPoint]);
      return 4 * int{bits} + 2 * int{group} + int{zeros};
    };
    if (record.shape.size() != 2) {
      return Contradiction(fmt::format("tensor {} has shape {}; expected two dimensions", Quoted(record.name),
                                       Dimensions(record.shape)));
    }
    const auto nearest = std::max_element(
        shape_.integer.begin(), shape_.integer.end(),
        [&](const IntegerScheme& a, const IntegerScheme& b) { return nearness(a) < nearness(b); });
    if (record.dtype == StoredDtype::kI8 && nearest->bits != 8) {
      return Contradiction(
          fmt::format("tensor {} is I8, but no group of config.json has num_bits 8", Quoted(record.name)));
    }
    return *nearest;
  }

  Status TakeGroups(const IntegerScheme& scheme, bool packed) {
    const int64_t group = scheme.group == 0 ? spec_.columns : scheme.group;
    if (spec_.columns % group != 0) {
      return Contradiction(fmt::format("group_size {} does not divide the {} columns of {}", group,
                                       spec_.columns, Quoted(weight_->name)));
    }
    if (!left_[Kind::kScale]) {
      return Refuse(fmt::format("tensor {} is missing: the scales of {}",
                                Quoted(PartName(spec_.id, Kind::kScale)), Quoted(weight_->name)));
    }
    MORAINE_RETURN_IF_ERROR(TakeScales(
        Kind::kScale, 1, group, fmt::format("one scale for each {} of {} columns", group, spec_.columns)));
    if (packed) MORAINE_RETURN_IF_ERROR(CheckGroupIndex(group));
    return TakeZeros(scheme, packed);
  }

  Status TakeZeros(const IntegerScheme& scheme, bool packed) {
    const StoredPart& part = left_[Kind::kZeroPoint];
    if (scheme.symmetric) {
      if (!part) return {};
      return Contradiction(
          fmt::format("tensor {} is there, but config.json says symmetric", Quoted(part.record->name)));
    }
    if (!part) {
      return Refuse(fmt::format("tensor {} is missing: config.json says symmetric is false",
                                Quoted(PartName(spec_.id, Kind::kZeroPoint))));
    }
    const int64_t rows = packed ? DivideUp(spec_.rows * scheme.bits, 32) : spec_.rows;
    MORAINE_RETURN_IF_ERROR(ExpectDtype(*part.record, {packed ? StoredDtype::kI32 : StoredDtype::kI8}));
    MORAINE_RETURN_IF_ERROR(
        ExpectShape(*part.record, {rows, tensor_.scales->columns},
                    packed ? fmt::format("a zero of {} bits for each scale, {} rows to a word", scheme.bits,
                                         32 / scheme.bits)
                           : std::string("a zero for each scale")));
    tensor_.zeros = Take(Kind::kZeroPoint);
    return {};
  }

  // The values of a small integer tensor.
  Result<std::vector<int64_t>> ReadIntegers(const StoredPart& part) const {
    const auto count = static_cast<size_t>(part.record->bytes * 8 / Bits(part.record->dtype));
    std::vector<std::byte> bytes(static_cast<size_t>(part.record->bytes));
    MORAINE_RETURN_IF_ERROR(shards_[static_cast<size_t>(part.shard)].ReadAt(part.record->offset, bytes));
    std::vector<int64_t> values(count);
    for (size_t i = 0; i < count; ++i) {
      if (part.record->dtype == StoredDtype::kI64) {
        std::memcpy(&values[i], &bytes[8 * i], 8);
      } else {
        int32_t value = 0;
        std::memcpy(&value, &bytes[4 * i], 4);
        values[i] = value;
      }
    }
    return values;
  }

  Status CheckStoredShape() {
    const StoredPart& part = left_[Kind::kShape];
    if (!part) {
      return Refuse(fmt::format("tensor {} is missing: the shape of a packed weight",
                                Quoted(PartName(spec_.id, Kind::kShape))));
    }
    MORAINE_RETURN_IF_ERROR(ExpectDtype(*part.record, {StoredDtype::kI64, StoredDtype::kI32}));
    MORAINE_RETURN_IF_ERROR(ExpectShape(*part.record, {2}, "rows and columns"));
    MORAINE_ASSIGN_OR_RETURN(const std::vector<int64_t> values, ReadIntegers(part));
    const std::vector<int64_t> expected = {spec_.rows, spec_.columns};
    if (values != expected) {
      return Contradiction(fmt::format("tensor {} says {}, config.json asks for {}",
                                       Quoted(part.record->name), Dimensions(values), Dimensions(expected)));
    }
    Take(Kind::kShape);
    return {};
  }

  // Columns in their own order (or -1, how an unused index is written) need no index; any other order does.
  Status CheckGroupIndex(int64_t group) {
    const StoredPart& part = left_[Kind::kGroupIndex];
    if (!part) return {};
    MORAINE_RETURN_IF_ERROR(ExpectDtype(*part.record, {StoredDtype::kI32}));
    MORAINE_RETURN_IF_ERROR(ExpectShape(*part.record, {spec_.columns}, "the group of each column"));
    MORAINE_ASSIGN_OR_RETURN(const std::vector<int64_t> groups, ReadIntegers(part));
    for (size_t c = 0; c < groups.size(); ++c) {
      if (groups[c] == -1 || groups[c] == static_cast<int64_t>(c) / group) continue;
      return Refuse(
          fmt::format("tensor {} puts column {} into group {}; expected {}: weights quantised in "
                      "the order of their activations (actorder \"group\") are not supported",
                      Quoted(part.record->name), c, groups[c], static_cast<int64_t>(c) / group));
    }
    Take(Kind::kGroupIndex);
    return {};
  }

  const WeightSpec& spec_;
  TensorParts left_;  // parts not yet taken
  const ModelShape& shape_;
  std::span<const File> shards_;
  const TensorRecord* weight_ = nullptr;
  StoredTensor tensor_;
};

}  // namespace

StoredPart TensorParts::Any() const {
  const auto at =
      std::find_if(parts.begin(), parts.end(), [](const StoredPart& part) { return part.record != nullptr; });
  return at == parts.end() ? StoredPart{} : *at;
}

Result<StoredTensor> AssembleTensor(const WeightSpec& spec, const TensorParts& parts, const ModelShape& shape,
                                    std::span<const File> shards) {
  return Assembler(spec, parts, shape, shards).Assemble();
}

}  // namespace moraine
