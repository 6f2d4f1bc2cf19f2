#include "tools/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace moraine::tools {
namespace {

std::atomic<bool> interrupted{false};
std::atomic<bool> hung_up{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

void OnSignal(int) {
  if (interrupted.exchange(true)) _exit(130);
}

void OnHangup(int) { hung_up = true; }

}  // namespace

void CatchInterrupts() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  // No SA_RESTART: a read that waits for a question returns.
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

void CatchHangups() {
  struct sigaction action = {};
  action.sa_handler = OnHangup;
  action.sa_flags = SA_RESTART;
  sigaction(SIGHUP, &action, nullptr);
}

bool TakeHangup() { return hung_up.exchange(false); }

bool Interrupted() { return interrupted.load(); }
void ClearInterrupt() { interrupted.store(false); }

}  // namespace moraine::tools
