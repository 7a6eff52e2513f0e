// Who is contact.
#include <algorithm>

#include "node/daemon.hh"

namespace gecko::node {

using wire::LinkType;

namespace {
// The old contact keeps answering until the segment has learned the new one; both steer correctly meanwhile.
constexpr Duration kOverlap = std::chrono::milliseconds(200);
}  // namespace

Status Group::set_contact(const std::string& name) {
  GECKO_TRY(const auto node, find_node(name));
  if (node != self_ && !peers_[node].up())
    return make_error(Errc::unavailable, "node '" + name + "' is not connected to this node; it cannot become contact. See 'gecko status'");
  GECKO_TRY(const auto appointment, choice_.appoint(node));
  tell_all(appointment, self_);
  elect();
  return {};
}

void Group::on_contact(const Peer& from, const wire::Contact& m) {
  if (!choice_.hear(m)) return;
  tell_all(m, from.index);
  elect();
}

void Group::tell_all(const wire::Contact& appointment, uint16_t but) {
  for (auto& peer : peers_)
    if (peer.up() && peer.index != self_ && peer.index != but) peer.send(LinkType::contact, appointment);
}

void Group::elect() {
  // A starting node does not take the role from one it has only not reached yet.
  if (!settled_) settled_ = std::all_of(peers_.begin(), peers_.end(), [](const Peer& p) { return p.up(); });
  const auto chosen = choice_.contact();
  if (!chosen || *chosen == contact_ || (!settled_ && *chosen == self_ && !choice_.appointment() && config_.contact.front() != daemon_.options().node)) return;
  become(*chosen);
}

void Group::become(uint16_t contact) {
  const bool was = is_contact();
  former_contact_ = contact_;
  contact_ = contact;
  log_info("group '" + config_.name + "': the contact is " + config_.nodes[contact].name + (contact == self_ ? " (this node)" : ""));
  if (contact == self_) {
    take_contact_role();
    program_all_near();
  } else {
    if (peers_[contact].up()) send_owned_flows(peers_[contact]);
    const std::weak_ptr<bool> alive = alive_;
    daemon_.loop().at(daemon_.loop().now() + (was ? kOverlap : Duration{}), [this, alive] {
      if (alive.expired() || is_contact()) return;
      daemon_.privileged().contact(index_, number(contact_), false, [this](const Status& status) { role_changed(status); });
    });
  }
  membership_changed();
}

// Also when it has the role already: it announces the address to the segment, where another node may have done so since.
void Group::take_contact_role() {
  announced_ = daemon_.loop().now();
  daemon_.privileged().contact(index_, number(self_), true, [this](const Status& status) { role_changed(status); });
}

void Group::role_changed(const Status& status) const {
  if (!status) log_error("group '" + config_.name + "': changing the contact role: " + status.error().message);
}

}  // namespace gecko::node
