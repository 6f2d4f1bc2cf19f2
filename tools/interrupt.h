// Ctrl-C as a flag that long work asks for.
#pragma once

namespace moraine::tools {

/// From now on the first SIGINT or SIGTERM sets a flag instead of ending the process; the second ends it at
/// once (130).
void CatchInterrupts();
/// True once a signal came in.
bool Interrupted();
/// From now on SIGHUP sets a flag instead of ending the process.
void CatchHangups();
/// True once for each time, or times, it came in since the last call.
bool TakeHangup();
/// Forgets an interrupt: the next question of a chat starts anew.
void ClearInterrupt();

}  // namespace moraine::tools
