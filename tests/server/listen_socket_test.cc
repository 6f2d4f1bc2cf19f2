// Where the server listens: addresses, modes, leftovers, and what it must not replace.
#include "runtime/server/http/listen_socket.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>

#include "runtime/server/http/http_server.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

mode_t ModeOf(const std::string& path) {
  struct stat found = {};
  EXPECT_EQ(::lstat(path.c_str(), &found), 0) << path;
  return found.st_mode & 07777u;
}

Result<ListenSocket> OpenUnix(const std::string& path) {
  return ListenSocket::Open({.is_unix = true, .path = path, .host = "", .port = 0});
}

// A server that died: its socket file without anyone behind it.
void LeaveSocket(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(fd);
}

TEST(ListenAddress, IsAPathOrAHostWithItsPort) {
  EXPECT_EQ(ParseListenAddress("unix:/run/x")->path, "/run/x");
  EXPECT_EQ(ParseListenAddress("/run/x")->path, "/run/x");
  EXPECT_TRUE(ParseListenAddress("here.sock")->is_unix);
  EXPECT_EQ(ParseListenAddress("127.0.0.1:80")->port, 80);
  EXPECT_EQ(ParseListenAddress("[::1]:8080")->host, "::1");
  for (const char* bad : {"", "unix:", "localhost", ":80", "a:b", "a:-1", "a:65536", "a:1x", "::1:80"}) {
    const auto parsed = ParseListenAddress(bad);
    ASSERT_FALSE(parsed.has_value()) << bad;
    EXPECT_EQ(parsed.error().kind, ErrorKind::kUsage);
  }
}

TEST(ListenSocket, IsPrivateFromItsFirstMomentAndGoesWithItsOwner) {
  const TempFolder folder;
  const std::string path = folder / "new/s.sock";
  {
    const auto socket = OpenUnix(path);
    ASSERT_TRUE(socket.has_value()) << socket.error().message;
    EXPECT_EQ(ModeOf(folder / "new"), 0700u);
    EXPECT_EQ(ModeOf(path), 0600u);
    EXPECT_TRUE(socket->is_local());
    EXPECT_EQ(socket->name(), "unix:" + path);
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST(ListenSocket, ReplacesALeftoverAndNothingElse) {
  const TempFolder folder;
  const std::string path = folder / "s.sock";
  LeaveSocket(path);
  auto live = OpenUnix(path);
  ASSERT_TRUE(live.has_value()) << live.error().message;

  const auto second = OpenUnix(path);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(second.error().message, HasSubstr("a server listens there already"));
  EXPECT_TRUE(fs::exists(path));

  const std::string file = folder / "file";
  WriteFile(file, "precious");
  const auto refused = OpenUnix(file);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("is no socket"));
  EXPECT_EQ(ReadFile(file), "precious");
}

TEST(ListenSocket, LeavesAnothersSocketAtItsPath) {
  const TempFolder folder;
  const std::string path = folder / "s.sock";
  {
    const auto socket = OpenUnix(path);
    ASSERT_TRUE(socket.has_value());
    fs::remove(path);
    LeaveSocket(path);
  }
  EXPECT_TRUE(fs::exists(path));
}

TEST(ListenSocket, RefusesAFolderOthersWriteToAndAPathTooLong) {
  const TempFolder folder;
  fs::create_directory(folder / "open");
  ASSERT_EQ(::chmod((folder / "open").c_str(), 0777), 0);
  const auto open = OpenUnix(folder / "open/s.sock");
  ASSERT_FALSE(open.has_value());
  EXPECT_THAT(open.error().message, HasSubstr("others may write to it"));
  const auto longer = OpenUnix(folder / std::string(120, 'x'));
  ASSERT_FALSE(longer.has_value());
  EXPECT_THAT(longer.error().message, HasSubstr("holds 107"));
  EXPECT_FALSE(OpenUnix(folder / "no/such/s.sock").has_value());
}

TEST(ListenSocket, TcpSaysItsPortAndWhetherOthersReachIt) {
  const auto local = ListenSocket::Open(*ParseListenAddress("127.0.0.1:0"));
  ASSERT_TRUE(local.has_value()) << local.error().message;
  EXPECT_TRUE(local->is_local());
  EXPECT_NE(local->name(), "127.0.0.1:0");
  auto taken = ListenSocket::Open(*ParseListenAddress(local->name()));
  EXPECT_FALSE(taken.has_value());

  auto every = ListenSocket::Open(*ParseListenAddress("0.0.0.0:0"));
  ASSERT_TRUE(every.has_value()) << every.error().message;
  EXPECT_FALSE(every->is_local());
  std::vector<ListenSocket> sockets;
  sockets.push_back(std::move(*every));
  const auto started = HttpServer::Start(std::move(sockets), {}, {});
  ASSERT_FALSE(started.has_value());
  EXPECT_THAT(started.error().message, HasSubstr("needs an API key"));
}

TEST(ListenSocket, AdoptsWhatListensAndNothingElse) {
  const TempFolder folder;
  const auto socket = OpenUnix(folder / "s.sock");
  const auto adopted = ListenSocket::Adopt(::dup(socket->fd()));
  ASSERT_TRUE(adopted.has_value());
  EXPECT_TRUE(adopted->is_unix());
  EXPECT_FALSE(ListenSocket::Adopt(::socket(AF_UNIX, SOCK_STREAM, 0)).has_value());
}

}  // namespace
}  // namespace moraine::test
