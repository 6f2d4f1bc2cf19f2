// Ticket: the one word for work that is under way, be it a CUDA event, a latch of CPU workers or a ring
// completion.
#pragma once

#include <cstdint>

#include "runtime/core/result.h"

namespace moraine {

/// Whoever runs work in the background and hands out tickets for it. Outlives its tickets.
class TicketSource {
 public:
  virtual ~TicketSource() = default;
  /// Blocks until the work behind `number` is done; its Status is the work's (bytes missing, device lost
  /// ...). May be called again for the same number, from the thread that issued the work.
  virtual Status Wait(uint64_t number) = 0;
  /// True when Wait would not block. Never blocks.
  virtual bool Done(uint64_t number) = 0;
};

/// A copyable claim on work under way. Default constructed: work that is already done, without error. Holds
/// no memory; buffers named by the work stay untouched until Wait has returned.
class Ticket {
 public:
  Ticket() = default;
  Ticket(TicketSource* source, uint64_t number) : source_(source), number_(number) {}

  Status Wait() const { return source_ == nullptr ? Status() : source_->Wait(number_); }
  bool Done() const { return source_ == nullptr || source_->Done(number_); }
  /// The source's name for the work.
  uint64_t number() const { return number_; }

 private:
  TicketSource* source_ = nullptr;
  uint64_t number_ = 0;
};

}  // namespace moraine
