// Which process of a node is which: what tests and benches kill, stop and look into. By name, as the kernel has it now: ask again after a restart.
#pragma once

#include <sys/types.h>

#include <string>

#include "lab/lab.hh"

namespace gecko::kit {

enum class Half { unprivileged, privileged };
// Each: -1 when it does not run.
pid_t geckod(const lab::Lab& lab, const std::string& node, Half half);
pid_t lease_keeper(const lab::Lab& lab, const std::string& node);
pid_t process_named(const lab::Lab& lab, const std::string& node, const std::string& program);
// "Uid", "CapEff", ... of /proc/PID/status; empty: no such line.
std::string status_line(pid_t pid, const std::string& key);
bool is_gone(pid_t pid);  // or a zombie of which no thread is left: its sockets are closed

}  // namespace gecko::kit
