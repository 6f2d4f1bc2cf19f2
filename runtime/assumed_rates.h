// Rates of a machine that nobody has measured: low rather than high, each with its reason (docs/fitcheck.md).
#pragma once

#include <string_view>

#include "runtime/hardware.h"

namespace moraine {

/// Pure: all of Rates from the processor, nodes, GPUs and drive of `hardware`; its own rates are not looked
/// at. Experts in every format that has kernels.
Rates AssumedRates(const Hardware& hardware);

/// Assumes again what depends on the processor's kernels and memory: experts and attention. `hardware->rates`
/// has memory_read already, measured, stated or assumed; what is bound by memory follows from that. `why`
/// goes in front of each reason; may be empty.
void AssumeProcessorRates(std::string_view why, Hardware* hardware);

/// Bytes a second of a link after its overhead: lanes x rate x 0.8. 0 for what is unknown.
double PcieBytesPerSecond(int generation, int width);

/// Of a card by its name, as the maker states it; 0 for a card that is not in the table.
double VramBytesPerSecond(std::string_view name);

}  // namespace moraine
