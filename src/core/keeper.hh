// What the lease keeper decides: heartbeats, answers, grants, suspicions, the end of this node's lease, the contact's claims. One per
// node and group; the process `geckod: lease` runs it and survives the rest of geckod for `restart_grace` (docs/adr/0017). It is told of
// views by core/membership and never decides one.
//
// No descriptor, clock or log: the caller gives it CLOCK_BOOTTIME and verified heartbeats (wire/heartbeat_seal.hh), calls tick() at next(),
// and does what take() says.
#pragma once

#include <map>
#include <optional>
#include <variant>
#include <vector>

#include "core/contact_role.hh"
#include "core/detector.hh"
#include "core/lease.hh"
#include "wire/heartbeat.hh"

namespace gecko::core {

struct KeeperSettings {
  DetectorSettings detector;
  LeaseSettings lease;
  Duration restart_grace = std::chrono::seconds(5);
};

// Outputs.
struct Beat { wire::Heartbeat heartbeat; };                  // to send, at once and unordered
struct Held { uint64_t token = 0; };                         // to membership: nothing is promised to those any more, nothing is granted to anybody
struct Suspicions { NodeSet mine = 0, agreed = 0; };         // to membership, when they change
struct NewerEpoch { NodeIndex at = 0; uint64_t epoch = 0; }; // to membership: that node is further
struct LeaseUntil { Time until; };                           // into the gate's map, when it changes
struct ContactIs { NodeIndex node = wire::kNoNode; bool acting = false; };   // when it changes
using KeeperOutput = std::variant<Beat, Held, Suspicions, NewerEpoch, LeaseUntil, ContactIs>;

class Keeper {
 public:
  Keeper(NodeIndex self, KeeperSettings settings, Time now);

  // --- from membership
  void peers(NodeSet peers, Time now);                       // whom to watch: everybody of the group file and of the view, not oneself
  void adopt(const wire::View& view, uint64_t incarnation, Time now);   // incarnation: this node's, also when the view does not list it
  // A next view without `removed` is to be accepted: no new grants to them; answered by Held once the old ones have run out.
  void hold(uint64_t token, uint64_t epoch, NodeSet removed, Time now);
  void release();                                            // it was not accepted, and nothing else of that epoch was
  void membership_lives(Time now) { good_until_ = now + settings_.restart_grace; }   // a word of it, at least every restart_grace / 2
  Status appoint(NodeIndex node, Time now);

  // --- from the network
  void heard(const wire::Heartbeat& heartbeat, Time now);

  void tick(Time now);
  Time next() const;
  std::vector<KeeperOutput> take();

  Time lease_until() const;                                  // may transmit before that
  bool acts_as_contact(Time now) const;
  NodeIndex contact() const { return contact_.claim().node; }
  wire::ContactClaim claim() const { return contact_.claim(); }
  const Suspicions& suspicions() const { return told_suspicions_; }   // for a geckod that has just been restarted
  const wire::View& view() const { return view_; }
  uint64_t incarnation() const { return incarnation_; }
  uint64_t replays() const { return replays_; }              // heartbeats that had come before, or too late to tell

 private:
  struct Peer {
    uint64_t incarnation = 0, counter = 0;                   // the latest one heard
    uint64_t seen = 0;                                       // bit n: counter - n was heard; older ones are refused (as in RFC 4303, 3.4.3)
    uint64_t epoch = 0;
    NodeSet suspects = 0;
  };
  struct Holding {
    uint64_t token = 0;
    NodeSet removed = 0;
  };
  bool is_member() const { return owns(view_, self_, incarnation_); }
  enum class Order { replayed, late, latest };
  static Order order(Peer& peer, const wire::Heartbeat& h);  // and notes it
  NodeSet suspects() const;                                  // whom this node does not hear; a witness says whom it sides against, too
  wire::Heartbeat fill(NodeIndex to) const;
  void round(Time now);
  NodeSet agreed() const;
  void report(Time now);

  const NodeIndex self_;
  const KeeperSettings settings_;
  Detector detector_;
  OwnerLease lease_;
  Promises promises_;
  ContactRole contact_;
  wire::View view_;
  uint64_t incarnation_ = 0;
  uint64_t counter_ = 0;
  NodeSet watched_ = 0;
  std::map<NodeIndex, Peer> peers_;
  Time next_round_, good_until_;
  std::optional<Holding> holding_;
  Suspicions told_suspicions_;
  Time told_until_ = Time::min();
  ContactIs told_contact_;
  uint64_t replays_ = 0, pauses_ = 0;
  std::vector<KeeperOutput> out_;
};

}  // namespace gecko::core
