// The model that is asked about: a checkpoint on this machine, or one that is not here yet.
#pragma once

#include <string>

#include "runtime/core/result.h"
#include "storage/checkpoint.h"

namespace moraine::tools {

struct FitModel {
  std::string name;    // as given
  std::string origin;  // "folder", "config.json", "built in"
  Checkpoint checkpoint;
  std::string config;   // its config.json
  std::string format;   // of its experts, as SynthOptions::format where Synthesise can write it
  std::string licence;  // of the folder's README.md front matter, or empty
  bool random = false;  // moraine synth wrote it: its routers choose evenly
};

/// `source`: a Hugging Face folder, the path of a config.json, or a name of KnownNames(). Reads headers, no
/// weights. For what is no folder, `format` (SynthOptions::format; empty: as published, as config.json says)
/// is the format of its weights, and headers are written to a temporary folder that is gone on return. A
/// folder with only a config.json counts as that file. kUsage for an unknown name, and for a format with a
/// checkpoint, which has its own.
Result<FitModel> OpenFitModel(const std::string& source, const std::string& format);

/// True when moraine synth wrote the folder: its routers choose evenly. False for what cannot be read.
bool IsSynthetic(const std::string& folder);

}  // namespace moraine::tools
