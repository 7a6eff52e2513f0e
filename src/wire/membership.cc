#include "wire/membership.hh"

#include <algorithm>

namespace gecko::wire {

Status validate(const View& view) {
  const auto bad = [&](const std::string& why) {
    return make_error(Errc::invalid, "view " + std::to_string(view.epoch) + ": " + why + "; do all nodes run the same version?");
  };
  if (view.epoch == 0 || view.group == 0) return bad("it has no epoch or no group");
  if (view.lease_us == 0 || view.lease_us > kMaxLease_us) return bad("a lease of " + std::to_string(view.lease_us) + " us");
  uint64_t all = 0, full = 0;
  for (const Member& m : view.members) {
    if (m.node > kMaxNodeIndex) return bad("node " + std::to_string(m.node) + " is above " + std::to_string(kMaxNodeIndex));
    if (m.incarnation == 0) return bad("node " + std::to_string(m.node) + " has no incarnation");
    const uint64_t bit = uint64_t{1} << m.node;
    if (all & bit) return bad("node " + std::to_string(m.node) + " is there twice");
    all |= bit;
    if (!m.witness) full |= bit;
  }
  if (full == 0) return bad("it has no full member");
  const auto is_full = [&](uint16_t node) { return node <= kMaxNodeIndex && (full >> node & 1); };
  if (view.contact != kNoNode && !is_full(view.contact)) return bad("its contact " + std::to_string(view.contact) + " is no full member");
  for (const Orphan& o : view.orphans)
    if (o.node > kMaxNodeIndex || o.incarnation == 0 || (o.heir != kNoNode && !is_full(o.heir)))
      return bad("the heir " + std::to_string(o.heir) + " of node " + std::to_string(o.node) + " is no full member");
  for (const Former& f : view.former)
    if (f.node > kMaxNodeIndex || f.incarnation == 0) return bad("a former member " + std::to_string(f.node) + " that cannot be");
  return {};
}

}  // namespace gecko::wire
