// TokenMask: what one text may go on with, token by token.
#pragma once

#include <cstdint>
#include <span>

namespace moraine {

/// Belongs to one sequence; its calls come one at a time, after its making from the thread that runs the
/// steps. Neither call blocks or fails: a mask that could come to allow nothing is never made.
class TokenMask {
 public:
  virtual ~TokenMask() = default;

  /// Bit t % 64 of word t / 64 says whether token t may come next; at least one is set. Empty: all may. Valid
  /// until the next call.
  virtual std::span<const uint64_t> Allowed() = 0;

  /// `token`, which was allowed, has come. False: the text is whole and nothing may follow.
  virtual bool Accept(int32_t token) = 0;
};

}  // namespace moraine
