// Which peers do not answer? The fast failure detector of one node, used by its lease keeper (docs/adr/0017): it says when to send
// heartbeats, is told of answers, and says whom it suspects. A suspicion removes nobody by itself.
//
// Only answers to one's own heartbeats count: a peer that speaks but does not hear is as good as dead. A peer that flaps is trusted again
// later each time. A node that did not run itself suspects nobody for that.
#pragma once

#include <map>

#include "base/clock.hh"
#include "core/view.hh"

namespace gecko::core {

struct DetectorSettings {
  Duration interval = std::chrono::milliseconds(10);   // the floor; half a round trip if that is more
  uint32_t misses = 3;                                 // intervals without an answer, plus the round trip
  Duration interval_max = std::chrono::seconds(1);
  // After a suspicion: so long without a new reason until it ends; doubled with each one within `memory`.
  Duration hold_max = std::chrono::seconds(10);
  Duration memory = std::chrono::seconds(10);
};

class Detector {
 public:
  explicit Detector(DetectorSettings settings) : settings_(settings) {}

  // The peers to watch: new ones are trusted for one timeout, the record of one that is left out is kept (it may be flapping).
  void watch(NodeSet peers, Time now);
  // It has begun a new life: trusted for one timeout, like a new one. Its record is kept.
  void begins_anew(NodeIndex peer, Time now);
  // An answer to the heartbeat that was sent then.
  void answered(NodeIndex peer, Time sent, Time now);
  // To be called when a heartbeat is due, and at next(). True: the set of suspects has changed.
  bool tick(Time now);

  NodeSet suspects() const { return suspects_; }
  Duration interval() const { return interval_; }      // between two rounds of heartbeats
  Duration timeout(NodeIndex peer) const;
  Time next() const;                                   // when a suspicion may begin or end
  uint64_t pauses() const { return pauses_; }          // how often this node itself did not run

 private:
  struct Peer {
    bool watched = false, suspected = false;
    Time heard{};                      // when the last answered heartbeat was sent
    Time since{};                      // suspected: answers without a gap since then; Time::max(): none yet
    Time begun{};                      // of the last suspicion
    uint32_t flaps = 0;
    Duration rtt{}, deviation{};       // smoothed (RFC 6298's weights); 0: not measured
  };
  static void measure(Peer& peer, Duration rtt);
  Duration hold(const Peer& peer) const;
  Duration timeout(const Peer& peer) const;
  void adapt();

  const DetectorSettings settings_;
  std::map<NodeIndex, Peer> peers_;    // bounded by kMaxNodeIndex
  NodeSet suspects_ = 0;
  Duration interval_ = settings_.interval;
  Time last_tick_{}, woke_ = Time::min();
  bool ticked_ = false;
  uint64_t pauses_ = 0;
};

}  // namespace gecko::core
