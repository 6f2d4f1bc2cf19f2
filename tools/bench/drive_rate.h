// The yardstick of everything that is bound by the drive: how fast a model's files can be read past the page
// cache.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/topology.h"
#include "runtime/core/result.h"
#include "storage/checkpoint.h"
#include "storage/streamer.h"

namespace moraine::tools {

/// Holds a little memory to read into, taken and touched by Open. Calls block.
class DriveRate {
 public:
  /// `checkpoint` outlives it. kModel when the model has no routed experts.
  static Result<std::unique_ptr<DriveRate>> Open(const Checkpoint& checkpoint,
                                                 const StreamerOptions& options);

  /// Bytes a second at which experts drawn at random come from the drive, matrix by matrix, two experts at a
  /// time, for about `seconds`.
  Result<double> Measure(double seconds);

 private:
  explicit DriveRate(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
  const Checkpoint& checkpoint_;
  const StoredTensor& NextMatrix();

  std::vector<std::array<const StoredTensor*, 3>> experts_;
  size_t expert_ = 0;
  size_t matrix_ = 0;  // of it, to be read next
  std::vector<std::byte> memory_;
  std::byte* aligned_ = nullptr;
  int64_t room_ = 0;  // of one matrix
  uint64_t random_ = 1;
  std::unique_ptr<Streamer> streamer_;  // goes first: it writes into memory_
};

}  // namespace moraine::tools
