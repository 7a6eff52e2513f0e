// The handoff protocol, both roles, as a state machine: how one connection's ownership goes from the donor to the acceptor so that
// at every instant at most one node may speak for it, whatever message is lost, late or twice and whoever crashes (promises 1, 3, 4).
// No descriptor, clock, thread or log: events and the time come in, actions come out. docs/protocol/handoff.md
//
//   donor                               acceptor
//   start ---- prepare ------------->   Check -> checked
//         <--- ready / refuse -------
//   Yield -> yielded   (the application lets go; skipped when it asked for the handoff itself)
//   Freeze -> frozen   (hold, freeze, capture)
//         ---- state --------------->   Restore -> restored         (a silent socket)
//         <--- restored / refuse ----
//   Commit (point of no return: steering flips, held packets are released to the acceptor)
//         ---- commit -------------->   Activate -> activated; Deliver
//         <--- active ---------------
//   Retire, Report
//
// Before commit the donor may always take the connection back by itself (Thaw): refusal, timeout, lost link, dead acceptor.
// After commit only the acceptor's word `unknown` ("it never came to life here and never will") gives it back. A restarted acceptor says it
// only of what its journal, which outlives the process, does not know as activated (docs/adr/0011); of the rest that nobody has any more it
// says `gone`, and the donor ends its part: going on from the frozen state would garble the client's stream.
// An acceptor with a restored connection and no link stays silent and waits; on the next link it says `restored` again, and the donor (or its
// next life, which resumes what its own journal calls committed) answers commit or abort. After `quiet_timeout` it destroys the socket and
// answers unknown from then on.
// Target == self (the papers' host-local handoff): freeze, thaw with epoch + 1, deliver; no messages.
//
// Every event carries out what is overdue at `now`, too (a process that was stopped for a minute never acts on old hopes), and an
// answer for a move that is over is ignored: late callbacks are not errors. One thread; nothing here blocks; cost O(log n) per event,
// except link_up/link_down: O(moves with that node).
#pragma once

#include <compare>
#include <functional>
#include <memory>
#include <variant>
#include <vector>

#include "base/clock.hh"
#include "wire/link.hh"

namespace gecko::core {

using NodeIndex = uint16_t;  // position in the group file's node list
using LinkMessage = std::variant<wire::Prepare, wire::Ready, wire::Refuse, wire::State, wire::Restored, wire::Commit, wire::Active, wire::Abort, wire::Unknown,
                                 wire::Gone>;

struct HandoffLimits {
  Duration step_timeout = std::chrono::milliseconds(1000);   // prepare..ready, yield, freeze, state..restored: each
  Duration quiet_timeout = std::chrono::seconds(10);         // acceptor: restored, waiting for commit or abort
  Duration give_up = std::chrono::seconds(15);               // donor: since commit without an answer (then one last call of step_timeout): the
                                                             // acceptor owns it, or it is lost with it
  Duration restart_grace = std::chrono::seconds(2);          // after start: applications re-register before `unknown` is answered
  size_t max_donating = 4096, max_accepting = 4096;          // at once; more are refused (limit)
};

struct Move {
  ConnId id;
  Flow flow;
  uint64_t epoch = 0;        // current ownership epoch at the donor
  NodeIndex target = 0;
  bool yielded = false;      // the application has already let go
  wire::Bytes blob;          // its state, if yielded
};

// Names one connection being accepted.
struct AcceptKey {
  NodeIndex from = 0;
  uint64_t xid = 0;
  auto operator<=>(const AcceptKey&) const = default;
};

// --- what the caller must do
struct Send { NodeIndex to; LinkMessage message; };
struct AskYield { uint64_t xid; ConnId id; };                        // -> yielded(); an error if the application is gone or refuses
struct Freeze { uint64_t xid; ConnId id; Flow flow; };               // -> frozen()
struct Thaw { uint64_t xid; ConnId id; Flow flow; uint64_t epoch; }; // steering back to mine with this epoch, thaw, release held packets -> thawed()
// Steering to `to`, release held packets there. Comes BEFORE the Send of commit.
struct CommitMove { uint64_t xid; ConnId id; Flow flow; NodeIndex to; uint64_t epoch; };
struct Retire { uint64_t xid; ConnId id; };                          // close the frozen socket silently
// The move is over. Ok: `epoch` is the new owner's. Error: this node owns it with `epoch` (higher than before if the move had been committed);
// if the application had let go, `give_back` it (thawed before this). `lost`: not here any more, and whether it lives at the target is not
// known here: forget it WITHOUT a packet to the client.
struct Report { uint64_t xid; ConnId id; Flow flow; NodeIndex target; Status status; uint64_t epoch; bool give_back; bool lost; };
struct Check { AcceptKey key; ConnId id; Flow flow; uint64_t epoch; };            // may it come? application there, limits -> checked()
struct Restore { AcceptKey key; ConnId id; Flow flow; uint64_t epoch; wire::Bytes tcp; StreamBase base{}; };   // silent socket -> restored()
struct Activate { AcceptKey key; ConnId id; Flow flow; uint64_t epoch; };         // steering to mine, activate -> activated()
// To an application; comes after activated(ok). When it has been carried out, owned_epoch(id) must answer `epoch`.
struct Deliver { AcceptKey key; ConnId id; Flow flow; uint64_t epoch; wire::Bytes blob; };
// Restored socket: end it silently. `orphaned`: its donor has not been heard of for quiet_timeout; the client is made to speak (see End).
struct Destroy { AcceptKey key; ConnId id; Flow flow; bool orphaned = false; };
// Target == self: thawed already; deliver to an application of this node again.
struct DeliverLocal { uint64_t xid; ConnId id; Flow flow; uint64_t epoch; wire::Bytes blob; };
// Not ours any more, and nobody has confirmed it: the frozen socket ends silently, and the client is made to speak by a segment that changes
// nothing where the connection lives, so that the kernel its answer reaches tells the client if it does not (a reset, never a hang).
// `certain`: the target itself said that it is gone; else steering stays as it is, the connection may live there.
struct End { uint64_t xid; ConnId id; Flow flow; NodeIndex to; bool certain; };
// It may have lived here once and does not now: if steering still sends its packets here, this kernel may answer them.
struct Disown { ConnId id; uint64_t epoch; };

using Action = std::variant<Send, AskYield, Freeze, Thaw, CommitMove, Retire, Report, Check, Restore, Activate, Deliver, Destroy, DeliverLocal, End, Disown>;

class Handoff {
 public:
  // `owned_epoch(id)`: the epoch with which this node owns a connection now, 0 if it does not.
  // `incarnation`: the one that Hello announces. It is part of every xid, so that no message of a former life names a move of this one.
  // `may_have_lived(id, epoch)`: whether the connection may have come to life on this machine with that epoch, in this or a former life of
  // this node; false only if the journal proves that it has not. Without it: always true.
  Handoff(NodeIndex self, HandoffLimits limits, std::function<uint64_t(const ConnId&)> owned_epoch, Time started, uint64_t incarnation,
          std::function<bool(const ConnId&, uint64_t)> may_have_lived = {});
  ~Handoff();
  Handoff(Handoff&&) = delete;

