// moraine pack: a model again, its routed experts in another format.
#include "storage/convert/pack.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "tools/commands.h"
#include "tools/interrupt.h"
#include "tools/progress_bar.h"

namespace moraine::tools {
namespace {

struct Flags {
  std::string model;
  std::string out;
  std::string experts;
};

Status RunPack(const Flags& flags) {
  MORAINE_ASSIGN_OR_RETURN(const ExpertFormat format, ParseExpertFormat(flags.experts));
  MORAINE_ASSIGN_OR_RETURN(const PackReport report,
                           Pack(flags.model, flags.out, format, ProgressBar("packing")));
  fmt::print("{}: {} expert matrices in {}; {:.3f} GB of tensors, {:.3f} GB before\n", flags.out,
             report.experts, flags.experts, static_cast<double>(report.bytes_after) / 1e9,
             static_cast<double>(report.bytes_before) / 1e9);
  return {};
}

}  // namespace

void AddPack(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("pack", "Write a model again with its routed experts in another format");
  command->add_option("MODEL", flags->model, "Hugging Face model folder, unquantised or FP8")->required();
  command->add_option("OUT", flags->out, "Folder to make (or an empty one)")->required();
  command
      ->add_option("--experts", flags->experts,
                   "int8-g128, int8-g64, int8-g32, int8-row, int4-g128, int4-g64, int4-g32,\n"
                   "int4-row, bf16, f16, f32")
      ->required();
  command->footer(
      "Everything else is copied byte for byte. Integers are compressed-tensors pack-quantized,\n"
      "rounded to nearest; rows shorter than a group get one scale. docs/formats.md has figures.\n\n"
      "Exit codes: 0 ok, 2 usage, 3 model files, 5 I/O or internal, 130 interrupted.");
  command->callback([flags, exit_code] {
    CatchInterrupts();
    if (const Status status = RunPack(*flags); !status.has_value()) *exit_code = Report(status.error());
  });
}

}  // namespace moraine::tools
