// Any text -> model.safetensors.index.json and tensor names. No accepted shard name leaves the folder; a name
// that is read as a weight is that weight's name.
#include <string_view>

#include "storage/hf_names.h"
#include "storage/model_folder.h"
#include "tests/fuzz/storage_promises.h"

using moraine::ParsedName;
using moraine::fuzz::Expect;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto index = moraine::ParseIndex(text, "index");
  if (!index.has_value()) {
    moraine::fuzz::ExpectOneLine(index.error());
  } else {
    Expect(!index->empty(), "an index names tensors");
    for (const auto& [tensor, shard] : *index) {
      Expect(!shard.empty() && shard != "." && shard != "..", "a shard is a file");
      Expect(shard.find('/') == shard.npos && shard.find('\0') == shard.npos, "a shard is in the folder");
      const ParsedName name = moraine::ParseHfName(tensor);
      if (name.kind == ParsedName::Kind::kWeight)
        Expect(moraine::HfName(name.id) == tensor, "names read back");
    }
  }
  const ParsedName name = moraine::ParseHfName(text);
  if (name.kind != ParsedName::Kind::kOther && name.kind != ParsedName::Kind::kBias)
    Expect(moraine::PartName(name.id, name.kind) == text, "names read back");
  return 0;
}
