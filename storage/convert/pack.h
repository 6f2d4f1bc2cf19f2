// Pack: a model folder again, with its routed experts in another format.
#pragma once

#include <string>

#include "runtime/core/result.h"
#include "storage/convert/expert_format.h"
#include "storage/convert/output_folder.h"

namespace moraine {

struct PackReport {
  int64_t experts = 0;       // matrices converted
  int64_t bytes_before = 0;  // of all tensors
  int64_t bytes_after = 0;
};

/// Writes `out`: routed experts (the MTP layers' too) converted to `format`, every other tensor and file byte
/// for byte, shards and index cut anew. Integers are compressed-tensors pack-quantized, rounded as
/// storage/convert/quantise.h says; a row shorter than a group has one scale. The rest of an FP8 model then
/// is described as compressed-tensors float-quantized, for which its `weight_scale_inv` are renamed
/// `weight_scale`. The source is read as Checkpoint reads it, so a model that would be refused is not packed.
///
/// Blocks, on all CPUs. kUsage: a group that does not divide a row, a source whose weights are integers
/// already, sparse, or the folder not empty. kModel: a weight that is no finite number. Other errors as
/// OutputFolder.
Result<PackReport> Pack(const std::string& model, const std::string& out, const ExpertFormat& format,
                        const WorkProgress& progress);

}  // namespace moraine
