#include "policies/prefetch.h"

namespace moraine {

bool PrefetchWatchdog::Ask() {
  if (options_.mode == PrefetchMode::kOff) return false;
  if (rest_ > 0) --rest_;
  return rest_ == 0;
}

void PrefetchWatchdog::Count(int32_t read, int32_t used) {
  read_ += read;
  used_ += used;
  if (read_ < options_.sample) return;
  if (used_ < options_.least_useful * read_) rest_ = options_.rest_layers;
  read_ = 0;
  used_ = 0;
}

}  // namespace moraine
