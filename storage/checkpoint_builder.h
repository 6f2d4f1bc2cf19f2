// CheckpointBuilder: matches what a shape asks for with what a folder's shards hold.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "storage/checkpoint.h"
#include "storage/hf_names.h"
#include "storage/model_folder.h"

namespace moraine {

/// One use: construct, Build, then take the fields. Errors as Checkpoint::Open.
class CheckpointBuilder {
 public:
  CheckpointBuilder(const std::string& folder, const CheckpointOptions& options)
      : folder_(folder), options_(options) {}

  Status Build();

  ModelShape shape;
  GenerationDefaults generation;
  CheckpointReport report;
  std::vector<File> shards;
  std::vector<StoredTensor> tensors;  // sorted by id

 private:
  /// A stored tensor that is a weight of the model or a part of one.
  struct Match {
    WeightId id;
    ParsedName::Kind kind;
    const TensorRecord* record;
    int32_t shard;
  };

  Status ReadConfigs();
  Status FindMtpLayers();
  Status CheckListable() const;
  Status SortTensors();
  Status SortOne(const TensorRecord& record, int32_t shard);
  Status TakeWeights(const std::vector<WeightSpec>& in_order);
  void Count();

  const WeightSpec* FindSpec(const WeightId& id) const;
  bool IsUnusedMtp(const ParsedName& name) const;
  tl::unexpected<Error> Contradiction(const std::string& why) const;
  tl::unexpected<Error> Refuse(const std::string& why) const;

  std::string folder_;
  CheckpointOptions options_;
  std::vector<SafetensorsHeader> headers_;
  std::vector<WeightSpec> specs_;  // sorted by id
  std::vector<Match> matches_;     // sorted by id once all are in
};

}  // namespace moraine
