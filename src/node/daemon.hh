// The unprivileged half of geckod: everything that decides and everything that parses. Owns the event loop, the API socket, the node
// listener, the hold queue and the groups.
#pragma once

#include <list>

#include "node/event_waits.hh"
#include "node/group.hh"
#include "node/keeper_client.hh"
#include "node/link_listeners.hh"
#include "node/program_slots.hh"
#include "node/vital_signs.hh"

namespace gecko::node {

class Daemon {
 public:
  struct Descriptors {         // made while still root
    Fd privileged, api_listener, hold_device, flow_map, flow_setter, counter_map;
    std::vector<MemberState> states;   // by group index
    GateFeed::Descriptors gate;   // none: no group asks for recovery
  };
  Daemon(const Options& options, net::Loop& loop, Descriptors descriptors, HandoffJournal& journal);
  ~Daemon();
  // `contexts` by group index. Binds the node listeners (ports over 1023, so no privilege is needed).
  Status start(std::vector<std::shared_ptr<net::TlsContext>> contexts, ServiceManager manager = {});
  int run();

  const Options& options() const { return options_; }
  net::Loop& loop() { return loop_; }
  PrivilegedClient& privileged() { return privileged_; }
  HoldQueue& hold() { return hold_; }
  const HoldQueue& hold() const { return hold_; }
  bpf::FlowTable& flows() { return flows_; }
  HandoffJournal& journal() { return journal_; }
  KeeperClient& keeper() { return keeper_; }
  GateFeed* gate() { return gate_.get(); }   // null: no group asks for recovery
  const GateFeed* gate() const { return gate_.get(); }
  const NodeNumbers& numbers() const { return numbers_; }
  const std::vector<std::unique_ptr<Group>>& groups() const { return groups_; }
  Events& events() { return events_; }
  const Events& events() const { return events_; }
  EventWaits& event_waits() { return event_waits_; }
  uint64_t incarnation() const { return incarnation_; }
  Time started() const { return started_; }
  Result<bpf::Counters> steering_counters() const { return bpf::read_counters(counter_map_.get()); }

  Result<Group*> find_group(const std::string& name) const;   // empty: the only one
  Status may_serve(const net::PeerCred& who, const config::GroupConfig& group) const;
  Status may_administer(const net::PeerCred& who, const config::GroupConfig& group) const;
  void forget(ApiSession* session);
  void handoff_in_flight();      // something was just sent: the answer is microseconds away
  void reload();                 // SIGHUP: keys
  void end();                    // SIGTERM: run() returns

 private:
  void accept_program();
  bool is_listed_anywhere(uint32_t uid);
  void reload_contexts();
  void sweep();
  const Options& options_;
  net::Loop& loop_;
  HandoffJournal& journal_;
  const NodeNumbers numbers_;
  const uint64_t incarnation_;
  const Time started_;
  bpf::FlowTable flows_;
  Fd counter_map_, api_listener_;
  PrivilegedClient privileged_;
  HoldQueue hold_;
  std::vector<MemberState> states_;
  KeeperClient keeper_;
  GateFeed::Descriptors gate_descriptors_;
  std::unique_ptr<GateFeed> gate_;
  Events events_;
  EventWaits event_waits_;
  std::vector<std::unique_ptr<Group>> groups_;
  LinkListeners link_listeners_;
  std::list<std::unique_ptr<ApiSession>> sessions_;
  ProgramSlots slots_;
  std::unique_ptr<VitalSigns> vital_signs_;
  std::map<uint32_t, bool> listed_;      // users, as of the last sweep: looking them up reads files
  Time refusal_logged_{};
  size_t refusals_unlogged_ = 0;
  int exit_code_ = 0;
};

// Largest packet that still fits the node network after encapsulation: the interface's MTU less an IPv6 header (RFC 2473).
inline constexpr uint16_t kEncapsulation = 40;

}  // namespace gecko::node
