// Which node a connection goes to. Derive from Policy and override select_target(), or use a built-in one.
//
// The contact node's framework asks the policy about every new client; a client that is to live elsewhere is handed off in the background
// and accept() does not return it. handoff() without a target asks it too. Calls are serialised; they come from whichever thread is inside
// the library and must not make calls that wait (foreground handoffs, join and the like: Errc::busy).
// Where the group file names a policy, clients have been spread at their first packet already: built-in ones are not asked about them again.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gecko/socket.hh>

namespace gecko {

struct Member {
  std::string name, address;
  bool up = false, self = false, contact = false;
  uint32_t connections = 0;    // owned by that node in this group; for policies plus what was sent there since its last report
  uint32_t applications = 0;   // joined there; 0: it cannot take a connection
  uint32_t weight = 1;         // of new connections, from the group file
};

class Policy {
 public:
  // accept: every new client of the contact node. asked: only handoff() without a target.
  // first_bytes: every new client, on the node that has accepted it, when its first bytes are there: look with socket.peek(). accept() returns it
  // afterwards, or never; nobody waits meanwhile.
  enum class When { accept, asked, first_bytes };
  virtual ~Policy() = default;
  virtual When when() const { return When::accept; }   // read once, by set_policy()
  // true: not asked about new clients where the group file names a policy, because that one has spread them already. Read once.
  virtual bool only_unplaced() const { return false; }
  // For first_bytes, read once too: it decides when enough() says so, so many bytes are there, the client sends no more, or the time is over.
  virtual uint32_t first_bytes() const { return 4096; }                                          // at most 65536
  virtual std::chrono::milliseconds patience() const { return std::chrono::milliseconds(1000); }   // 1 ms to 60 s
  virtual bool enough(std::string_view bytes) { return !bytes.empty(); }
  // The name of one of `members` (only nodes that can take the connection), or nothing: stay here.
  virtual std::optional<std::string> select_target(const Socket& socket, const std::vector<Member>& members) = 0;
  // A handoff to `target` failed; the connection is unharmed.
  virtual void notify_failed_handoff(const std::string& target, const Error& why) { (void)target, (void)why; }
};

namespace detail {

inline Member from_c(const gecko_member& m) {
  return Member{m.name, m.address, m.up != 0, m.self != 0, m.contact != 0, m.connections, m.applications, m.weight};
}
inline gecko_member to_c(const Member& m) {
  gecko_member c{};
  std::strncpy(c.name, m.name.c_str(), sizeof c.name - 1);
  std::strncpy(c.address, m.address.c_str(), sizeof c.address - 1);
  c.up = m.up;
  c.self = m.self;
  c.contact = m.contact;
  c.connections = m.connections;
  c.applications = m.applications;
  c.weight = m.weight;
  return c;
}

class BuiltinPolicy : public Policy {
 public:
  explicit BuiltinPolicy(const char* name) { gecko_policy_open(name, &policy_); }
  ~BuiltinPolicy() override { gecko_policy_close(policy_); }
  BuiltinPolicy(const BuiltinPolicy&) = delete;
  BuiltinPolicy& operator=(const BuiltinPolicy&) = delete;
  bool only_unplaced() const override { return true; }
  std::optional<std::string> select_target(const Socket& socket, const std::vector<Member>& members) override {
    std::vector<gecko_member> all;
    all.reserve(members.size());
    for (const Member& m : members) all.push_back(to_c(m));
    const int chosen = gecko_policy_select_for(policy_, socket.handle(), all.data(), all.size());
    if (chosen < 0) return std::nullopt;
    return members[static_cast<size_t>(chosen)].name;
  }

 private:
  gecko_policy* policy_ = nullptr;
};

}  // namespace detail

class Random : public detail::BuiltinPolicy {
 public:
  Random() : BuiltinPolicy("random") {}
};
class RoundRobin : public detail::BuiltinPolicy {
 public:
  RoundRobin() : BuiltinPolicy("round-robin") {}
};
class LeastConnections : public detail::BuiltinPolicy {
 public:
  LeastConnections() : BuiltinPolicy("least-connections") {}
};

// By the weights in the group file, exactly.
class Weighted : public detail::BuiltinPolicy {
 public:
  Weighted() : BuiltinPolicy("weighted") {}
};
// A client's address has its node.
class HashClient : public detail::BuiltinPolicy {
 public:
  HashClient() : BuiltinPolicy("hash-client") {}
};

}  // namespace gecko
