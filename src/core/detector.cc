#include "core/detector.hh"

#include <algorithm>
#include <utility>

namespace gecko::core {

void Detector::watch(NodeSet peers, Time now) {
  for (NodeIndex n = 0; n <= wire::kMaxNodeIndex; ++n) {
    const bool is = peers & one(n);
    if (is) {
      Peer& peer = peers_[n];
      if (!peer.watched && !peer.suspected) peer.heard = now;
      peer.watched = true;
    } else if (const auto it = peers_.find(n); it != peers_.end()) {
      it->second.watched = false;
    }
  }
}

void Detector::begins_anew(NodeIndex node, Time now) {
  const auto it = peers_.find(node);
  if (it == peers_.end()) return;
  it->second.suspected = false;
  it->second.heard = now;
}

void Detector::answered(NodeIndex node, Time sent, Time now) {
  const auto it = peers_.find(node);
  if (it == peers_.end() || !it->second.watched || sent > now) return;
  Peer& peer = it->second;
  // What was sent before this node itself stood still measures that. Clamped: a path that got slower is believed step by step.
  if (sent >= woke_ && (!ticked_ || now - last_tick_ <= 2 * interval_)) measure(peer, std::min(now - sent, 2 * timeout(peer)));
  if (peer.suspected && peer.since == Time::max() && now - sent <= timeout(peer)) peer.since = now;
  peer.heard = std::max(peer.heard, sent);
  adapt();
}

void Detector::measure(Peer& peer, Duration rtt) {
  if (peer.rtt == Duration{}) {
    peer.rtt = rtt;
    peer.deviation = rtt / 2;
    return;
  }
  const Duration error = rtt > peer.rtt ? rtt - peer.rtt : peer.rtt - rtt;
  peer.deviation += (error - peer.deviation) / 4;
  peer.rtt += (rtt - peer.rtt) / 8;
}

bool Detector::tick(Time now) {
  // Two rounds late: it was this node that did not run. What came in meanwhile may still wait in a queue.
  if (ticked_ && now - last_tick_ > 2 * interval_) {
    ++pauses_;
    woke_ = now;
    for (auto& [node, peer] : peers_)
      if (!peer.suspected) peer.heard = std::max(peer.heard, now);
      else peer.since = Time::max();
  }
  ticked_ = true;
  last_tick_ = now;

  NodeSet suspects = 0;
  for (auto& [node, peer] : peers_) {
    const bool silent = now - peer.heard > timeout(peer);
    if (!peer.suspected && peer.watched && silent) {
      peer.flaps = peer.begun != Time{} && now - peer.begun <= settings_.memory + hold(peer) ? peer.flaps + 1 : 0;
      peer.suspected = true;
      peer.begun = now;
      peer.since = Time::max();
    } else if (peer.suspected) {
      if (silent) peer.since = Time::max();
      else if (peer.since != Time::max() && now - peer.since >= hold(peer)) peer.suspected = false;
    }
    if (peer.suspected && peer.watched) suspects |= one(node);
  }
  return std::exchange(suspects_, suspects) != suspects;
}

Duration Detector::hold(const Peer& peer) const {
  const Duration base = settings_.misses * settings_.interval;
  return std::min(settings_.hold_max, base * (int64_t{1} << std::min(peer.flaps, 16u)));
}

Duration Detector::timeout(const Peer& peer) const { return settings_.misses * interval_ + peer.rtt + 4 * peer.deviation; }

Duration Detector::timeout(NodeIndex node) const {
  const auto it = peers_.find(node);
  return it == peers_.end() ? settings_.misses * interval_ : timeout(it->second);
}

void Detector::adapt() {
  Duration slowest{};
  for (const auto& [node, peer] : peers_)
    if (peer.watched && !peer.suspected) slowest = std::max(slowest, peer.rtt);
  interval_ = std::clamp(slowest / 2, settings_.interval, settings_.interval_max);
}

Time Detector::next() const {
  Time at = Time::max();
  for (const auto& [node, peer] : peers_) {
    if (!peer.watched) continue;
    if (!peer.suspected) at = std::min(at, peer.heard + timeout(peer) + Duration(1));
    else if (peer.since != Time::max()) at = std::min({at, peer.since + hold(peer), peer.heard + timeout(peer) + Duration(1)});
  }
  return at;
}

}  // namespace gecko::core
