// Who speaks in the group's name, and when: a tap at the router's port of every node's cable. It hears what has passed the node's gate, before a link of the
// lab does anything to it. For tests that nothing leaves a node without a lease, and that no two nodes ever speak for one connection.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lab/lab.hh"
#include "wire_tap.hh"

namespace gecko::system_test {

using bpf::BootClock, bpf::BootTime;

class Speakers {
 public:
  static Result<std::unique_ptr<Speakers>> listen(const lab::Lab& lab);
  // No more is heard; only now can be asked. Errors: internal, a tap has lost packets: it proves nothing.
  Status stop();

  // Packets of the node's.
  size_t said(const std::string& node, BootTime from, BootTime until) const;
  // The same, of connections for which it had spoken before `owned`: new ones that it has since are not meant. `first`: the first of them, in words.
  size_t said_of_former(const std::string& node, BootTime owned, BootTime from, BootTime until, std::string* first = nullptr) const;
  // Of each connection for which a node has spoken again after another one had: "", or who, when. (A connection that is moved back is one, too.)
  std::string taken_back() const;

 private:
  explicit Speakers(Address group) : group_(group) {}
  const Address group_;
  std::map<std::string, std::unique_ptr<lab_test::WireTap>> taps_;
  std::map<std::string, std::vector<lab_test::Tapped>> heard_;   // by node; each in order
};

}  // namespace gecko::system_test
