// Which view is next? One node's part in deciding it: voter, proposer, and its own life as a member (docs/adr/0017). Used by geckod's
// unprivileged half, beside the lease keeper (core/keeper), which it tells of views and which tells it whom it suspects.
//
// No descriptor, clock, log or disk: the caller carries out take() in order. **What comes after a Store waits until that is on disk**, also
// what later calls add; a node that speaks first and forgets can make two views. Messages may be lost, doubled, late: all is asked again.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.hh"
#include "core/lease.hh"
#include "core/view.hh"

namespace gecko::core {

using ViewMessage = std::variant<wire::ViewPrepare, wire::ViewPromise, wire::ViewPropose, wire::ViewAccepted, wire::ViewRefused, wire::ViewIs, wire::ViewAsk,
                                 wire::JoinAsk, wire::LeaveAsk, wire::Recovered>;

struct MembershipSettings {
  NodeIndex self = 0;
  uint16_t order = 0;                                        // for the contact role; wire::kNoNode: never
  bool witness = false;
  LeaseSettings lease;
  Duration stagger = std::chrono::milliseconds(5);           // per place in the view: who proposes when the first does not
  Duration retry = std::chrono::milliseconds(50);            // an attempt may take so long, and the voters' wait on top
  Duration join_retry = std::chrono::milliseconds(200);
  Duration ask_retry = std::chrono::milliseconds(20);
  Duration alone_after = std::chrono::milliseconds(100);     // two nodes, available: silence before the other is taken for dead
  Duration alone_after_start = std::chrono::seconds(3);      // ... by a life that is no member yet: it has to find the other first
};

// Outputs, in order.
struct Store { wire::MembershipState state; };
struct Tell { NodeIndex to = 0; ViewMessage message; };
struct HoldGrants { uint64_t token = 0, epoch = 0; NodeSet removed = 0; };   // to the keeper; answered by held()
struct ReleaseGrants {};                                                     // to the keeper
struct Adopted {                                                             // to the keeper and the node
  wire::View view;
  uint64_t incarnation = 0;        // this node's from here on, whether the view lists it or not
  std::vector<Owner> gone;         // lives that this view does not list any more (of those this node knew before)
  std::vector<Owner> inherited;    // orphans whose heir this node has become: recover them, then call recovered(). After GoesOn: again
};
struct Expelled { Owner life; };   // this life is no member any more: end silently what it owned, then call fenced()
using MembershipOutput = std::variant<Store, Tell, HoldGrants, ReleaseGrants, Adopted, Expelled>;

class Membership {
 public:
  // A new life of the node (machine or keeper started), with what was on its disk; {}: nothing was, then `new_disk` (random, 44 bits) names it.
  Membership(MembershipSettings settings, std::optional<wire::MembershipState> state, uint64_t new_disk, Time now);
  // The same life: the keeper lived on while this process was restarted. To be told next: the keeper's suspicions() and contact().
  struct GoesOn {};
  Membership(MembershipSettings settings, wire::MembershipState state, GoesOn, Time now);

  // --- wishes
  // The first view: this node alone. Errors: exists (it has a view), invalid (lease, a witness).
  Status form(uint64_t group, Duration lease, wire::TwoNodes two_nodes, Time now);
  void peers(NodeSet peers) { peers_ = peers & ~one(settings_.self); }   // whom to talk to, and who may join
  void fenced(Time now);                                     // nothing of a former life of this node is left here: it may join
  void leave(Time now);                                      // for good, until join()
  void join(Time now);
  void remove(NodeIndex node, Time now);                     // an operator's wish, whatever that node thinks of it; see peers() for its return
  // An operator's word that these nodes are down for good, when a majority is lost: their votes count as given. If that is not true, two
  // nodes may own one connection.
  void declare_dead(NodeSet nodes, Time now);
  // All nodes whose keys are not good any more here (docs/adr/0031): to be no members, whatever they ask for; not heard; and while this node is a
  // member, nobody is to let them in. Their removal is a majority's decision like any other.
  void shut_out(NodeSet nodes, Time now);
  void recovered(const Owner& owner, Time now);
  bool recovers(NodeIndex heir) const;                       // it has not said yet of every life that it inherits that it is done

  // --- events
  void on(NodeIndex from, const ViewMessage& message, Time now);
  void held(uint64_t token, Time now);
  void suspicions(NodeSet mine, NodeSet agreed, Time now);
  void contact_is(NodeIndex node) { contact_ = node; }
  void newer(NodeIndex at, uint64_t epoch, Time now);
  void tick(Time now);
  Time next() const;
  std::vector<MembershipOutput> take() { return std::exchange(out_, {}); }

