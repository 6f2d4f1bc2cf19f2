// What a service manager and its service say to each other: systemd's protocol, without its library.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/result.h"

namespace moraine::tools {

/// Sends lines such as "READY=1" or "STATUS=loading" to the socket of NOTIFY_SOCKET; nothing where there is
/// none. Waits a second at most for one that reads slowly. Source: sd_notify(3).
void NotifyService(const std::string& lines);

/// How often the service manager wants to hear "WATCHDOG=1" of this process (WATCHDOG_USEC, WATCHDOG_PID);
/// empty: never. Source: sd_watchdog_enabled(3).
std::optional<std::chrono::microseconds> WatchdogInterval();

/// Sockets that were opened for this process (LISTEN_PID, LISTEN_FDS); empty: none. The variables are taken
/// away, so that no child believes them. kUsage: the count is no number. Source: sd_listen_fds(3).
Result<std::vector<int>> TakeListenFds();

}  // namespace moraine::tools
