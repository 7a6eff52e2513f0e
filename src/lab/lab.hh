// A lab: client, router and nodes as network namespaces of this machine, with a geckod on every node. For the demo, the benches, the
// system tests and `gecko lab`. Needs root (or the capabilities SYS_ADMIN and NET_ADMIN).
//
//   auto lab = Lab::up({.name = "storm", .nodes = 3});         // ready: every geckod answers and sees all others
//   auto server = (*lab)->run("n1", {"./server"}, {.pipe_out = true});
//   (*lab)->cut("n2");
//
// A Lab that was brought up is taken down by its destructor unless keep() was called; one that was opened is left alone. Whatever
// happens, its journal is enough for a later down(). Labs with different names live side by side. Use a Lab from one thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hh"
#include "lab/link_messages.hh"
#include "lab/process.hh"
#include "lab/topology.hh"

namespace gecko::lab {

inline constexpr const char* kLabRoot = "/run/gecko/lab";

enum class NodeState { up, cut, paused, down };  // down: no geckod there (never so in a lab without daemons)
std::string_view to_string(NodeState state);

// geckod is up in half a second; on a machine with four times as much to do as it has processors it has taken ten.
inline constexpr Duration kStartPatience = std::chrono::seconds(30);

class Lab {
 public:
  // `interrupted` is asked now and then; true ends the attempt (and removes what was made) with Errc::closed.
  // Errors: exists (a lab of that name, whole or half), permission, unavailable (no geckod found), timeout (geckods not ready).
  static Result<std::unique_ptr<Lab>> up(const LabOptions& options, const std::function<bool()>& interrupted = {});
  static Result<std::unique_ptr<Lab>> open(const std::string& name);  // not_found; also opens a half-made one
  static std::vector<std::string> list();                             // names, also of half-made labs
  ~Lab();
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  const LabOptions& options() const { return options_; }
  bool complete() const { return complete_; }            // false: left over from an interrupted `up`
  const std::vector<Host>& hosts() const { return hosts_; }
  const Host* find(const std::string& host) const;
  std::vector<std::string> nodes() const;                // n1..nN: those that serve
  std::vector<std::string> geckods() const;              // and w, if there is a witness
  Address group_address() const { return lab::group_address(options_); }
  Endpoint group() const { return {group_address(), options_.ports.front()}; }
  std::string directory() const { return std::string(kLabRoot) + "/" + options_.name; }
  std::string group_file() const { return directory() + "/group.toml"; }
  std::string socket(const std::string& node) const { return directory() + "/" + node + "/geckod.sock"; }
  std::string log(const std::string& node) const { return directory() + "/" + node + "/geckod.log"; }
  // GECKO_GROUP_FILE, GECKO_GROUP_ADDRESS, GECKO_GROUP_PORT, GECKO_LAB; on a node also GECKO_SOCKET and GECKO_NODE.
  std::vector<std::string> environment(const std::string& host) const;

  // In the host's namespace with its environment. The options' net_namespace is set here.
  Result<Process> run(const std::string& host, const std::vector<std::string>& argv, SpawnOptions options = {}) const;
  Result<Output> output(const std::string& host, const std::vector<std::string>& argv, Duration at_most = std::chrono::seconds(30)) const;
  Status enter(const std::string& host) const;           // this thread, for good: what `gecko lab exec` does before exec
  Status inside(const std::string& host, const std::function<Status()>& work) const;  // on a thread of its own, waited for

  // The faults. kill: SIGKILL to every process in the node's namespace; start: a new geckod there.
  // cut/heal: the node's cable, at the bridge: its addresses stay. pause/resume: SIGSTOP/SIGCONT.
  Status kill(const std::string& node);
  Status start(const std::string& node);
  Status pause(const std::string& node);
  Status resume(const std::string& node);
  Status cut(const std::string& node);
  Status heal(const std::string& node);
  Result<NodeState> state(const std::string& node) const;
  // Links (docs/adr/0023): what the packets of a pair suffer on their way, each direction by itself; a pair is two nodes, or a node and the client.
  // The settings replace former ones and count packets from 0; without a link, packets take the plain way. link and unlink hold for both
  // directions unless `one_way`. Clearing what is not there is fine. Errors: not_found (a host), limit, unavailable (the wire has ended).
  Status link(const std::string& from, const std::string& to, const LinkFaults& faults, bool one_way = false) const;
  Status unlink(const std::string& from, const std::string& to, bool one_way = false) const;
  Status unlink_all() const;
  Result<std::vector<LinkReport>> links() const;         // each direction; unavailable: there were some, and their wire has ended

  // Waits until the geckods of these nodes (empty: all, the witness too) answer and each sees every one of them.
  Status wait_ready(Duration at_most = kStartPatience, const std::vector<std::string>& among = {},
                    const std::function<bool()>& interrupted = {}) const;

  void keep() { mine_ = false; }
  // Ends all processes in it, removes namespaces, files and the journal. Twice is fine. Errors: busy (an `up` still works on it).
  static Status down(const std::string& name);
  Status down();

 private:
  explicit Lab(LabOptions options);
  Status build(int lock);
  Status make_keys();
  Status set_cable(const std::string& node, bool up);
  Status unlink(std::vector<Direction> directions) const;
  Result<const Host*> node(const std::string& name) const;

  LabOptions options_;
  std::vector<Host> hosts_;
  bool complete_ = false;
  bool mine_ = false;
};

}  // namespace gecko::lab
