// Which KV pages are free: a counted list, so that sequences may share pages.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/core/ids.h"
#include "runtime/core/result.h"

namespace moraine {

/// Holds numbers only; the memory is the Dense implementation's. One thread.
class KvAllocator {
 public:
  explicit KvAllocator(int32_t pages);

  /// A free page with one owner. kInternal with both numbers when all are taken.
  Result<PageId> Take();
  /// One more owner of a taken page.
  void Share(PageId page);
  /// One owner less; the page is free again after the last.
  void Release(PageId page);

  int32_t owners(PageId page) const { return owners_.at(static_cast<size_t>(page.value)); }
  int32_t free_pages() const { return static_cast<int32_t>(free_.size()); }

 private:
  std::vector<PageId> free_;
  std::vector<int32_t> owners_;
};

}  // namespace moraine
