// The third process, `geckod: lease`: runs one core::Keeper per group, and nothing else (docs/adr/0017, "Lease keeper"). It answers and sends
// heartbeats, keeps this node's leases in the gate's memory, and goes on without geckod for restart_grace; a restarted geckod finds it by
// RUNTIME/lease.sock. Its death is the death of this node's life.
//
// Parses datagrams of 128 bytes whose seal it has checked, and messages of geckod. No capability, no file, a system call filter. What it
// says of a moment is taken from CLOCK_BOOTTIME *after* the datagram was read: a promise counts from later than the question was sent.
#pragma once

#include <map>

#include "bpf/lease_table.hh"
#include "core/keeper.hh"
#include "net/channel.hh"
#include "node/options.hh"
#include "wire/heartbeat_seal.hh"
#include "wire/keeper.hh"

namespace gecko::node {

inline constexpr const char* kLeaseProcess = "geckod: lease";
inline constexpr Duration kRestartGrace = std::chrono::seconds(5);

// Another digest is another keeper: it cannot go on with other groups, addresses or heartbeats.
uint64_t keeper_settings(const Options& options);

class LeaseKeeper {
 public:
  struct Sockets {                                 // made before it gave up what is needed to make them
    Fd listener;                                   // RUNTIME/lease.sock
    std::map<Endpoint, Fd> heartbeats;             // by own node address and link port
    uid_t owner = 0;                               // root's; a witness's keeper may be another user's
  };
  LeaseKeeper(const Options& options, Sockets sockets);
  int run();                                       // until geckod has been gone for too long, or says quit; exit code

 private:
  struct Key {
    uint32_t id = 0;
    wire::HeartbeatKey send{}, receive{};
  };
  struct Peer {
    Endpoint at;
    std::optional<Key> key, former;                // former: accepted until a heartbeat with the new one has come, or `former_until`
    Time former_until{};
    bool use_new = false;                          // the peer has the new one
    std::string serial;                            // of the certificate that the latest key came from
  };
  struct Group {
    Group(core::NodeIndex self, const core::KeeperSettings& settings, Time now) : keeper(self, settings, now) {}
    core::Keeper keeper;
    uint16_t index = 0;
    int socket = -1;
    std::map<core::NodeIndex, Peer> peers;
    // The lease in the gate. Another life is another term.
    uint64_t leased_life = 0;
    uint16_t term = 0;
    Time until = Time::min();
    bool in_table = false;                         // `term` is the row's
    wire::KeeperLease told;
    Time told_at = Time::min();
  };
  void accept();
  void frame(net::Channel* from, const wire::FrameView& frame, std::vector<Fd>& fds);
  bool understand(net::Channel* from, const wire::FrameView& frame, std::vector<Fd>& fds);
  void heartbeats(int socket);
  void heard(wire::ByteView datagram, int socket);
  void refused(const std::string& why);
  Group* group(uint16_t index) { return index < groups_.size() ? groups_[index].get() : nullptr; }
  void work();
  void carry_out(Group& g, const core::KeeperOutput& output);
  void send(Group& g, const wire::Heartbeat& heartbeat);
  void lease(Group& g, Time until);
  void tell_lease(Group& g, Time now);
  void map(const Fd& lease_map);
  template <wire::Message M>
  void tell(wire::KeeperType type, const M& message) {
    if (geckod_ != nullptr) geckod_->send(static_cast<uint16_t>(type), message);
  }

  const Options& options_;
  Sockets sockets_;
  net::Loop loop_;
  std::vector<std::unique_ptr<Group>> groups_;
  std::map<net::Channel*, std::unique_ptr<net::Channel>> channels_;
  net::Channel* geckod_ = nullptr;                 // which of them has greeted last
  std::optional<bpf::LeaseTable> table_;
  Time last_word_;
  net::Loop::TimerId timer_ = 0;
  uint64_t refused_ = 0, unsaid_ = 0;
  Time refusal_logged_ = Time::min();
};

// CLOCK_BOOTTIME.
Time boot_now();

}  // namespace gecko::node
