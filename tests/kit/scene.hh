// A lab with gecko-echo and gecko-stream running on every node: where benches, storms, the demo and system tests play.
//
// The group's first port is gecko-stream's, its second gecko-echo's. Unless another policy is asked for, connections move only when asked to.
// Everything is gone when the scene is, and lab journals allow a later clean-up whatever happens.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kit/operator.hh"
#include "lab/lab.hh"

namespace gecko::kit {

struct SceneOptions {
  std::string name;  // of the lab; a process id is appended
  bool ipv4 = false;
  int nodes = 3;
  bool witness = false;         // and w, which only votes
  uint32_t mbit = 0;  // rate of every router port; 0: unshaped
  int client_addresses = 1;
  std::string policy = "none";
  std::vector<uint32_t> weights = {};
  bool rebalance = false;
  bool two_available = false;   // two_nodes = "available"
  std::string recovery = "none";
  uint32_t backups = 1;
  uint32_t lease_ms = 0;   // 0: the group file's default
  bool fast_echo = false;  // gecko-echo does without replication
};

class Scene {
 public:
  // `interrupted` as in Lab::up. Errors: the lab's; not_found (a program is not beside the running one), timeout (one does not join).
  static Result<std::unique_ptr<Scene>> up(const SceneOptions& options, const std::function<bool()>& interrupted = {});

  const lab::Lab& lab() const { return *lab_; }
  Operator& ask() { return *operator_; }
  Endpoint stream() const { return {lab_->group_address(), kStreamPort}; }
  Endpoint echo() const { return {lab_->group_address(), kEchoPort}; }
  std::vector<std::string> nodes() const { return lab_->nodes(); }
  const std::vector<Address>& clients() const { return clients_; }  // addresses in the client's namespace, of the group's family
  std::function<Status()> in_client() const;                        // for Swarm::start
  std::vector<pid_t> processes(const std::string& node) const;      // geckod, all of it, and the applications
  std::vector<pid_t> applications(const std::string& node) const;
  // The node that has this connection now. Errors: not_found.
  Result<std::string> owner(const Endpoint& client);
  Status still_well() const;  // every process that was started still runs
  // "gecko-echo" or "gecko-stream", which does not run there (any more). From any thread.
  Status start_application(const std::string& node, const std::string& name);
  // Logs go with the lab. After a failure: copies them, and says to where (/tmp/gecko-NAME-logs).
  std::string keep_logs() const;

 private:
  static constexpr uint16_t kStreamPort = 8080, kEchoPort = 7007;
  Status start_programs();
  Status add_client_addresses(int count);

  std::unique_ptr<lab::Lab> lab_;
  std::unique_ptr<Operator> operator_;
  std::vector<Address> clients_;
  struct Program {
    std::string node, name;
    pid_t pid;
  };  // the lab ends them with its namespaces
  mutable std::mutex mutex_;
  std::vector<Program> programs_;
  bool fast_echo_ = false;
};

// Raises RLIMIT_NOFILE to its hard limit, for this process and all it starts. Returns the limit.
size_t raise_descriptor_limit();

}  // namespace gecko::kit