  const wire::View& view() const { return state_.view; }
  uint64_t incarnation() const { return state_.incarnation; }
  bool is_member() const { return owns(state_.view, settings_.self, state_.incarnation); }
  const wire::MembershipState& state() const { return state_; }
  // Bounded by nodes and kMaxOrphans.
  size_t remembered() const { return joins_.size() + leaves_.size() + unwelcome_.size() + recovered_.size() + early_.size(); }

 private:
  struct Asked {                   // a wish of another node, forgotten unless it is repeated
    wire::Member member;
    Time until;
  };
  struct Pending {                 // to be accepted when the keeper says held
    NodeIndex from = 0;
    wire::Ballot ballot;
    wire::View next;
    uint64_t token = 0;
  };
  struct Attempt {
    wire::Ballot ballot;
    bool proposing = false, forced = false;
    NodeSet promised = 0, accepted = 0, dead = 0;
    wire::Ballot best;             // the highest that a promise told of, and its view
    wire::View best_next, next;
    Time until;
  };

  // Attempts of one view; nobody gets there who does not jump. Above it nothing is believed: the next round would begin at 0 again.
  static constexpr uint64_t kMaxRound = uint64_t{1} << 48;

  // voter
  void hear(NodeIndex from, const wire::ViewPrepare& message, Time now);
  void hear(NodeIndex from, const wire::ViewPropose& message, Time now);
  bool is_of_this_view(NodeIndex from, uint64_t epoch, Time now);   // else: tells or asks
  bool is_ballot_of(NodeIndex from, const wire::Ballot& ballot) const;
  void cancel_pending();
  // proposer
  void hear(NodeIndex from, const wire::ViewPromise& message, Time now);
  void hear(NodeIndex from, const wire::ViewAccepted& message, Time now);
  void hear(NodeIndex from, const wire::ViewRefused& message, Time now);
  void begin(Time now);
  void propose(Time now);
  void give_up(Time now);
  size_t count(NodeSet voters) const;
  std::optional<wire::View> wished(Time now) const;
  NodeSet dead(Time now) const;
  Time alone_at(NodeIndex other) const;
  NodeSet kept_out() const;        // by this node or by a member's word
  void keep_out(Time now);
  size_t place() const;
  Time turn() const;               // when this node would begin; max: no reason to
  // views
  void hear(NodeIndex from, const wire::ViewIs& message, Time now);
  void hear(NodeIndex from, const wire::ViewAsk& message, Time now);
  void hear(NodeIndex from, const wire::JoinAsk& message, Time now);
  void hear(NodeIndex from, const wire::LeaveAsk& message, Time now);
  void hear(NodeIndex from, const wire::Recovered& message, Time now);
  void adopt(const wire::View& next, Time now);
  void ask(NodeIndex at, Time now);
  void look_again(Time now);

  bool is_voter() const { return votes(state_.view, settings_.self, state_.incarnation); }
  wire::Member me() const { return {settings_.self, state_.incarnation, settings_.order, settings_.witness}; }
  Duration voters_wait() const;
  void store();
  void tell(NodeIndex to, ViewMessage message, Time now);   // oneself: at once
  void tell_peers(const ViewMessage& message, NodeSet but = 0);

  const MembershipSettings settings_;
  wire::MembershipState state_;
  NodeSet peers_ = 0;
  NodeIndex contact_ = wire::kNoNode;
  NodeSet suspects_ = 0, agreed_ = 0;
  std::map<NodeIndex, Time> silent_since_;                   // per suspect
  Time began_{};                                             // this life, or this process
  NodeSet declared_dead_ = 0;

  bool fenced_ = false, wants_ = true;
  Time next_join_ = Time::max(), next_ask_{};
  std::map<NodeIndex, Asked> joins_, leaves_;
  std::map<NodeIndex, Time> unwelcome_;                      // by a member's word, forgotten unless it is repeated
  std::set<Owner> removals_;                                 // wishes of an operator here, repeated until done
  NodeSet shut_out_ = 0;
  std::set<Owner> recovered_;                                // reported, still listed
  std::map<Owner, NodeIndex> early_;                         // reported by that node, not listed yet: members

  std::optional<Pending> pending_;
  uint64_t next_token_ = 1;
  std::optional<Attempt> attempt_;
  uint64_t highest_round_ = 0;                               // heard of in this epoch
  uint32_t failures_ = 0;
  Time reason_since_ = Time::max();                          // max: no reason to propose
  Time looked_{};                                            // for one: what had come until then gave none
  Time not_before_{};                                        // somebody is at it, or it failed just now
  NodeIndex busy_with_ = wire::kNoNode;                      // who is at it
  std::vector<MembershipOutput> out_;
};

}  // namespace gecko::core
