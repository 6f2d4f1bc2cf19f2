// Counts what operator new is asked for: a program that links allocations.cc can prove that a call takes
// nothing.
#pragma once

#include <cstdint>

namespace moraine::test {

/// Calls of operator new since the program began, on any thread.
int64_t Allocations();

}  // namespace moraine::test
