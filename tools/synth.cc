// moraine synth: a checkpoint of real geometry and random weights.
#include "storage/convert/synth.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "runtime/core/file.h"
#include "storage/convert/known_shapes.h"
#include "tools/commands.h"
#include "tools/interrupt.h"
#include "tools/progress_bar.h"

namespace moraine::tools {
namespace {

struct Flags {
  std::string shape;
  std::string folder;
  SynthOptions synth;
};

Status RunSynth(Flags& flags) {
  constexpr int64_t kMostBytes = int64_t{4} << 20;
  if (std::filesystem::is_regular_file(flags.shape)) {
    MORAINE_ASSIGN_OR_RETURN(flags.synth.config_text, ReadText(flags.shape, kMostBytes));
  } else {
    MORAINE_ASSIGN_OR_RETURN(KnownModel known, FindKnownModel(flags.shape));
    flags.synth.config_text = std::move(known.config);
  }
  MORAINE_RETURN_IF_ERROR(Synthesise(flags.synth, flags.folder, ProgressBar("writing")));
  fmt::print("{}: {}, seed {}{}\n", flags.folder, flags.synth.format, flags.synth.seed,
             flags.synth.sparse ? ", sparse: to be inspected, not run" : "");
  return {};
}

}  // namespace

void AddSynth(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "synth", "Write a checkpoint of a model's geometry with random weights, to measure with");
  command->add_option("SHAPE", flags->shape, KnownNames() + ", or a config.json")->required();
  command->add_option("DIR", flags->folder, "Folder to make (or an empty one)")->required();
  command->add_option("--layers", flags->synth.layers,
                      "Layers in all, the dense ones first; no MTP layers (default: the shape's, MTP too)");
  command
      ->add_option("--format", flags->synth.format,
                   "fp8 and bf16: every projection; int8-g128, int4-g64, int4-g32, ...: routed\n"
                   "experts, the rest BF16")
      ->capture_default_str();
  command->add_option("--seed", flags->synth.seed, "Same seed, same bytes")->capture_default_str();
  command
      ->add_option("--skew", flags->synth.skew,
                   "Deviation of the router's correction bias; the busiest tenth of R1's experts\n"
                   "does 12 % of the work at 0, 33 % at 0.05, 65 % at 0.2, 97 % at 0.5")
      ->capture_default_str();
  command->add_flag("--sparse", flags->synth.sparse, "Headers over holes: takes no space, cannot be run");
  command->callback([flags, exit_code] {
    CatchInterrupts();
    if (const Status status = RunSynth(*flags); !status.has_value()) *exit_code = Report(status.error());
  });
}

}  // namespace moraine::tools
