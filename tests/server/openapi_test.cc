// openapi.json names what is served, all of it and nothing else.
#include "runtime/server/openapi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/core/version.h"
#include "runtime/server/api.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

using nlohmann::json;

json Document() { return json::parse(OpenApiJson()); }

TEST(OpenApi, IsTheFile) {
  const std::string file = ReadFile(MORAINE_SOURCE_DIR "/runtime/server/openapi.json");
  EXPECT_EQ(OpenApiJson(), file);
  EXPECT_EQ(Document()["openapi"], "3.1.0");
  EXPECT_EQ(Document()["info"]["version"], Version());
}

TEST(OpenApi, HasEveryEndpointAndNoOther) {
  std::vector<std::string> named;
  const json document = Document();
  for (const auto& [path, item] : document["paths"].items()) {
    for (const auto& [method, operation] : item.items()) {
      std::string upper = method;
      std::ranges::transform(upper, upper.begin(), [](char c) { return static_cast<char>(c - 'a' + 'A'); });
      named.push_back(upper + " " + path);
      EXPECT_TRUE(operation["responses"].contains("200")) << path;
      EXPECT_TRUE(operation["responses"].contains("default")) << path;
      const auto open = Api::OpenPaths();
      EXPECT_EQ(operation.contains("security"), std::ranges::find(open, path) != open.end()) << path;
    }
  }
  EXPECT_THAT(named, ::testing::UnorderedElementsAreArray(Api::Endpoints()));
}

// Every {"$ref": "#/..."} in `value` leads somewhere.
void CheckReferences(const json& document, const json& value) {
  if (value.is_object() && value.contains("$ref")) {
    const std::string target = value["$ref"].get<std::string>().substr(1);
    EXPECT_TRUE(document.contains(json::json_pointer(target))) << target;
  }
  if (!value.is_structured()) return;
  for (const json& inner : value) CheckReferences(document, inner);
}

TEST(OpenApi, ItsReferencesLeadSomewhere) {
  const json document = Document();
  CheckReferences(document, document);
  for (const auto& [name, schema] : document["components"]["schemas"].items()) {
    EXPECT_NE(OpenApiJson().find("schemas/" + name + "\""), std::string_view::npos)
        << name << " is nobody's" << schema;
  }
}

}  // namespace
}  // namespace moraine::test
