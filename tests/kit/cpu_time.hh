// CPU time of processes, in nanoseconds, from the scheduler's own books (/proc/PID/task/*/schedstat): all threads, user and system,
// with the interrupt work that the kernel books to them. Network work done in ksoftirqd or in another process's time is not in it.
#pragma once

#include <sys/types.h>

#include <vector>

#include "base/clock.hh"
#include "base/result.hh"

namespace gecko::kit {

// Errors: not_found (a process has ended).
Result<Duration> cpu_time(const std::vector<pid_t>& processes);

}  // namespace gecko::kit
