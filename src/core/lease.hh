// Both ends of a lease (docs/adr/0017): until when may this node transmit for what it owns, and until when has it promised others to agree to
// no removal of theirs? Used by the lease keeper alone; times are CLOCK_BOOTTIME.
#pragma once

#include <array>
#include <map>
#include <vector>

#include "base/clock.hh"
#include "core/view.hh"

namespace gecko::core {

struct LeaseSettings {
  uint32_t drift_ppm = 500;                                  // of each clock against true time
  Duration slack = std::chrono::milliseconds(1);             // what the gate has let through and the card has not sent yet
};
// How much longer than the owner's lease a voter waits.
Duration margin(Duration lease, const LeaseSettings& settings);

// The owner's end. A round is one heartbeat to every voter at one time.
class OwnerLease {
 public:
  // The next view that lists this life of this node, or a first one. What was granted in the view before still holds: whoever may remove
  // a member of this view waits a whole lease from its beginning.
  void adopt(const wire::View& view, NodeIndex self);
  void expelled();                                           // not a member any more: no lease, at once
  void sent(uint64_t counter, Time now, bool self_grants);   // a round
  void granted(NodeIndex by, uint64_t counter);              // an answer to it; unknown and old rounds are ignored
  // May transmit before that time. Time::min(): never had a lease.
  Time until() const { return until_; }
  // When the round was sent that this counter belongs to; Time::min(): not one of the last kRounds.
  Time sent_at(uint64_t counter) const;

 private:
  static constexpr size_t kRounds = 64;                      // an answer to an older one could extend nothing
  struct Round {
    uint64_t counter = 0;
    Time sent = Time::min();
  };
  void recompute();

  NodeIndex self_ = wire::kNoNode;
  Duration lease_{};
  size_t needed_ = 0;
  std::map<NodeIndex, Time> granted_;                        // per voter: when the latest round that it granted was sent
  std::array<Round, kRounds> rounds_;
  size_t next_round_ = 0;
  Time until_ = Time::min();
};

// The voter's end.
class Promises {
 public:
  // Nobody may be missing in a next view before lease + margin from here: leases from before the view, and promises of a former life, which
  // nobody remembers, run out meanwhile.
  void adopt(const wire::View& view, const LeaseSettings& settings, Time now);
  // True: granted, and counted. To a member that asks in this view, unless grants to it are refused.
  bool grant(const Owner& owner, Time now);
  void refuse(NodeSet nodes) { refused_ = nodes; }           // no new grants to these: a removal is wished
  void refuse_all(bool is) { all_refused_ = is; }            // to nobody: a next view is accepted
  bool refuses(NodeIndex node) const { return all_refused_ || (refused_ & one(node)); }
  // From when on this node may agree to a view without them.
  Time free_at(NodeSet nodes) const;

 private:
  wire::View view_;
  Duration wait_{};
  Time floor_ = Time::max();                                 // no view: agrees to nothing
  std::map<NodeIndex, Time> until_;
  NodeSet refused_ = 0;
  bool all_refused_ = false;
};

}  // namespace gecko::core
