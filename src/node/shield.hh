// Protection of one group's connections on the node that owns them (docs/adr/0018, 0020): which ports the gate guards, every connection's entry
// there from its first packet to a minute after its end, and its mirror (node/mirroring.hh). Of replicated ones (docs/adr/0026) nothing is acknowledged
// that the backups do not have.
//
// Inert where the group asks for no recovery. What it is told comes from Group (applications, handoffs) and GateFeed (the gate's news); connections
// are known by their flow, as the gate knows them.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/stream_position.hh"
#include "node/gate_feed.hh"
#include "node/mirroring.hh"
#include "wire/api.hh"
#include "wire/tcp_state.hh"

namespace gecko::node {

class Group;
struct Connection;

class Shield {
 public:
  Shield(Group& group, Mirroring::Send send);
  ~Shield();

  bool on() const;                                // the group asks for recovery, and the gate is there
  Mirroring& mirroring() { return mirroring_; }
  const Mirroring& mirroring() const { return mirroring_; }

  // --- ports
  void guard(uint16_t port, bool replicated);     // before a program listens there
  void programs_changed();                        // the last one's going opens the port again
  bool guards(uint16_t port) const { return ports_.contains(port); }
  bool replicates(uint16_t port) const;

  // --- the gate's news
  void born(const bpf::Birth& birth);
  void moved(const Flow& flow);
  void looked();

  // --- an application's connections
  void named(const Connection& connection);       // it is this one; again: with another epoch
  // Its application has ended it. announced: it has said so before the kernel did; otherwise it may be that all of this node is being ended, whose
  // connections live on elsewhere: the end waits a moment.
  void ended(const Flow& flow, bool announced);
  void checkpoint(const Flow& flow, std::shared_ptr<const core::SavedState> saved);
  // What its program has read of a replicated one; of others nothing is kept.
  void input(const Flow& flow, const wire::AppInput& input);
  // Calls back when the backups have its input up to there and its checkpoints so far: at once if they have, or if it is not replicated.
  void when_stable(const Flow& flow, uint64_t offset, std::function<void()> then);
  const core::Replica* replica(const Flow& flow) const;
  std::optional<Mirroring::Progress> progress(const Flow& flow) const;   // nothing: it is not replicated
  void tell_where_it_stands(const Flow& flow, wire::Replica& replica) const;   // stable, told_*

  // --- handoffs
  // Acceptor, between restore and activate.
  struct Arrival {
    ConnId id;
    uint64_t epoch = 0;
    StreamBase base;                              // what came before it
    uint32_t ahead = 0;                           // so many bytes of its receive queue are not in the state
    std::optional<core::Replica> replica{};       // what it is recovered from, if its port's connections are replicated
    uint64_t stable = 0;                          // ... and input that the client may have been told we have,
    std::optional<std::pair<uint32_t, uint32_t>> told{};   // ... acknowledgement and end of the window, as it was told
  };
  Status arriving(const wire::TcpOutline& state, Arrival arrival);
  void arrived(const Flow& flow);
  void not_arrived(const Flow& flow);
  // Donor.
  void silence(const Flow& flow);                 // before COMMIT
  void speak(const Flow& flow);                   // it came back, before the thaw
  // It lives there. Returns it as a backup here would have it.
  std::optional<core::MirroredConnection> departed(const Flow& flow);

  // This machine's kernel may tell the client for a second that there is no such connection.
  void kernel_may_answer(const Flow& flow);
  void start();
  void lease_changed();                           // in the gate
  // Under a new term of the lease: it has been made sure that these connections are still ours (all of them, when no other node could own any).
  void confirm();
  void sweep(bool claimed);

  // --- for operators
  struct Report {
    size_t guarded = 0, mirrored = 0, kept = 0, ending = 0, replicated = 0;
    uint64_t births = 0, unnamed = 0, refused = 0;
  };
  Report report() const;
  // Empty: it is protected, a backup has it and its program can go on from there.
  std::string unprotected_because(const Connection& connection) const;

 private:
  enum class Stage { open, ending, ended };       // ending: a moment's wait
  struct Waiting {
    uint64_t offset = 0, checkpoints = 0;
    std::function<void()> then;
    bool is_over(const Mirroring::Progress& p) const { return p.stable >= offset && p.stable_checkpoints >= checkpoints; }
  };
  struct Guarded {
    Stage stage = Stage::open;
    uint32_t handle = 0;                          // 0: no mirror,
    std::string why;                              // ... because
    Time erase_at{};
    bool end_refused = false;                     // its FIN or RST, before the gate had an entry that could note it
    uint32_t first_out = 0, first_in = 0;         // as in the gate's entry
    std::optional<gecko_gated> silenced;
    // The clock that the client must have heard: the one of `told_until` has been acknowledged once told_until has.
    uint32_t told_clock = 0, told_until = 0;
    bool clock_waits = false;
    // Until it has arrived.
    std::optional<wire::TcpMirror> arriving;
    std::optional<core::Replica> replica;
    uint64_t stable = 0;
    ConnId id;
    uint64_t epoch = 0;
    std::deque<Waiting> waiting;                  // when_stable; each for no less than the one before
  };
  struct Newborn {
    bpf::Protection protection;
    Time since{};
  };

  bpf::GateTable& table() const;
  uint16_t term() const;
  Guarded* find(const Flow& flow);
  void take_up(const Flow& flow, const Newborn& newborn);
  bool grow_up(const Flow& flow);   // take_up of a newborn; false: there is none
  void forget_oldest_newborn();
  void take_up_again(const Connection& connection, const gecko_gated& entry);
  void let_pass(const Flow& flow, std::string why);
  void refresh(const Flow& flow, Guarded& guarded);
  void wait_to_end(const Flow& flow, Guarded& guarded);
  void let_end(const Flow& flow, Guarded& guarded);
  void erase_later(const Flow& flow, Guarded& guarded, Duration after);
  void open_unserved();
  void stable(const Flow& flow, uint64_t offset, bool end);
  void nudge_soon(const Flow& flow);
  void stop_replicating(const Flow& flow, Guarded& guarded);
  void say_soon();

  Group& group_;
  Mirroring mirroring_;
  std::map<uint16_t, bool> ports_;                // whether they are replicated
  std::vector<Flow> nudges_;                      // at the end of this turn of the loop
  bool looking_for_unserved_ = false;
  std::unordered_map<Flow, Guarded> guarded_;
  std::unordered_map<Flow, Newborn> newborn_;
  std::deque<std::pair<Time, Flow>> newborn_order_;
  std::multimap<Time, Flow> to_erase_;
  size_t answering_ = 0;                          // kernel_may_answer, not erased yet
  uint16_t term_seen_ = 0;
  bool claimed_ = false;
  Report counters_;
  Time complained_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gecko::node
