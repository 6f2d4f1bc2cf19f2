// The file that a search for a policy leaves behind.
#pragma once

#include <string>
#include <vector>

#include "policies/policy_resolve.h"
#include "tools/tune_axes.h"
#include "tools/tune_search.h"

namespace moraine::tools {

/// What [measured] says beside the figures.
struct TuneOrigin {
  std::string model;
  std::string fingerprint;  // of the machine
  std::string date;         // UTC, "2026-11-25"
  std::string prompts;      // "3 prompts of 128 random tokens, ..."
};

/// "io.depth 1 -> auto: 2.41 (2.38 2.41 2.44), kept": one line.
std::string TrialText(const std::vector<TuneKey>& keys, const TuneTrial& trial);

/// The policy that was found, as a file: what the user had set, with the values of `outcome.best`, under
/// comments that say what was tried; [measured] with fingerprint, date and figures. ParsePolicy reads it.
std::string TunedPolicyText(const ResolvedPolicy& user, const std::vector<TuneKey>& keys,
                            const TuneOutcome& outcome, const TuneOrigin& origin);

}  // namespace moraine::tools
