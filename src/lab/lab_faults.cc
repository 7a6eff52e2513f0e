// What a lab does to its nodes, and how they are.
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <fstream>

#include "lab/daemon.hh"
#include "lab/lab.hh"
#include "lab/net_namespace.hh"

namespace gecko::lab {
namespace {

// Reads, and when `set` is given changes, whether an interface of the calling thread's namespace is up.
Result<bool> link_up(const std::string& interface, const bool* set) {
  const Fd any(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  interface.copy(request.ifr_name, sizeof request.ifr_name - 1);
  if (!any || ioctl(any.get(), SIOCGIFFLAGS, &request) != 0) return os_error("read the state of " + interface);
  if (set != nullptr) {
    request.ifr_flags = static_cast<short>(*set ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
    if (ioctl(any.get(), SIOCSIFFLAGS, &request) != 0) return os_error("change the state of " + interface);
  }
  return (request.ifr_flags & IFF_UP) != 0;
}

bool is_stopped(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  const size_t end = line.rfind(") ");  // the program's name before it may hold anything
  return end != std::string::npos && end + 2 < line.size() && line[end + 2] == 'T';
}

Status nothing_runs(const std::string& node) { return make_error(Errc::not_found, "nothing runs on " + node); }

}  // namespace

std::string_view to_string(NodeState state) {
  switch (state) {
    case NodeState::up: return "up";
    case NodeState::cut: return "cut";
    case NodeState::paused: return "paused";
    case NodeState::down: return "down";
  }
  return "unknown";
}

Result<const Host*> Lab::node(const std::string& name) const {
  const Host* host = find(name);
  if (host == nullptr || !host->is_node) {
    return make_error(Errc::not_found, "'" + name + "' is no node of lab '" + options_.name + "'; its nodes are n1 to n" + std::to_string(options_.nodes) +
                                           (options_.witness ? " and w" : ""));
  }
  return host;
}

Status Lab::kill(const std::string& name) {
  GECKO_TRY(const Host* host, node(name));
  return kill_processes(host->network_namespace);
}

Status Lab::start(const std::string& name) {
  GECKO_TRY(const Host* host, node(name));
  if (!geckods_in(host->network_namespace).empty()) return make_error(Errc::exists, "geckod runs on " + name + " already; 'gecko lab kill " + name + "' first");
  if (!options_.daemons) return make_error(Errc::unsupported, "lab '" + options_.name + "' was made without daemons: it has no keys for them");
  GECKO_TRY(const std::string program, find_program("geckod"));
  return start_geckod(*this, *host, program);
}

Status Lab::pause(const std::string& name) {
  GECKO_TRY(const Host* host, node(name));
  return signal_processes(host->network_namespace, SIGSTOP) > 0 ? Status() : nothing_runs(name);
}

Status Lab::resume(const std::string& name) {
  GECKO_TRY(const Host* host, node(name));
  return signal_processes(host->network_namespace, SIGCONT) > 0 ? Status() : nothing_runs(name);
}

Status Lab::set_cable(const std::string& name, bool up) {
  GECKO_TRY(const Host* host, node(name));
  return inside("router", [&]() -> Status {
    auto done = link_up(host->name, &up);  // the router's port is named like the node
    if (!done) return std::move(done.error());
    return {};
  });
}
Status Lab::cut(const std::string& name) { return set_cable(name, false); }
Status Lab::heal(const std::string& name) { return set_cable(name, true); }

Result<NodeState> Lab::state(const std::string& name) const {
  GECKO_TRY(const Host* host, node(name));
  bool connected = false;
  GECKO_CHECK(inside("router", [&]() -> Status {
    auto up = link_up(host->name, nullptr);
    if (!up) return std::move(up.error());
    connected = *up;
    return {};
  }));
  const auto pids = options_.daemons ? geckods_in(host->network_namespace) : processes_in(host->network_namespace);
  if (options_.daemons && pids.empty()) return NodeState::down;
  if (std::any_of(pids.begin(), pids.end(), is_stopped)) return NodeState::paused;
  return connected ? NodeState::up : NodeState::cut;
}

Status Lab::wait_ready(Duration at_most, const std::vector<std::string>& among, const std::function<bool()>& interrupted) const {
  const Time deadline = monotonic_now() + at_most;
  const auto wanted = among.empty() ? geckods() : among;
  for (const auto& name : wanted) {
    GECKO_TRY(const Host* host, node(name));
    for (Status look = look_ready(*this, name, wanted); !look; look = look_ready(*this, name, wanted)) {
      const bool dead = geckods_in(host->network_namespace).empty();
      if (dead || monotonic_now() > deadline) {
        return make_error(dead ? Errc::unavailable : Errc::timeout, (dead ? "geckod on " + name + " has ended" : "lab not ready: " + look.error().message) +
                                                                         "; the last line of its log: " + last_line(log(name)));
      }
      if (interrupted && interrupted()) return make_error(Errc::closed, "interrupted");
      poll(nullptr, 0, 5);  // the socket may not be there yet, and geckod announces no readiness elsewhere
    }
  }
  return {};
}

}  // namespace gecko::lab
