// What threads that do I/O ask of the scheduler, and what they have cost.
#pragma once

#include <thread>

namespace moraine {

/// For a thread that sleeps much and works little at a time: asks to run soon after it wakes, in short
/// slices, for the same share of CPU. Where all cores compute, a thread that waits its turn leaves the drive
/// idle for milliseconds. Needs no privilege; Linux heeds it from 6.12 on.
void AskForShortSlices();

/// Seconds of CPU `thread` has used, 0 when the system does not say.
double ThreadCpuSeconds(std::thread& thread);

}  // namespace moraine
