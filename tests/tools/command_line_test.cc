// What is said of the command line: --help, --help-all, moraine manual and moraine completion.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <regex>
#include <set>
#include <sstream>

#include "tests/support/moraine_process.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Words = std::vector<std::string>;

std::string Out(Words words) {
  const ProcessResult result = RunMoraine(words);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return result.out;
}

Words With(Words words, const std::string& last) {
  words.push_back(last);
  return words;
}

// What stands first on the lines of `help` below "Subcommands:".
std::vector<std::string> CommandsIn(const std::string& help) {
  std::vector<std::string> names;
  std::smatch heading;
  // CLI11 2.5 writes its headings in capitals.
  if (!std::regex_search(help, heading, std::regex("\n(Subcommands|SUBCOMMANDS):"))) return names;
  std::istringstream lines(heading.suffix());
  for (std::string line; std::getline(lines, line);) {
    std::smatch found;
    if (std::regex_search(line, found, std::regex("^  ([a-z]+) "))) names.push_back(found[1]);
  }
  return names;
}

std::set<std::string> FlagsIn(const std::string& help) {
  std::set<std::string> flags;
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) {
    std::smatch found;
    if (std::regex_search(line, found, std::regex("^  (?:-[a-z], *)?(--[a-z-]+)"))) flags.insert(found[1]);
  }
  return flags;
}

// Every command of the program, those below others too.
std::vector<Words> Commands() {
  std::vector<Words> all = {{}};
  for (size_t i = 0; i < all.size(); ++i) {
    for (const std::string& name : CommandsIn(Out(With(all[i], "--help")))) all.push_back(With(all[i], name));
  }
  EXPECT_GT(all.size(), 18u);
  return all;
}

// The exit code of a shell's command, and what it printed.
std::pair<int, std::string> Shell(const std::string& command) {
  std::string out;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return {127, ""};
  char bytes[4096];
  for (size_t got; (got = std::fread(bytes, 1, sizeof bytes, pipe)) > 0;) out.append(bytes, got);
  const int status = ::pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 126, out};
}

bool Has(const std::string& program) { return Shell("command -v " + program).first == 0; }

TEST(Help, FitsAScreen) {
  for (const Words& command : Commands()) {
    const std::string help = Out(With(command, "--help"));
    EXPECT_LE(std::count(help.begin(), help.end(), '\n'), 40) << help;
    EXPECT_THAT(help, Not(HasSubstr("\n\n\n")));
    EXPECT_THAT(help, HasSubstr("Exit codes: 0 "));
  }
}

TEST(Help, AllHasWhatHelpLeavesOut) {
  const std::string some = Out({"serve", "--help"});
  const std::string all = Out({"serve", "--help-all"});
  const auto few = FlagsIn(some);
  const auto every = FlagsIn(all);
  EXPECT_EQ(few.count("--isa"), 0u);
  EXPECT_EQ(every.count("--isa"), 1u);
  EXPECT_TRUE(std::includes(every.begin(), every.end(), few.begin(), few.end()));
  EXPECT_THAT(some, AllOf(HasSubstr("--help-all"), Not(HasSubstr("MORAINE_SLOTS"))));
  EXPECT_THAT(all, HasSubstr("MORAINE_SLOTS"));
  EXPECT_THAT(Out({"logits", "--help"}), HasSubstr("--help-all")) << "the engine's flags";
  EXPECT_THAT(Out({"completion", "--help"}), Not(HasSubstr("--help-all"))) << "there is nothing more";
}

TEST(Manual, HasEveryCommandAndFlag) {
  for (const Words& command : Commands()) {
    Words words = command;
    words.insert(words.begin(), "manual");
    const std::string page = std::regex_replace(Out(words), std::regex(R"(\\-)"), "-");
    for (const std::string& name : CommandsIn(Out(With(command, "--help"))))
      EXPECT_THAT(page, HasSubstr("-" + name + " (1)\n"));
    for (const std::string& flag : FlagsIn(Out(With(command, "--help-all"))))
      EXPECT_THAT(page, HasSubstr(flag + "\\fR")) << words.back();
  }
  EXPECT_THAT(Out({"manual", "run"}), HasSubstr("MORAINE_CTX")) << "a variable of the policy";
  const std::string serve = Out({"manual", "serve"});
  for (const char* plain : {"help", "ui"}) EXPECT_THAT(serve, HasSubstr(fmt::format("{}\\fR\n", plain)));
  EXPECT_THAT(serve, HasSubstr("slots\\fR \\fITEXT\\fR\n"));
  EXPECT_EQ(RunMoraine({"manual", "nothing"}).exit_code, 2);
}

