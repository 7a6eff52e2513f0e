#include "sim/membership/checker.hh"

#include <cinttypes>

namespace gecko::sim {

Checker::Checker(const MemberSettings& settings, Trace& trace)
    : settings_(settings), trace_(trace), epochs_(settings.all()), paths_(settings.all(), std::vector<Path>(settings.all())) {}

void Checker::violation(Time now, const std::string& what) {
  char at[32];
  std::snprintf(at, sizeof at, "%.6f s: ", std::chrono::duration<double>(now.time_since_epoch()).count());
  if (violations_.size() < 20) violations_.push_back(at + what);
  trace_.add(now, "VIOLATION");
}

void Checker::look(Time now, const std::vector<Face>& faces) {
  ++checks_;
  // Two clocks, each as wrong as it may be. (Not core::margin: that is under test.)
  const Duration lease = settings_.lease + settings_.lease * 2 * settings_.keeper.lease.drift_ppm / 1'000'000 + settings_.keeper.lease.slack;
  for (uint16_t a = 0; a < faces.size(); ++a) {
    size_t granted = 1;   // by how many its heartbeats of the last lease may have been
    for (uint16_t b = 0; b < faces.size(); ++b) {
      Path& path = paths_[a][b];
      if (faces[a].to & core::one(b)) path.to = now;
      if (faces[a].from & core::one(b)) path.from = now;
      granted += a != b && (faces[a].voters & core::one(b)) && path.to >= now - lease && path.from >= now - lease;
    }
    if (a >= settings_.nodes && (faces[a].acts || !faces[a].serves->empty())) violation(now, "a witness owns something or acts as contact");
    if (epochs_[a].first != faces[a].epoch) epochs_[a] = {faces[a].epoch, now};
    const bool settled = now - epochs_[a].second > lease;   // until then by what was granted in the view before
    // Two nodes decide on their own what the rules for two allow.
    if (faces[a].transmits && settled && granted < faces[a].needed && faces[a].members > 2)
      violation(now, "node " + std::to_string(a) + " may transmit although it has not reached enough voters for longer than a lease");
    for (uint16_t b = 0; b < a; ++b) {
      if (faces[a].transmits && faces[b].transmits) {
        const auto& [few, many] = faces[a].serves->size() < faces[b].serves->size() ? std::pair(faces[a].serves, faces[b].serves)
                                                                                    : std::pair(faces[b].serves, faces[a].serves);
        for (const auto& owner : *few)
          if (many->contains(owner))
            violation(now, "nodes " + std::to_string(b) + " and " + std::to_string(a) + " may both transmit for node " + std::to_string(owner.node) +
                               "'s life " + std::to_string(owner.incarnation & 0xfffff));
      }
      const bool both = faces[a].acts && faces[b].acts && !(faces[a].members <= 2 && faces[b].members <= 2);
      if (!both) {
        both_act_since_.erase({b, a});
        continue;
      }
      const Duration since = now - both_act_since_.try_emplace({b, a}, now).first->second;
      longest_two_contacts_ = std::max(longest_two_contacts_, since);
      if (since > lease) violation(now, "nodes " + std::to_string(b) + " and " + std::to_string(a) + " have both acted as contact for more than a lease");
    }
  }
}

void Checker::adopted(Time now, const wire::View& view) {
  ++checks_;
  const auto [it, is_new] = views_.try_emplace(view.epoch, view);
  if (!is_new && it->second != view) violation(now, "two views of epoch " + std::to_string(view.epoch));
  if (!wire::validate(view)) violation(now, "an invalid view of epoch " + std::to_string(view.epoch));
}

void Checker::stored(Time now, const wire::MembershipState& state) {
  ++checks_;
  auto& [epoch, incarnation] = disks_[wire::disk_of(state.incarnation)];
  if (state.view.epoch < epoch) violation(now, "a disk's epoch went back to " + std::to_string(state.view.epoch));
  if (state.incarnation < incarnation) violation(now, "a disk's incarnation went back");
  epoch = std::max(epoch, state.view.epoch);
  incarnation = std::max(incarnation, state.incarnation);
}

}  // namespace gecko::sim
