// Other people's programs on the nodes of a lab, as children of this process: each with a log beside its node's, all gone with this object or with the
// thread that started them. And waits that say what did not come, and where the logs are. One thread.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/address.hh"
#include "lab/lab.hh"

namespace gecko::bench {

class LabPrograms {
 public:
  // The lab must outlive this.
  LabPrograms(const lab::Lab& lab, std::function<bool()> interrupted) : lab_(lab), interrupted_(std::move(interrupted)) {}

  Status start(const std::string& node, const std::string& name, const std::vector<std::string>& argv);
  bool has(const std::string& node, const std::string& name) const { return programs_.contains(node + "." + name); }
  lab::Process& at(const std::string& node, const std::string& name) { return programs_.at(node + "." + name); }
  lab::Process take(const std::string& node, const std::string& name);   // the caller's from now on
  std::string file(const std::string& name) const { return lab_.directory() + "/" + name; }

  // keepalived (VRRP only) with each node's keepalived.conf. Returns when `master` has the address and `backup` knows that: from then on it takes over
  // when told or after a silence.
  Status start_keepalived(const std::string& master, const std::string& backup, const std::string& address);
  bool has_address(const std::string& node, const std::string& address) const;
  Status wait_listening(const std::string& node, uint16_t port) const;   // on the node's own loopback address
  Status wait_until(const std::string& what, const std::function<bool()>& done, Duration at_most = std::chrono::seconds(15)) const;
  // Logs go with the lab. Copies them, and says to where (/tmp/gecko-NAME-logs).
  std::string keep_logs() const;

 private:
  const lab::Lab& lab_;
  std::function<bool()> interrupted_;
  std::map<std::string, lab::Process> programs_;  // "n1.haproxy"
};

}  // namespace gecko::bench
