// moraine logits: the logits of every position, as a .npy file, for comparison with the published code.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <bit>
#include <cstdio>
#include <memory>
#include <string>

#include "runtime/core/handle.h"
#include "tools/commands.h"
#include "tools/engine_flags.h"
#include "tools/interrupt.h"

namespace moraine::tools {
namespace {

struct FileTraits {
  using Value = std::FILE*;
  static Value Empty() { return nullptr; }
  static void Close(Value file) noexcept { std::fclose(file); }
};

// Version 1.0 of the format (NEP 1): magic, length, a Python dictionary padded to 64 bytes, then the values.
std::string NpyHeader(int64_t rows, int64_t columns) {
  std::string text =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns);
  while ((10 + text.size() + 1) % 64 != 0) text += ' ';
  text += '\n';
  const auto length = static_cast<uint16_t>(text.size());
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(length & 0xFF) +
         static_cast<char>(length >> 8) + text;
}
static_assert(std::endian::native == std::endian::little, "values are written as they lie in memory");

struct Flags {
  EngineFlags engine;
  std::string prompt_ids;
  std::string ids_file;
  std::string out;
};

Status WriteFailed(const std::string& path) {
  return Fail(ErrorKind::kIo, fmt::format("{}: cannot be written (disk full, or no permission?)", path));
}

Status RunLogits(const Flags& flags) {
  if (flags.prompt_ids.empty() == flags.ids_file.empty()) {
    return Fail(ErrorKind::kUsage, "give the tokens once: --prompt-ids 5,17,... or --ids-file FILE");
  }
  MORAINE_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, flags.ids_file.empty()
                                                               ? ParseIds(flags.prompt_ids, "--prompt-ids")
                                                               : ReadIdsFile(flags.ids_file));
  MORAINE_ASSIGN_OR_RETURN(EngineOptions options, MakeEngineOptions(flags.engine));
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, Engine::Open(flags.engine.model, options));
  const int64_t count = static_cast<int64_t>(ids.size());
  if (count > engine->context()) {
    return Fail(ErrorKind::kUsage,
                fmt::format("{} tokens and a context of {}; raise --ctx (this model allows {})", count,
                            engine->context(), engine->shape().context));
  }
  const Handle<FileTraits> file(std::fopen(flags.out.c_str(), "wb"));
  if (!file) return WriteFailed(flags.out);
  const std::string header = NpyHeader(count, engine->shape().vocab);
  if (std::fwrite(header.data(), 1, header.size(), file.get()) != header.size())
    return WriteFailed(flags.out);
  Sequence sequence = engine->NewSequence();
  MORAINE_RETURN_IF_ERROR(
      engine->Score(&sequence, ids, [&](int64_t, std::span<const float> logits) -> Status {
        if (Interrupted())
          return Fail(ErrorKind::kInterrupted, fmt::format("stopped; {} is incomplete", flags.out));
        if (std::fwrite(logits.data(), sizeof(float), logits.size(), file.get()) != logits.size())
          return WriteFailed(flags.out);
        return {};
      }));
  if (std::fflush(file.get()) != 0) return WriteFailed(flags.out);
  fmt::print("{}: f32 [{}, {}]\n", flags.out, count, engine->shape().vocab);
  return {};
}

}  // namespace

void AddLogits(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  // This command exists to be compared, so its cache and its products keep what the published code keeps;
  // --kv-type bf16 and --activations auto show a run's rounding.
  flags->engine.policy.defaults = {{"context.kv_type", "f32"}, {"cpu.activations", "f32"}};
  CLI::App* command =
      app.add_subcommand("logits", "Write the logits of every position as .npy (f32 [positions, vocab])");
  AddEngineFlags(*command, &flags->engine);
  command->add_option("--prompt-ids", flags->prompt_ids,
                      "Token ids, decimal, comma-separated; nothing is prepended");
  command->add_option("--ids-file", flags->ids_file, "The same from a file");
  command->add_option("--out", flags->out, "File to write")->required();
  command->callback([flags, exit_code] {
    CatchInterrupts();
    if (const Status status = RunLogits(*flags); !status.has_value()) *exit_code = Report(status.error());
  });
}

}  // namespace moraine::tools