TEST(Manual, WritesEveryPageIntoAFolder) {
  const TempFolder folder;
  EXPECT_EQ(RunMoraine({"manual", "--into", folder.path()}).exit_code, 0);
  for (Words command : Commands()) {
    std::string path = folder / "moraine";
    for (const std::string& word : command) path += "-" + word;
    command.insert(command.begin(), "manual");
    EXPECT_EQ(ReadFile(path + ".1"), Out(command));
  }
  EXPECT_EQ(RunMoraine({"manual", "--into", folder / "none"}).exit_code, 5);
}

TEST(Manual, IsGoodRoff) {
  const TempFolder folder;
  const bool mandoc = Has("mandoc");
  const bool groff = Has("groff");
  if (!mandoc && !groff) GTEST_SKIP() << "neither mandoc nor groff is installed";
  for (const Words& command : Commands()) {
    Words words = command;
    words.insert(words.begin(), "manual");
    const std::string page = folder / "page.1";
    WriteFile(page, Out(words));
    for (const char* check : {"mandoc -Tlint -Wwarning", "groff -man -Tutf8 -ww -z"}) {
      if (check[0] == 'm' ? !mandoc : !groff) continue;
      const auto [code, said] = Shell(fmt::format("{} {}", check, page));
      EXPECT_EQ(code, 0) << said;
      EXPECT_EQ(said, "") << ReadFile(page);
    }
  }
}

TEST(Completion, HasEveryCommandAndFlagForEveryShell) {
  const std::string bash = Out({"completion", "bash"});
  const std::string zsh = Out({"completion", "zsh"});
  const std::string fish = Out({"completion", "fish"});
  for (const Words& command : Commands()) {
    std::string joined;
    for (const std::string& word : command) joined += (joined.empty() ? "" : " ") + word;
    const std::string help = Out(With(command, "--help"));
    // Each shell's part for this command.
    const auto part = [&](const std::string& script) {
      const size_t at = script.find("    '" + joined + "')", script.rfind("case $which in"));
      return script.substr(at, script.find(";;", at) - at);
    };
    for (const std::string& name : CommandsIn(help)) {
      EXPECT_THAT(part(bash), HasSubstr(name + " "));
      EXPECT_THAT(part(zsh), HasSubstr("'" + name + ":"));
      EXPECT_THAT(fish, HasSubstr(" -a " + name + " "));
    }
    for (const std::string& flag : FlagsIn(Out(With(command, "--help-all")))) {
      EXPECT_TRUE(std::regex_search(part(bash), std::regex(flag + "[ ']"))) << joined << flag;
      EXPECT_THAT(part(zsh), HasSubstr("'" + flag + ":")) << joined;
      const std::string seen = command.empty() ? "__fish_use_subcommand" : "from " + command.back();
      EXPECT_TRUE(std::regex_search(fish, std::regex(seen + "[^\\n]* -l " + flag.substr(2) + " ")))
          << joined << flag;
    }
  }
  EXPECT_EQ(RunMoraine({"completion", "csh"}).exit_code, 2);
}

TEST(Completion, TheShellsTakeIt) {
  const TempFolder folder;
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string script = folder / shell;
    WriteFile(script, Out({"completion", shell}));
    if (!Has(shell)) continue;
    const std::pair<int, std::string> fine{0, ""};
    EXPECT_EQ(Shell(fmt::format("{} -n {}", shell, script)), fine) << shell;
  }
  const auto completed = [&](const std::string& words, int at) {
    return Shell(fmt::format(
                     "bash -c 'source {}; COMP_WORDS=({}); COMP_CWORD={}; _moraine; echo ${{COMPREPLY[@]}}'",
                     folder / "bash", words, at))
        .second;
  };
  EXPECT_EQ(completed("moraine ser", 1), "serve\n");
  EXPECT_EQ(completed("moraine serve --list", 2), "--listen\n");
  EXPECT_EQ(completed("moraine serve models --al", 3), "--alias --allow-host --allow-origin\n");
  EXPECT_EQ(completed("moraine policy ch", 2), "check\n");
  EXPECT_EQ(completed("moraine policy check --he", 3), "--help --help-all\n");
  EXPECT_EQ(completed("moraine serve mod", 2), "\n") << "a file";
  if (Has("fish")) {
    const auto found =
        Shell(fmt::format("fish -c 'source {}; complete -C \"moraine serve --list\"'", folder / "fish"));
    EXPECT_THAT(found.second, HasSubstr("--listen\t"));
  }
}

}  // namespace
}  // namespace moraine::test
