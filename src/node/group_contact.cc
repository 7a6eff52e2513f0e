// Who is contact, and where new connections go.
#include <algorithm>

#include "node/daemon.hh"

namespace gecko::node {

using wire::LinkType;

namespace {
// The old contact keeps answering until the segment has learned the new one; both steer correctly meanwhile.
constexpr Duration kOverlap = std::chrono::milliseconds(200);
constexpr size_t kSlots = GECKO_SYN_SLOTS;
}  // namespace

Status Group::set_contact(const std::string& name) {
  GECKO_TRY(const auto node, find_node(name));
  if (node != self_ && !peers_[node].up())
    return make_error(Errc::unavailable, "node '" + name + "' is not connected to this node; it cannot become contact. See 'gecko status'");
  on_contact(wire::Contact{node, contact_term_ + 1});
  for (auto& peer : peers_)
    if (peer.up() && peer.index != self_) peer.send(LinkType::contact, wire::Contact{contact_override_, contact_term_});
  return {};
}

void Group::on_contact(const wire::Contact& m) {
  if (m.node >= peers_.size()) return;
  // Two operators at once: the higher term wins, and among equals the node that comes first in the file.
  if (m.term < contact_term_ || (m.term == contact_term_ && m.node >= contact_override_)) return;
  contact_term_ = m.term;
  contact_override_ = m.node;
  elect();
}

void Group::elect() {
  const auto up = [this](uint16_t node) { return node == self_ || peers_[node].up(); };
  if (!settled_) settled_ = std::all_of(peers_.begin(), peers_.end(), [](const Peer& p) { return p.up(); });
  uint16_t chosen = UINT16_MAX;
  if (contact_override_ != UINT16_MAX && up(contact_override_)) chosen = contact_override_;
  for (size_t i = 0; i < config_.contact.size() && chosen == UINT16_MAX; ++i) {
    const auto node = static_cast<uint16_t>(config_.index_of(config_.contact[i]));
    // A starting node does not take the role from one it has only not reached yet.
    if (up(node)) chosen = node;
    else if (!settled_) return;
  }
  if (chosen != UINT16_MAX && chosen != contact_) become(chosen);
}

void Group::become(uint16_t contact) {
  const bool was = is_contact();
  contact_ = contact;
  log_info("group '" + config_.name + "': the contact is " + config_.nodes[contact].name + (contact == self_ ? " (this node)" : ""));
  const auto report = [this](Status status) {
    if (!status) log_error("group '" + config_.name + "': changing the contact role: " + status.error().message);
  };
  if (contact == self_) {
    daemon_.privileged().contact(index_, number(self_), true, report);
    daemon_.privileged().flush();
  } else {
    if (peers_[contact].up()) send_owned_flows(peers_[contact]);
    const std::weak_ptr<bool> alive = alive_;
    daemon_.loop().at(daemon_.loop().now() + (was ? kOverlap : Duration{}), [this, alive, report] {
      if (alive.expired() || is_contact()) return;
      daemon_.privileged().contact(index_, number(contact_), false, report);
    });
  }
  membership_changed();
}

// A group's policy in the file is applied at the first SYN, where no state has to move: the steering program picks from this table.
void Group::program_new_connections() {
  std::vector<core::MemberLoad> members;
  for (const auto& peer : peers_) {
    const bool self = peer.index == self_;
    members.push_back({number(peer.index), peer.up(), peer.draining, self ? static_cast<uint32_t>(connections_.size()) : peer.connections,
                       self ? static_cast<uint16_t>(applications()) : peer.applications});
  }
  std::vector<uint16_t> slots;
  if (is_contact() && config_.policy != "none") slots = core::syn_slots(config_.policy, members, kSlots);
  if (slots == slots_) return;
  slots_ = slots;
  daemon_.privileged().syn_slots(index_, std::move(slots));
}

}  // namespace gecko::node
