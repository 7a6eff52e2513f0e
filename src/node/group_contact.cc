// Who is contact.
#include <algorithm>

#include "node/daemon.hh"

namespace gecko::node {

using wire::LinkType;

namespace {
// The old contact keeps answering until the segment has learned the new one; both steer correctly meanwhile.
constexpr Duration kOverlap = std::chrono::milliseconds(200);
constexpr Duration kAppointed = std::chrono::seconds(1);   // a claim goes round in two round trips
}  // namespace

uint64_t Group::contact_term() const {
  if (const auto by_view = members_.contact()) return by_view->term;
  return choice_.appointment() ? choice_.appointment()->term : 0;
}

void Group::set_contact(const std::string& name, std::function<void(const Status&)> done) {
  const auto node = find_node(name);
  if (!node) return done(node.error());
  if (*node != self_ && !peers_[*node].up())
    return done(make_error(Errc::unavailable, "node '" + name + "' is not connected to this node; it cannot become contact. See 'gecko status'"));
  if (!members_.contact()) {
    const auto appointment = choice_.appoint(*node);
    if (!appointment) return done(appointment.error());
    tell_all(*appointment, self_);
    elect();
    return done({});
  }
  if (*node == contact_) return done({});
  if (auto ok = members_.appoint(*node); !ok) return done(ok);
  const Time until = daemon_.loop().now() + kAppointed;
  appointments_.push_back({*node, until, std::move(done)});
  const std::weak_ptr<bool> alive = alive_;
  daemon_.loop().at(until, [this, alive] {
    if (!alive.expired()) appointed_or_not();
  });
}

void Group::appointed_or_not() {
  for (size_t i = 0; i < appointments_.size();) {
    const bool is = appointments_[i].node == contact_;
    if (!is && daemon_.loop().now() < appointments_[i].until) {
      ++i;
      continue;
    }
    const Appointment a = std::move(appointments_[i]);
    appointments_.erase(appointments_.begin() + static_cast<ptrdiff_t>(i));
    a.done(is ? Status{} : make_error(Errc::timeout, "node '" + config_.nodes[a.node].name + "' did not take the role; see 'gecko status'"));
  }
}

void Group::on_contact(const Peer& from, const wire::Contact& m) {
  if (!choice_.hear(m)) return;
  tell_all(m, from.index);
  if (members_.contact() && m.node != contact_) (void)members_.appoint(m.node);   // of a node that knows no views
  elect();
}

void Group::tell_all(const wire::Contact& appointment, uint16_t but) {
  for (auto& peer : peers_)
    if (is_fellow(peer) && peer.index != but) peer.send(LinkType::contact, appointment);
}

// By the view while this node has one and a lease (or lost it just now), else each node for itself.
void Group::elect() {
  // A starting node does not take the role from one it has only not reached yet.
  if (!settled_) settled_ = all_fellows_up();
  if (const auto chosen = members_.contact()) return elect_by_view(*chosen);
  contact_by_view_ = false;
  const auto chosen = choice_.contact();
  if (!chosen || *chosen == contact_ || (!settled_ && *chosen == self_ && !choice_.appointment())) return;
  become(*chosen);
}

void Group::elect_by_view(const Members::Contact& chosen) {
  contact_by_view_ = true;
  if (chosen.node == self_ && !chosen.acting) {
    // Not yet confirmed; or its lease has ended, and the others choose somebody.
    if (is_contact()) resign_later();
    return;
  }
  if (chosen.node >= peers_.size()) return;
  if (chosen.node != contact_) become(chosen.node);
  if (is_contact()) give_role_away();
}

// A node that is being drained is contact only if there is no other.
void Group::give_role_away() {
  if (!drain_.draining(self_)) return;
  for (const auto& name : config_.contact) {
    const auto node = static_cast<uint16_t>(config_.index_of(name));
    if (node == self_ || drain_.draining(node) || !peers_[node].up() || (members_.suspects() & core::one(node)) || !core::find(view(), node)) continue;
    (void)members_.appoint(node);
    return;
  }
}

// In a group that recovers connections the others may serve what this node does not know of any more: a contact without a lease must not answer
// for the group. Not at once: a moment without a lease is a busy machine.
void Group::resign_later() {
  if (config_.recovery == config::Recovery::none || std::exchange(resigning_, true)) return;
  const std::weak_ptr<bool> alive = alive_;
  daemon_.loop().at(daemon_.loop().now() + kOverlap, [this, alive] {
    if (alive.expired()) return;
    resigning_ = false;
    const auto chosen = members_.contact();
    if (!is_contact() || !chosen || chosen->node != self_ || chosen->acting) return;
    log_warn("group '" + config_.name + "': this node is not contact any more: it has no lease");
    former_contact_ = std::exchange(contact_, kNowhere);
    happened(ContactIs{});
    daemon_.privileged().contact(index_, number(self_), false, [this](const Status& status) { role_changed(status); });
    membership_changed();
  });
}

void Group::become(uint16_t contact) {
  const bool was = is_contact();
  former_contact_ = contact_;
  contact_ = contact;
  unsettled_since_ = daemon_.loop().now();
  happened(ContactIs{contact, contact_term()});
  log_info("group '" + config_.name + "': the contact is " + config_.nodes[contact].name + (contact == self_ ? " (this node)" : ""));
  if (contact == self_) {
    take_contact_role();
    program_all_near();
  } else {
    if (peers_[contact].up()) send_owned_flows(peers_[contact]);
    if (was) hand_over();
    else if (handing_over_ == 0) tell_kernel_contact();
  }
  // Nodes that know no views follow their own choice.
  const bool others = std::ranges::any_of(peers_, [&](const Peer& p) { return p.up() && p.index != self_ && p.version < kVersionWithViews; });
  if (contact_by_view_ && is_contact() && others && choice_.contact() != contact_)
    if (const auto appointment = choice_.appoint(contact_)) tell_all(*appointment, self_);
  appointed_or_not();
  membership_changed();
}

// The segment learns of the new contact in a moment; what comes here until then is steered as before.
void Group::hand_over() {
  auto& loop = daemon_.loop();
  loop.cancel(handing_over_);
  handing_over_ = loop.at(loop.now() + kOverlap, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    handing_over_ = 0;
    program_new_connections();
    if (!is_contact() && contact_ < peers_.size()) tell_kernel_contact();   // not if it has resigned meanwhile: then the kernel knows
  });
}

void Group::tell_kernel_contact() {
  daemon_.privileged().contact(index_, number(contact_), false, [this](const Status& status) { role_changed(status); });
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
