#include "tools/fit_model.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/core/file.h"
#include "runtime/core/json_guard.h"
#include "runtime/core/printable.h"
#include "storage/convert/known_shapes.h"
#include "storage/convert/synth.h"
#include "tools/temporary_folder.h"

namespace moraine::tools {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostConfigBytes = int64_t{4} << 20;

// A folder in memory where there is one: on a disk, headers of 163 shards are waited for. Empty: the usual.
std::string PlaceForHeaders() {
  const char* memory = "/dev/shm";
  return std::getenv("TMPDIR") == nullptr && ::access(memory, W_OK | X_OK) == 0 ? memory : "";
}

Result<Checkpoint> OpenHeadersOf(const std::string& config, const std::string& format) {
  MORAINE_ASSIGN_OR_RETURN(const TemporaryFolder folder,
                           TemporaryFolder::Create(PlaceForHeaders(), "fitcheck"));
  MORAINE_RETURN_IF_ERROR(
      Synthesise({.config_text = config, .format = format, .sparse = true}, folder.path(), {}));
  return Checkpoint::Open(folder.path());
}

// What config.json says its weights are stored in, as Synthesise names it; experts stay as the rest when it
// says nothing that Synthesise can write.
std::string StatedFormat(const std::string& config) {
  auto json = ParseJson(config, "config.json");
  if (!json.has_value() || !json->is_object()) return "bf16";
  const auto quantised = json->find("quantization_config");
  if (quantised == json->end() || !quantised->is_object()) return "bf16";
  const auto method = quantised->find("quant_method");
  return method != quantised->end() && *method == "fp8" ? "fp8" : "bf16";
}

// The format of a checkpoint's experts, as Synthesise names it where it can write it.
std::string FormatOfExperts(const Checkpoint& checkpoint) {
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    if (tensor.tensor_class != TensorClass::kRouted) continue;
    return tensor.format == WeightFormat::kFp8E4M3Block ? "fp8" : FormatName(tensor);
  }
  return "bf16";
}

// "license:" of the README's front matter, which is how Hugging Face folders state it.
std::string LicenceOf(const std::string& folder) {
  constexpr int64_t kMostReadmeBytes = int64_t{1} << 20;
  auto text = ReadText(folder + "/README.md", kMostReadmeBytes);
  if (!text.has_value() || text->rfind("---", 0) != 0) return "";
  const size_t end = text->find("\n---", 3);
  const size_t at = text->find("\nlicense:");
  if (end == std::string::npos || at == std::string::npos || at > end) return "";
  const size_t begin = text->find_first_not_of(" \t", at + std::strlen("\nlicense:"));
  return Printable(text->substr(begin, text->find('\n', begin) - begin), 80);
}

}  // namespace

bool IsSynthetic(const std::string& folder) {
  const auto config = ReadText(fmt::format("{}/config.json", folder), kMostConfigBytes);
  return config.has_value() && config->find("\"moraine_synth\"") != std::string::npos;
}

Result<FitModel> OpenFitModel(const std::string& source, const std::string& format) {
  std::error_code ignored;
  const bool folder = fs::is_directory(source, ignored);
  const std::string inside = source + "/config.json";
  const bool bare = folder && fs::is_regular_file(inside, ignored) &&
                    !fs::exists(source + "/model.safetensors", ignored) &&
                    !fs::exists(source + "/model.safetensors.index.json", ignored);
  if (folder && !bare) {
    if (!format.empty()) {
      return Fail(ErrorKind::kUsage, fmt::format("--format {}: {} is a checkpoint and has its own; give its "
                                                 "config.json to ask about another",
                                                 Printable(format, 40), Printable(source)));
    }
    MORAINE_ASSIGN_OR_RETURN(std::string config, ReadText(inside, kMostConfigBytes));
    MORAINE_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(source));
    std::string stored = FormatOfExperts(checkpoint);
    return FitModel{.name = source,
                    .origin = "folder",
                    .checkpoint = std::move(checkpoint),
                    .config = std::move(config),
                    .format = std::move(stored),
                    .licence = LicenceOf(source),
                    .random = IsSynthetic(source)};
  }
  if (folder || fs::is_regular_file(source, ignored)) {
    MORAINE_ASSIGN_OR_RETURN(std::string config, ReadText(folder ? inside : source, kMostConfigBytes));
    std::string chosen = format.empty() ? StatedFormat(config) : format;
    MORAINE_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenHeadersOf(config, chosen));
    return FitModel{.name = source,
                    .origin = "config.json",
                    .checkpoint = std::move(checkpoint),
                    .config = std::move(config),
                    .format = std::move(chosen),
                    .licence = ""};
  }
  auto known = FindKnownModel(source);
  if (!known.has_value()) {
    return Fail(ErrorKind::kUsage,
                fmt::format("{}: no folder, no config.json and none of the models known by name ({})",
                            Printable(source), KnownNames()));
  }
  std::string chosen = format.empty() ? known->format : format;
  MORAINE_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenHeadersOf(known->config, chosen));
  return FitModel{.name = source,
                  .origin = "built in",
                  .checkpoint = std::move(checkpoint),
                  .config = std::move(known->config),
                  .format = std::move(chosen),
                  .licence = ""};
}

}  // namespace moraine::tools
