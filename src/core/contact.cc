#include "core/contact.hh"

#include <algorithm>
#include <string>
#include <tuple>

namespace gecko::core {

ContactChoice::ContactChoice(NodeIndex self, std::vector<NodeIndex> order) : self_(self), order_(std::move(order)), up_{self} {}

void ContactChoice::down(NodeIndex node) {
  if (node != self_) up_.erase(node);
}

bool ContactChoice::may_be_contact(NodeIndex node) const { return std::find(order_.begin(), order_.end(), node) != order_.end(); }

Result<wire::Contact> ContactChoice::appoint(NodeIndex node) {
  if (!may_be_contact(node))
    return make_error(Errc::invalid, "node " + std::to_string(node) + " may not be contact: it is not in the group file's contact list");
  if (appointed_.term == UINT64_MAX) return make_error(Errc::limit, "the contact's term is at its end; restart the group's daemons to begin again");
  appointed_ = {node, appointed_.term + 1};
  return appointed_;
}

bool ContactChoice::hear(const wire::Contact& appointment) {
  if (!may_be_contact(appointment.node)) return false;
  if (std::tie(appointment.term, appointment.node) <= std::tie(appointed_.term, appointed_.node) || appointment.term == 0) return false;
  appointed_ = appointment;
  return true;
}

std::optional<wire::Contact> ContactChoice::appointment() const {
  return appointed_.term == 0 ? std::nullopt : std::optional(appointed_);
}

std::optional<NodeIndex> ContactChoice::contact() const {
  for (const bool even_if_draining : {false, true}) {
    const auto fits = [&](NodeIndex n) { return up_.contains(n) && (even_if_draining || !draining_.contains(n)); };
    if (appointed_.term != 0 && fits(appointed_.node)) return appointed_.node;
    if (const auto first = std::find_if(order_.begin(), order_.end(), fits); first != order_.end()) return *first;
  }
  return std::nullopt;
}

}  // namespace gecko::core
