// What follows from a view, from a lease and from the end of a life of this node: for its mirrors (whose backups may be others now) and for what
// it inherits. Nothing is mirrored between nodes yet: nothing of a gone life is left to recover, and what a life of this node owned has no heir
// that could continue it, so it goes on here.
#include "node/daemon.hh"

namespace gecko::node {

void Group::on_view(const ViewChange& change) {
  for (const auto& owner : change.inherited) recovered(owner);
}

void Group::on_lease() {}

void Group::fence(const core::Owner&, std::function<void()> done) { done(); }

}  // namespace gecko::node