  // Donor. Errors of start: busy (this connection is being moved already), limit (too many, or the blob is too large), unavailable (no
  // link to the target), invalid (an epoch of 0 or at the end of its range).
  Result<uint64_t> start(Move move, Time now);              // xid
  // A former life of this node had committed this move and not heard how it ended: asks on. Called before the first link_up. The outcome
  // comes as any other (Thaw, Retire, End, Report).
  void resume(uint64_t xid, Move move, Time now);
  // False: that move is over, it was reported before the application answered. If it has let go by now, the caller gives it back itself.
  bool yielded(uint64_t xid, Result<wire::Bytes> blob, Time now);
  // The application has taken the connection back without being told, or has ended (its link to geckod broke): a move that is not frozen yet
  // ends. One that is frozen goes on: the application sees that it is, and waits. While freezing: the caller still owes frozen().
  void withdrawn(uint64_t xid, Error why, Time now);
  // `base`: of the socket that the state becomes.
  void frozen(uint64_t xid, Result<wire::Bytes> tcp, Time now, StreamBase base = {});
  // What was captured is no longer all that the frozen socket has taken (a packet was past its filter before it was attached, and has been
  // acknowledged since): the state that was sent must not come to life. Before commit the move ends; later the word comes too late.
  void spoiled(uint64_t xid, Error why, Time now);
  void thawed(uint64_t xid, Status status, Time now);
  // Acceptor.
  void checked(const AcceptKey& key, Status status, Time now);
  void restored(const AcceptKey& key, Status status, Time now);
  void activated(const AcceptKey& key, Status status, Time now);
  // Both. Messages of a node without a link are ignored. link_up of a link that is up: it was replaced.
  void message(NodeIndex from, LinkMessage message, Time now);
  void link_up(NodeIndex node, uint64_t incarnation, Time now);
  void link_down(NodeIndex node, Time now);
  // A view without that node's life (docs/adr/0020): its heir owns what it owned. From its moves to here nothing comes to life any more that has
  // not begun to; of the moves to it, those that were committed are its heir's, the others stay. The caller lets no message of it through.
  void life_over(NodeIndex node, Time now);
  void tick(Time now);
  Time next_deadline() const;                               // Time::max() if none
  std::vector<Action> take_actions();                       // in the order in which they must be carried out

  bool is_moving(const ConnId& id) const;                   // being donated
  bool expects_state(const AcceptKey& key) const;           // a place is reserved, its state has not come yet
  size_t donating() const;
  size_t accepting() const;
  size_t remembered() const;                                // answers kept for donors that may still ask (bounded by the limits)

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gecko::core
