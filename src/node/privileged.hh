// The privileged half of geckod (docs/adr/0004): holds CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_NET_BIND_SERVICE, parses nothing that
// comes from the network, and carries out the commands of wire/ipc.hh after checking that they stay inside the groups it was started for.
//
// When the other half goes away without a word it makes the machine safe and ends: frozen connections go on here (unless ownership had
// left: those stay frozen, their applications offer them to the next geckod), restored ones that never became active end silently.
#pragma once

#include <map>
#include <set>
#include <unordered_map>

#include "bpf/gate.hh"
#include "bpf/gate_sender.hh"
#include "bpf/steering.hh"
#include "net/announce.hh"
#include "net/channel.hh"
#include "net/tun.hh"
#include "node/handoff_journal.hh"
#include "node/hold_injector.hh"
#include "node/options.hh"
#include "tcp/connection.hh"
#include "wire/ipc.hh"

namespace gecko::node {

class Privileged {
 public:
  struct Kernel {                 // made by setup() while still root
    bpf::Steering steering;
    net::Tun hold_device;         // injected packets go in here
    std::vector<bpf::GroupSteering> groups;     // by group index
    std::vector<net::Interface> interfaces;     // by group index: where the group address is announced
    std::optional<bpf::Gate> gate;              // a group asks for recovery
    Fd lease_map;                 // the gate's, for the lease keeper; none: no port is protected
  };
  // `watchdog`: when its loop does not turn for so long it is killed; zero: never.
  Privileged(const Options& options, Kernel kernel, Fd command_socket, HandoffJournal& journal, std::chrono::seconds watchdog = {});
  ~Privileged();
  int run();                      // until the other half closes the socket; exit code

 private:
  struct Held {
    Fd fd;
    Flow flow;
    tcp::Frozen frozen;
    wire::TcpState state;
    bool is_frozen = false;       // else restored
    uint32_t slot = HandoffJournal::kNoSlot;   // frozen: in the ring of the given; restored: of the taken
    ConnId id;
    uint32_t next_seq = 0;        // restored: what it expects from its peer
  };

  void frame(const wire::FrameView& frame, std::vector<Fd>& fds);
  void on_freeze(const wire::IpcFreeze& m, Fd fd);
  void on_thaw(const wire::IpcToken& m);
  void on_ahead(wire::IpcAhead&& m);
  void on_adopt(const wire::IpcAdopt& m, Fd fd);
  void on_retire(const wire::IpcRetire& m);
  void ask_client(int fd);
  void on_restore(const wire::IpcRestore& m);
  void on_activate(const wire::IpcToken& m);
  void on_listen(const wire::IpcListen& m);
  void on_socket(const wire::IpcSocket& m);
  void on_contact(const wire::IpcContact& m);
  Status take_address(size_t group, bool take);
  void on_syn_slots(const wire::IpcSynSlots& m);
  void on_near(const wire::IpcNear& m);
  void on_end_sockets(const wire::IpcSocket& m);
  void on_keeper(const wire::IpcToken& m);
  void on_reload_keys(const wire::IpcToken& m);
  void make_safe();
  void keep_hold();
  void keep_gate();
  std::vector<int> note_interfaces();
  void on_protect_port(const wire::IpcPort& m);
  void on_unprotect_port(const wire::IpcPort& m);
  void on_nudge(const wire::IpcNudge& m);
  void on_probe(const wire::IpcPacket& m);
  Status may_protect(const wire::IpcPort& m) const;
  const bpf::GateSender* sender(uint16_t group);
  Status barrier(const Flow& flow);
  Status may_hold(uint64_t token, uint16_t group, const Flow& flow, int fd) const;
  void refuse(wire::IpcType type, uint64_t token, const Error& error);

  const Options& options_;
  HandoffJournal& journal_;
  Kernel kernel_;
  const std::chrono::seconds watchdog_;
  net::Loop loop_;
  std::unique_ptr<HoldInjector> injector_;
  std::unique_ptr<net::Announcer> announcer_;
  std::unique_ptr<net::Channel> channel_;
  std::unordered_map<uint64_t, Held> held_;
  std::unordered_map<uint64_t, wire::Bytes> ahead_;   // received bytes that came before their state
  size_t ahead_bytes_ = 0;
  void forget_ahead(uint64_t token);
  uint16_t next_outbound_ = 0;
  std::set<int> gated_;                               // interfaces that were there when looked at last
  std::map<int, bpf::GateSender> senders_;            // by interface
};

}  // namespace gecko::node
