// Synth: checkpoints of real geometry and random weights, to measure and test with.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/core/result.h"
#include "storage/convert/output_folder.h"

namespace moraine {

struct SynthOptions {
  std::string config_text;  // a config.json; its quantization_config is replaced
  int32_t layers = 0;       // in all, without MTP layers; 0: as the configuration has them, MTP included
  std::string format =
      "fp8";  // fp8: projections as R1 has them; bf16; int8-g128, int4-g64, ...: routed experts
  uint64_t seed = 1;
  /// Standard deviation of e_score_correction_bias over the experts of a layer, beside scores that deviate by
  /// 0.25 from token to token. At R1's geometry the busiest tenth of the experts does 12 % of the work at 0,
  /// 33 % at 0.05, 45 % at 0.1, 65 % at 0.2 and all but 3 % at 0.5.
  double skew = 0;
  bool sparse = false;  // headers, and holes in place of weights
};

/// Writes the folder: config.json with "moraine_synth" in it, generation_config.json, shards of at most 4
/// GiB, the index; no tokenizer. Weights keep the variance of what goes through them, so that activations
/// stay near 1 through any number of layers; the same options give the same bytes. Blocks, on all CPUs. A
/// sparse folder can be inspected and is refused by the engine. Errors as OutputFolder; kUsage and kModel for
/// options that cannot be.
Status Synthesise(const SynthOptions& options, const std::string& folder, const WorkProgress& progress);

}  // namespace moraine
