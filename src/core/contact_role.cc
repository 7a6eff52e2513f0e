#include "core/contact_role.hh"

#include <bit>
#include <string>

namespace gecko::core {

void ContactRole::adopt(const wire::View& view) {
  view_ = view;
  claim_ = {0, view.contact};
  repeated_ = one(self_);
}

bool ContactRole::eligible(NodeIndex node) const {
  const auto* m = find(view_, node);
  return m && !m->witness && m->order != wire::kNoNode;
}

bool ContactRole::raise(const wire::ContactClaim& claim) {
  if (claim <= claim_ || !eligible(claim.node)) return false;
  claim_ = claim;
  repeated_ = one(self_);
  return true;
}

void ContactRole::hear(NodeIndex from, const wire::ContactClaim& claim) {
  raise(claim);
  if (claim == claim_) repeated_ |= one(from);
  else repeated_ &= ~one(from);   // it has forgotten, or knew less when it spoke
}

bool ContactRole::consider(NodeSet suspects, NodeSet agreed) {
  if (!eligible(self_) || claim_.term == UINT64_MAX || claim_.node == self_) return false;
  if (claim_.node != wire::kNoNode && !(unfit_as_contact(view_, suspects, agreed) & one(claim_.node))) return false;
  for (const auto& m : view_.members) {
    if (m.node == self_) return raise({claim_.term + 1, self_});
    if (eligible(m.node) && !(suspects & one(m.node))) return false;   // its turn
  }
  return false;
}

Status ContactRole::appoint(NodeIndex node) {
  if (!eligible(node))
    return make_error(Errc::invalid, "node " + std::to_string(node) + " may not be contact: it is not in the view, a witness, or not in the contact list");
  if (claim_.term == UINT64_MAX) return make_error(Errc::limit, "the contact's term is at its end; the next change of members begins anew");
  if (claim_.node != node) raise({claim_.term + 1, node});
  return {};
}

bool ContactRole::confirmed() const {
  if (claim_.node != self_ || !eligible(self_)) return false;
  const size_t needed = contact_alone(view_) ? 1 : change_votes(view_);
  return static_cast<size_t>(std::popcount(repeated_ & members(view_))) >= needed;
}

}  // namespace gecko::core
