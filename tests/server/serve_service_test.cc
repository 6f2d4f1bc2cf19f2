// moraine serve and a service manager: what it is told, when it is fed, and the units that are shipped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "runtime/core/file.h"
#include "tests/support/http_client.h"
#include "tests/support/served_process.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kTiny = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";

// The manager's end of NOTIFY_SOCKET.
class Manager {
 public:
  Manager() : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  std::string path() const { return folder_ / "notify"; }
  // The next message; empty after `patience` without one.
  std::string Next(std::chrono::milliseconds patience = std::chrono::seconds(30)) const {
    pollfd wait = {fd_.get(), POLLIN, 0};
    std::array<char, 1024> text{};
    if (::poll(&wait, 1, static_cast<int>(patience.count())) != 1) return "";
    const ssize_t got = ::recv(fd_.get(), text.data(), text.size(), 0);
    return {text.data(), static_cast<size_t>(std::max<ssize_t>(got, 0))};
  }
  // The first that has `what` in it, or the empty one after which none came.
  std::string Until(const std::string& what) const {
    std::string message = Next();
    while (!message.empty() && message.find(what) == std::string::npos) message = Next();
    return message;
  }

 private:
  TempFolder folder_;
  Handle<FdTraits> fd_;
};

TEST(ServeService, IsToldOfAReloadFromBeginToEnd) {
  const Manager manager;
  ServedProcess server(kTiny, {.environment = {"NOTIFY_SOCKET=" + manager.path()}});
  EXPECT_THAT(manager.Until("READY=1"), HasSubstr("STATUS=ready"));
  server.Signal(SIGHUP);
  EXPECT_THAT(manager.Next(), AllOf(HasSubstr("RELOADING=1"), HasSubstr("MONOTONIC_USEC=")));
  EXPECT_THAT(manager.Next(), HasSubstr("READY=1"));
  server.Signal(SIGTERM);
  EXPECT_THAT(manager.Next(), HasSubstr("STOPPING=1"));
  EXPECT_EQ(server.Wait(), 0) << server.said();
}

TEST(ServeService, FeedsTheWatchdogWhileTheEngineMoves) {
  const Manager manager;
  ServedProcess server(kTiny, {.arguments = {"--ctx", "100000"},
                               .environment = {"NOTIFY_SOCKET=" + manager.path(), "WATCHDOG_USEC=300000"}});
  manager.Until("READY=1");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(manager.Next(), "WATCHDOG=1") << "idle";
  HttpClient client = server.Client();
  client.SendPost("/v1/chat/completions",
                  R"({"messages": [{"role": "user", "content": "Hi"}], "ignore_eos": true, "stream": true})");
  ASSERT_TRUE(client.ReadUntil("data: "));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(manager.Next(), "WATCHDOG=1") << "at work";
}

TEST(ServeService, WithoutAWatchdogNothingIsFed) {
  const Manager manager;
  ServedProcess server(
      kTiny, {.environment = {"NOTIFY_SOCKET=" + manager.path(), "WATCHDOG_USEC=300000", "WATCHDOG_PID=1"}});
  manager.Until("READY=1");
  EXPECT_EQ(manager.Next(std::chrono::milliseconds(500)), "");
}

// The shipped units, with the binary that was built in place of the installed one.
TEST(ServeService, TheShippedUnitsAreWhatSystemdUnderstands) {
  if (std::system("command -v systemd-analyze >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "there is no systemd-analyze here";
  const TempFolder folder;
  const std::string units = std::string(MORAINE_SOURCE_DIR) + "/tools/systemd/";
  std::string service = ReadFile(units + "moraine.service");
  const std::string installed = "/usr/local/bin/moraine";
  const size_t at = service.find("ExecStart=" + installed);
  ASSERT_NE(at, service.npos);
  service.replace(at + 10, installed.size(), MORAINE_BINARY_DIR "/bin/moraine");
  const auto verify = [&](const std::string& text) {
    WriteFile(folder / "moraine.service", text);
    WriteFile(folder / "moraine.socket", ReadFile(units + "moraine.socket"));
    const std::string command = "systemd-analyze verify --man=no " + (folder / "moraine.service") + " " +
                                (folder / "moraine.socket") + " >" + (folder / "out") + " 2>&1";
    const int status = std::system(command.c_str());
    const std::string said = ReadFile(folder / "out");
    return status == 0 ? said : "failed: " + said;
  };
  const std::string said = verify(service);
  if (said.find("Failed to initialize manager") != said.npos) GTEST_SKIP() << said;
  EXPECT_EQ(said, "");
  EXPECT_NE(verify(service + "\n[Service]\nNoSuchKey=1\n"), "") << "verify finds nothing here";
}

}  // namespace
}  // namespace moraine::test
