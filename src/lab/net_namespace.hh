// A named network namespace (/run/netns/NAME, as iproute2 keeps them) and the processes in it.
// Everything here needs root. Namespaces are identified by device and inode, never by a recorded pid.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "base/clock.hh"
#include "base/fd.hh"
#include "base/result.hh"

namespace gecko::lab {

bool namespace_exists(const std::string& name);
Result<Fd> open_namespace(const std::string& name);
// Takes the name away; the namespace goes once no process is in it. A name that is not there is fine.
Status remove_namespace(const std::string& name);

// Runs `work` on a thread of its own that has entered the namespace: sockets it opens and /proc/sys/net belong there.
Status in_namespace(const std::string& name, const std::function<Status()>& work);

// Living processes (zombies have left), our own excepted.
std::vector<pid_t> processes_in(const std::string& name);
// Sends the signal to every process in the namespace; returns how many got it.
size_t signal_processes(const std::string& name, int number);
// SIGKILL until none is left, new ones included. Errors: timeout (a process that hangs in the kernel).
Status kill_processes(const std::string& name, Duration at_most = std::chrono::seconds(5));

}  // namespace gecko::lab
