#include "kit/node_processes.hh"

#include <fstream>

#include "lab/daemon.hh"
#include "lab/net_namespace.hh"

namespace gecko::kit {

std::string status_line(pid_t pid, const std::string& key) {
  std::ifstream text("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(text, line);)
    if (line.starts_with(key + ":")) {
      const size_t at = line.find_first_not_of(" \t", key.size() + 1);
      return at == std::string::npos ? "" : line.substr(at);
    }
  return {};
}

pid_t geckod(const lab::Lab& lab, const std::string& node, Half half) {
  const auto* const host = lab.find(node);
  if (host == nullptr) return -1;
  for (const pid_t pid : lab::geckods_in(host->network_namespace))
    if ((status_line(pid, "Name") == "geckod: priv") == (half == Half::privileged)) return pid;
  return -1;
}

pid_t lease_keeper(const lab::Lab& lab, const std::string& node) { return process_named(lab, node, "geckod: lease"); }

pid_t process_named(const lab::Lab& lab, const std::string& node, const std::string& program) {
  const auto* const host = lab.find(node);
  if (host == nullptr) return -1;
  for (const pid_t pid : lab::processes_in(host->network_namespace))
    if (status_line(pid, "Name") == program) return pid;
  return -1;
}

bool is_gone(pid_t pid) {
  const std::string state = status_line(pid, "State");
  // The first thread of a killed program is a zombie while its others still hold their sockets open (20 ms were seen on a busy machine).
  return state.empty() || (state.front() == 'Z' && status_line(pid, "Threads") == "1");
}

}  // namespace gecko::kit
