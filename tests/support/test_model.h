// Small well-formed model folders, to be loaded as they are or spoiled in one thing first.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/model_shape.h"
#include "tests/support/safetensors_writer.h"

namespace moraine::test {

enum class TestFamily {
  kV3,         // q_lora, groups, correction bias
  kMoonlight,  // V3 routing without groups and q_lora
  kV2,         // softmax, group_limited_greedy, q_lora
  kV2Lite,     // softmax, greedy, no q_lora
};

struct TestModelOptions {
  TestFamily family = TestFamily::kV3;
  /// A literal; of matrices: "F32", "F16", "BF16", "F8_E4M3" with scales in 16x16 blocks, or integers of
  /// compressed-tensors: "INT4" and "INT8" packed, "I8" plain.
  std::string_view dtype = "BF16";
  int64_t group = 2;   // of integers: columns to a scale (even sizes all divide by 2); 0: a row
  bool zeros = false;  // of integers: with zero points
  int32_t mtp_layers = 0;
  int shards = 1;
  uint32_t seed = 1;
};

/// A folder's contents. One shard is written as model.safetensors, more with an index.
struct TestModel {
  nlohmann::ordered_json config;
  nlohmann::ordered_json generation;  // null: no file
  std::vector<std::vector<TestTensor>> shards;
  std::vector<std::string> shard_names;

  TestTensor& Tensor(const std::string& name);
  const TestTensor& Tensor(const std::string& name) const;
  bool Has(const std::string& name) const;
  void Erase(const std::string& name);
  void Rename(const std::string& from, const std::string& to) { Tensor(from).name = to; }
  nlohmann::ordered_json Index() const;
  void Write(const std::string& folder) const;
};

/// 3 layers of which the first is dense, 8 experts, sizes that are no multiples of 16, random values.
TestModel MakeTestModel(const TestModelOptions& options = {});

/// The tensor's values as the format defines them, block scales of the model applied.
std::vector<float> ValuesOf(const TestModel& model, const std::string& name);

}  // namespace moraine::test
