// What follows from a view, from a lease and from the end of a life of this node: for its mirrors (whose backups may be others now) and for what
// it inherits. Mirrors are kept and nobody continues from them yet: nothing of a gone life is recovered, and what a life of this node owned has no
// heir that could continue it, so it goes on here.
#include "node/daemon.hh"

namespace gecko::node {

void Group::on_view(const ViewChange& change) {
  choose_backups();
  for (const auto& owner : change.inherited) recovered(owner);
}

void Group::on_lease() {
  shield_.lease_changed();
  choose_backups();   // its life may be another one
}

void Group::fence(const core::Owner&, std::function<void()> done) { done(); }

}  // namespace gecko::node
