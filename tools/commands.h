// The subcommands of bin/moraine: one function each, in the file of the same name.
#pragma once

#include "runtime/core/result.h"

namespace CLI {
class App;
}

namespace moraine::tools {

/// Adds one subcommand to `app`. When the user chose it, its callback runs it and leaves the exit code
/// (result.h) in *exit_code. Both outlive the parse.
void AddBench(CLI::App& app, int* exit_code);
void AddChat(CLI::App& app, int* exit_code);
void AddCompletion(CLI::App& app, int* exit_code);
void AddEval(CLI::App& app, int* exit_code);
void AddFitCheck(CLI::App& app, int* exit_code);
void AddInspect(CLI::App& app, int* exit_code);
void AddLogits(CLI::App& app, int* exit_code);
void AddManual(CLI::App& app, int* exit_code);
void AddPack(CLI::App& app, int* exit_code);
void AddPolicy(CLI::App& app, int* exit_code);
void AddRehearse(CLI::App& app, int* exit_code);
void AddReplay(CLI::App& app, int* exit_code);
void AddRun(CLI::App& app, int* exit_code);
void AddServe(CLI::App& app, int* exit_code);
void AddSynth(CLI::App& app, int* exit_code);
void AddTokenize(CLI::App& app, int* exit_code);
void AddTune(CLI::App& app, int* exit_code);

/// Prints "moraine: <message>" on stderr and returns the exit code of `error`.
int Report(const Error& error);

}  // namespace moraine::tools
