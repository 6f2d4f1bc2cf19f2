// Traces of routing: which experts every row of every layer chose, and where they were. storage/TRACE.md is
// the format; TraceWriter (trace_writer.h) writes it, TraceReader (trace_reader.h) reads it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/result.h"

namespace moraine {

/// What a trace is about.
struct TraceHeader {
  uint64_t model_hash = 0;  // of config.json and the list of tensors; 0: not known
  uint64_t seed = 0;
  int64_t expert_bytes = 0;        // of one routed expert as stored; 0: not known
  int32_t layers = 0;              // that have routed experts, 1 to 4096
  int32_t experts = 0;             // of each, 1 to 65535
  int32_t top_k = 0;               // 1 to min(experts, 256)
  int32_t guesses = 0;             // ids of a row's guess of the next layer, 0 to 256
  std::string format;              // of the experts, up to 32 bytes
  std::vector<int32_t> layer_map;  // [layers] the model's layer numbers, ascending
};

/// kInternal names the field that is out of range.
Status CheckTraceHeader(const TraceHeader& header);

enum class TracePhase : uint8_t { kPrefill, kDecode };
enum class Residency : uint8_t { kVram, kRam, kNvme, kInFlight };

/// One row in one layer. Spans are borrowed.
struct TraceRow {
  int32_t request = 0;
  int32_t step = 0;      // of the engine; rows of a step follow one another, layer by layer
  int32_t position = 0;  // in its sequence
  int32_t layer = 0;     // 0 is the first that has experts
  TracePhase phase = TracePhase::kDecode;
  bool draft = false;                    // of a token that was only proposed
  std::span<const int32_t> experts;      // [top_k], best first, distinct
  std::span<const float> weights;        // [top_k]
  std::span<const Residency> residency;  // [top_k] before the layer ran
  std::span<const int32_t> guesses;      // [guesses] of the next layer; empty: none
};

/// Bytes of a row in the file: 82 at k = 8 with 8 guesses.
int64_t TraceRowBytes(const TraceHeader& header);

}  // namespace moraine
