// Reads every include of ours against the allowed arrows between rooms, and every source against its
// CMakeLists.txt.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace moraine {
namespace {

namespace fs = std::filesystem;

// Room -> rooms it may include besides itself. The same arrows as the CMake targets' LINKS.
const std::map<std::string, std::set<std::string>> kArrows = {
    {"runtime/core", {}},
    {"runtime/grammar", {"runtime/core"}},
    {"runtime/text", {"runtime/core"}},
    {"storage", {"runtime/core"}},
    {"policies", {"runtime/core"}},
    {"cpu", {"runtime/core"}},
    {"gpu", {"runtime/core"}},
    {"runtime", {"runtime/core", "storage", "policies", "cpu", "gpu"}},
    {"runtime/server", {"runtime", "runtime/core", "runtime/grammar", "runtime/text", "policies"}},
    {"tools",
     {"runtime", "runtime/core", "runtime/grammar", "runtime/text", "runtime/server", "storage", "policies",
      "cpu", "gpu"}},
};

// Libraries that may be seen in one place only; a door that named them would pass them on.
const std::map<std::string, std::set<std::string>> kPrivateLibraries = {
    {"CLI/", {"tools"}},     {"hwloc", {"cpu"}},   {"liburing", {"storage"}},      {"cuda", {"gpu"}},
    {"cublas", {"gpu"}},     {"oneapi/", {"cpu"}}, {"boost/", {"runtime/server"}}, {"toml++/", {"policies"}},
    {"histedit", {"tools"}},
};

// The room a path of ours lies in: the longest known prefix.
std::optional<std::string> RoomOf(const std::string& path) {
  std::string best;
  for (const auto& [room, allowed] : kArrows) {
    const bool inside = path.rfind(room, 0) == 0 && path.size() > room.size() && path[room.size()] == '/';
    if (inside && room.size() > best.size()) best = room;
  }
  return best.empty() ? std::nullopt : std::optional(best);
}

struct Include {
  std::string target;
  bool quoted;
};

std::vector<Include> IncludesOf(std::istream& text) {
  std::vector<Include> includes;
  for (std::string line; std::getline(text, line);) {
    std::istringstream words(line);
    std::string directive;
    std::string target;
    if (!(words >> directive >> target) || directive != "#include" || target.size() < 3) continue;
    includes.push_back({target.substr(1, target.size() - 2), target[0] == '"'});
  }
  return includes;
}

// What is wrong with `path` including `include`; empty when nothing is.
std::string Fault(const std::string& path, const Include& include) {
  const auto room = RoomOf(path);
  if (!room) return "";
  if (!include.quoted) {
    for (const auto& [library, rooms] : kPrivateLibraries) {
      if (include.target.rfind(library, 0) != 0 || rooms.count(*room) != 0) continue;
      return fmt::format("{} includes <{}>: only {} may", path, include.target, *rooms.begin());
    }
    return "";
  }
  const auto target = RoomOf(include.target);
  if (!target)
    return fmt::format("{} includes \"{}\", which is in no room (write paths from the root)", path,
                       include.target);
  if (*target == *room || kArrows.at(*room).count(*target) != 0) return "";
  return fmt::format("{} includes \"{}\": {} may not see {}", path, include.target, *room, *target);
}

std::vector<std::string> Sources() {
  std::vector<std::string> sources;
  for (const char* top : {"runtime", "cpu", "gpu", "storage", "policies", "tools"}) {
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(MORAINE_SOURCE_DIR) / top)) {
      static const std::set<std::string> kExtensions = {".h", ".cc", ".cu", ".cuh"};
      if (kExtensions.count(entry.path().extension().string()) == 0) continue;
      sources.push_back(fs::relative(entry.path(), MORAINE_SOURCE_DIR).string());
    }
  }
  return sources;
}

TEST(Layering, IncludesFollowTheArrows) {
  const auto sources = Sources();
  ASSERT_GT(sources.size(), 40u) << "looked in the wrong place: " << MORAINE_SOURCE_DIR;
  for (const std::string& path : sources) {
    std::ifstream file(fs::path(MORAINE_SOURCE_DIR) / path);
    for (const Include& include : IncludesOf(file)) EXPECT_EQ(Fault(path, include), "");
  }
}

TEST(Layering, TheCheckItselfSeesEachKindOfFault) {
  EXPECT_NE(Fault("cpu/a.cc", {"storage/checkpoint.h", true}), "");
  EXPECT_NE(Fault("runtime/core/a.h", {"runtime/engine.h", true}), "");
  EXPECT_NE(Fault("storage/a.cc", {"CLI/CLI.hpp", false}), "");
  EXPECT_NE(Fault("runtime/a.h", {"cuda_runtime.h", false}), "");
  EXPECT_NE(Fault("cpu/a.cc", {"kernel_table.h", true}), "");
  EXPECT_EQ(Fault("runtime/engine.cc", {"cpu/cpu_backend.h", true}), "");
  std::istringstream text("// #include \"x.h\"\n#include \"cpu/a.h\"\n  #include <vector>\n");
  EXPECT_EQ(IncludesOf(text).size(), 2u);
}

TEST(Layering, EverySourceIsBuilt) {
  for (const std::string& path : Sources()) {
    const fs::path source(path);
    if (source.extension() == ".h" || source.extension() == ".cuh") continue;
    // Named by its folder's CMakeLists.txt or, from a folder without one, by the folder above.
    const fs::path folder = fs::path(MORAINE_SOURCE_DIR) / source.parent_path();
    const fs::path list = fs::exists(folder / "CMakeLists.txt") ? folder : folder.parent_path();
    std::ifstream file(list / "CMakeLists.txt");
    std::stringstream text;
    text << file.rdbuf();
    // Kernels are listed by their ISA's name, which is the file's.
    EXPECT_TRUE(text.str().find(source.filename().string()) != std::string::npos ||
                text.str().find(fmt::format("kernels({}", source.stem().string())) != std::string::npos)
        << path << " is in no CMakeLists.txt";
  }
}

}  // namespace
}  // namespace moraine
