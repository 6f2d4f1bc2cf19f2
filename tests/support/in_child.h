// Runs something in a process of its own, whose limits may be lowered without harm to other tests.
#pragma once

#include <functional>
#include <string>

namespace moraine::test {

/// What `body` returns there: its findings, "" for none. A child that crashes or hangs (60 s) is a finding.
std::string InChild(const std::function<std::string()>& body);

/// For use in a child.
/// Makes `number`'s calls fail with `error`; with `flags`, only those that have one of them in argument
/// `argument`. False when the system does not let us.
bool ForbidCall(int number, int error, int argument = 0, unsigned flags = 0);
/// Becomes nobody: no capability lifts a limit any more.
bool BecomeNobody();
/// Sets a resource limit (RLIMIT_...), soft and hard.
bool Limit(int resource, unsigned long long value);

}  // namespace moraine::test
