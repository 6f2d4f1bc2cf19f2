// moraine inspect: what a model folder holds, and whether it is whole.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "storage/checkpoint.h"
#include "tools/commands.h"
#include "tools/inspect_report.h"
#include "tools/kernel_report.h"

namespace moraine::tools {
namespace {

struct Options {
  std::string model;
  bool json = false;
  bool check_tensors = false;
  bool tensors = false;
  bool mtp = false;
  bool kernels = false;
  std::string isa = "auto";
};

Status Run(const Options& options) {
  if (options.kernels) {
    MORAINE_ASSIGN_OR_RETURN(const nlohmann::ordered_json kernels, KernelsJson(options.isa));
    fmt::print("{}{}", options.json ? kernels.dump() : KernelsText(kernels), options.json ? "\n" : "");
    return {};
  }
  if (options.model.empty())
    return Fail(ErrorKind::kUsage, "give a MODEL folder, or --kernels (moraine inspect --help)");
  MORAINE_ASSIGN_OR_RETURN(const Checkpoint checkpoint,
                           Checkpoint::Open(options.model, {.mtp = options.mtp}));
  if (options.check_tensors) MORAINE_RETURN_IF_ERROR(CheckValues(checkpoint));
  if (options.json) {
    nlohmann::ordered_json report = ReportJson(checkpoint, options.tensors);
    report["values_checked"] = options.check_tensors;
    fmt::print("{}\n", report.dump());
  } else {
    fmt::print("{}", ReportText(checkpoint, options.tensors));
    if (options.check_tensors) fmt::print("values     all finite\n");
  }
  return {};
}

}  // namespace

void AddInspect(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "inspect", "Checks a model folder and prints its shape, tensor classes, bytes and formats.");
  command->add_option("MODEL", options->model, "Hugging Face model folder");
  command->add_flag("--json", options->json, "Print one JSON object");
  command->add_flag("--check-tensors", options->check_tensors,
                    "Read every weight and refuse NaN and infinite values");
  command->add_flag("--tensors", options->tensors, "List every tensor too");
  command->add_flag("--mtp", options->mtp, "Take the MTP layers too; an error when there are none");
  command->add_flag("--kernels", options->kernels,
                    "List the kernels and oneDNN products of this CPU instead");
  command->add_option("--isa", options->isa, "With --kernels: as run's")->capture_default_str();
  command->callback([options, exit_code] {
    const Status status = Run(*options);
    *exit_code = status ? 0 : Report(status.error());
  });
}

}  // namespace moraine::tools
