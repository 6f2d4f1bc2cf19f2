// A program that links this gets memory from operator new full of NaN: what reads it before writing shows.
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

void* Filled(void* memory, std::size_t size) {
  if (memory == nullptr) throw std::bad_alloc();
  return std::memset(memory, 0xFF, size);
}

}  // namespace

void* operator new(std::size_t size) { return Filled(std::malloc(size), size); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto to = static_cast<std::size_t>(alignment);
  return Filled(std::aligned_alloc(to, (size + to - 1) / to * to), size);
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  void* memory = std::malloc(size);
  return memory == nullptr ? nullptr : std::memset(memory, 0xFF, size);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
