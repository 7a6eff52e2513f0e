// Membership of this process in one group. Every node's server opens one, joins, and listens.
//
// Default: a background thread keeps the conversation with geckod going. Options::event_loop: no thread; poll fd() and call dispatch().
// When geckod restarts, the framework reconnects, joins and announces its connections by itself; calls that need geckod fail with
// Errc::unavailable meanwhile, connections go on.
// The framework must outlive its server sockets' use; sockets that are open when it is destroyed go on, but no longer move.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <gecko/policy.hh>

namespace gecko {

class Framework {
 public:
  struct Options {
    bool event_loop = false;
    std::string interface;   // informative: geckod owns the interfaces. Empty: the group file's
    std::string daemon;      // geckod's socket. Empty: $GECKO_SOCKET, else /run/gecko/geckod.sock
    std::string program;     // name for 'gecko status'. Empty: the process's
  };
  // `group`: a group's name, or its file (contains '/' or ends in .toml), which is read only for the name.
  static Result<Framework> open(const std::string& group, const Options& options) {
    gecko_options o{};
    o.size = sizeof o;
    o.flags = options.event_loop ? GECKO_EVENT_LOOP : 0;
    const auto text = [](const std::string& s) { return s.empty() ? nullptr : s.c_str(); };
    o.interface = text(options.interface);
    o.daemon = text(options.daemon);
    o.program = text(options.program);
    gecko_framework* handle = nullptr;
    const int rc = gecko_framework_open(group.c_str(), &o, &handle);
    if (rc < 0) return detail::last_error(rc);
    return Framework(handle);
  }
  static Result<Framework> open(const std::string& group) { return open(group, Options()); }
  Framework() = default;
  Framework(Framework&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Framework& operator=(Framework&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Framework() { gecko_framework_close(handle_); }
  gecko_framework* handle() const { return handle_; }

  Status join() { return detail::status(gecko_framework_join(handle_)); }     // from now on connections may arrive
  Status leave() { return detail::status(gecko_framework_leave(handle_)); }   // no new ones; its own go on and can still move
  // Clients that are here although no program has accepted them: silent ones that a policy waits for, ones on their way by its word, arrivals.
  size_t unaccepted() const { return gecko_framework_unaccepted(handle_); }
  int fd() const { return gecko_framework_fd(handle_); }
  Status dispatch() { return detail::status(gecko_framework_dispatch(handle_)); }
  bool is_connected() const { return gecko_framework_is_connected(handle_) != 0; }

  std::string group() const { return gecko_framework_group(handle_); }
  std::string address() const { return gecko_framework_address(handle_); }    // of the group; empty before join()
  std::string node() const { return gecko_framework_node(handle_); }          // this node's name; empty before join()
  std::string interface() const { return gecko_framework_interface(handle_); }
  std::vector<uint16_t> ports() const {
    std::vector<uint16_t> all(gecko_framework_ports(handle_, nullptr, 0));
    gecko_framework_ports(handle_, all.data(), all.size());
    return all;
  }
  Result<std::vector<Member>> members() const {
    return members_by([&](gecko_member* raw, size_t max) { return gecko_framework_members(handle_, raw, max); });
  }
  // The same; `applications` is 0 of nodes that have none for this port.
  Result<std::vector<Member>> members_on(uint16_t port) const {
    return members_by([&](gecko_member* raw, size_t max) { return gecko_framework_members_on(handle_, port, raw, max); });
  }
  Status set_contact(const std::string& node) { return detail::status(gecko_framework_set_contact(handle_, node.c_str())); }

  // A built-in one by its name in gecko-group.toml(5), hash-bytes too; "none": no policy.
  Status set_builtin_policy(const std::string& builtin) { return detail::status(gecko_framework_set_builtin_policy(handle_, builtin.c_str(), 0)); }
  // nullptr: no policy. The framework shares ownership.
  void set_policy(std::shared_ptr<Policy> policy) {
    if (!policy) {
      gecko_framework_set_builtin_policy(handle_, nullptr, 0);
      return;
    }
    using Shared = std::shared_ptr<Policy>;
    gecko_policy_calls calls{};
    calls.size = sizeof calls;
    const auto when = policy->when();
    calls.flags = when == Policy::When::asked ? GECKO_POLICY_WHEN_ASKED : when == Policy::When::first_bytes ? GECKO_POLICY_WHEN_FIRST_BYTES : 0;
    if (policy->only_unplaced()) calls.flags |= GECKO_POLICY_ONLY_UNPLACED;
    calls.first_bytes = policy->first_bytes();
    calls.first_bytes_timeout_ms = static_cast<uint32_t>(std::clamp<int64_t>(policy->patience().count(), 1, 60'000));
    calls.enough = [](void* arg, const void* bytes, size_t size) noexcept {
      return (*static_cast<Shared*>(arg))->enough({static_cast<const char*>(bytes), size}) ? 1 : 0;
    };
    calls.select_target = [](void* arg, gecko_socket* handle, const gecko_member* members, size_t count) noexcept {
      std::vector<Member> all;
      all.reserve(count);
      for (size_t i = 0; i < count; ++i) all.push_back(detail::from_c(members[i]));
      Socket socket(handle);
      const auto target = (*static_cast<Shared*>(arg))->select_target(socket, all);
      (void)socket.release();
      for (size_t i = 0; target && i < count; ++i)
        if (all[i].name == *target) return static_cast<int>(i);
      return -1;
    };
    calls.notify_failed_handoff = [](void* arg, const char* target, int code, const char* message) noexcept {
      (*static_cast<Shared*>(arg))->notify_failed_handoff(target, Error{static_cast<Errc>(-code), message});
    };
    calls.destroy = [](void* arg) noexcept { delete static_cast<Shared*>(arg); };
    gecko_framework_set_policy(handle_, &calls, new Shared(std::move(policy)));
  }

  bool recovers() const { return gecko_framework_recovers(handle_) != 0; }   // the group file says so: checkpoints are of use
  // Which of a port's connections come here when their node has died; before listening there. Unsaid: those with a checkpoint. true: all, also without one.
  // false: none, they are not even protected.
  Status set_recovery(uint16_t port, bool wanted) { return detail::status(gecko_framework_set_recovery(handle_, port, wanted ? 1 : 0)); }

  // false, in a group with recovery = "replicated": this program's connections of the port are recovered as with "fast"; before listening there.
  Status set_replicated(uint16_t port, bool wanted) { return detail::status(gecko_framework_set_replicated(handle_, port, wanted ? 1 : 0)); }

  struct ClientOutcome {
    std::string client, from;   // the connection's endpoint; the node that owned it
    Errc code{};                // 0: moved
    std::string reason;
    bool moved() const { return static_cast<int>(code) == 0; }
  };
  // Moves all connections of a client ("ADDRESS:PORT" or "ADDRESS"), wherever they are.
  Result<std::vector<ClientOutcome>> handoff_client(const std::string& client, const std::string& target) {
    std::vector<gecko_client_outcome> raw(4096);  // what one answer of geckod can hold
    const int n = gecko_framework_handoff_client(handle_, client.c_str(), target.c_str(), raw.data(), raw.size());
    if (n < 0) return detail::last_error(n);
    std::vector<ClientOutcome> all;
    for (int i = 0; i < n && i < static_cast<int>(raw.size()); ++i) {
      const auto& o = raw[static_cast<size_t>(i)];
      all.push_back({o.client, o.from, static_cast<Errc>(-o.code), o.reason});
    }
    return all;
  }

  // An accepted connection on the group's address; takes the descriptor over on success.
  Result<Socket> adopt(int fd) {
    gecko_socket* socket = nullptr;
    const int rc = gecko_framework_adopt(handle_, fd, &socket);
    if (rc < 0) return detail::last_error(rc);
    return Socket(socket);
  }
  // A connection from the group's address ("[2001:db8::1]:443"), which can move like any other.
  Result<Socket> connect(const std::string& peer, Timeout timeout = Timeout(10'000)) {
    gecko_socket* socket = nullptr;
    const int rc = gecko_framework_connect(handle_, peer.c_str(), static_cast<int>(timeout.count()), &socket);
    if (rc < 0) return detail::last_error(rc);
    return Socket(socket);
  }

 private:
  template <class Call>
  static Result<std::vector<Member>> members_by(Call call) {
    std::vector<gecko_member> raw(64);  // a group's limit
    const int n = call(raw.data(), raw.size());
    if (n < 0) return detail::last_error(n);
    std::vector<Member> all;
    for (int i = 0; i < n && i < static_cast<int>(raw.size()); ++i) all.push_back(detail::from_c(raw[static_cast<size_t>(i)]));
    return all;
  }
  explicit Framework(gecko_framework* handle) : handle_(handle) {}
  gecko_framework* handle_ = nullptr;
};

}  // namespace gecko
