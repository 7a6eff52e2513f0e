// A small network of namespaces for the steering tests and the forward benchmark:
//
//   client ---- router ---- switch (bridge) ---- n0, n1, n2
//
// Every node has the group's addresses on lo; the router sends them to n0, the contact. Used by tests/steering and bench only.
// Needs root. Everything is removed in the destructor, and what a killed run left is removed by the next one.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/address.hh"
#include "base/fd.hh"

namespace gecko::lab_test {

// Removes namespaces of runs that were killed: their names are `family`, a process id, "-" and a role.
void remove_stale(const std::string& family);

class NetLab {
 public:
  static constexpr int kNodes = 3;
  static constexpr const char* kNic = "eth0";   // of the client and of every node
  static constexpr const char* kHold = "gkhold";

  // `prefix`: of the namespaces' names, "gkt-...".
  static Result<std::unique_ptr<NetLab>> build(const std::string& prefix);
  ~NetLab();
  NetLab(const NetLab&) = delete;
  NetLab& operator=(const NetLab&) = delete;

  static Address group(bool v4);
  static Address client_address(bool v4);
  static Address underlay(int node);  // IPv6
  std::string node(int i) const { return prefix_ + "n" + std::to_string(i); }
  std::string client() const { return prefix_ + "client"; }
  std::string router() const { return prefix_ + "router"; }

  // Runs `work` on a thread inside the namespace and waits for it.
  static void in(const std::string& ns, const std::function<void()>& work);
  // A shell command inside the namespace; its failure is an error with what it said.
  static Status run(const std::string& ns, const std::string& command);
  static Fd socket_in(const std::string& ns, int family, int type, int protocol = 0);
  static int ifindex(const std::string& ns, const char* name);
  // A TUN with IFF_NO_PI | IFF_VNET_HDR and segmentation offload, up, as geckod opens it.
  static Result<Fd> open_hold(const std::string& ns);

 private:
  explicit NetLab(std::string prefix) : prefix_(std::move(prefix)) {}
  Status setup();
  std::string prefix_;
};

}  // namespace gecko::lab_test
