// Who forms a group's first view: one node, and never two of them, when a majority of the group file's nodes is there and nobody has a view.
#include <algorithm>
#include <bit>

#include "base/log.hh"
#include "node/members.hh"
#include "node/peer.hh"

namespace gecko::node {

using core::NodeSet;
using core::one;
using wire::kNoNode;
using wire::LinkType;

namespace {
// An agreement to another node's forming the first view is kept for longer than it is good for.
constexpr Duration kAgreementKept = std::chrono::seconds(5), kAgreementGood = std::chrono::seconds(1), kAskAgain = std::chrono::milliseconds(200),
                   kWordComes = std::chrono::seconds(1);
}  // namespace

NodeSet Members::newcomers() const {
  NodeSet set = 0;
  for (const auto& [node, epoch] : told_)
    if (epoch == 0 && place_.peers[node].up()) set |= one(node);
  return set;
}

// A majority of the group file's nodes is linked (this one included), none has a view, all of them know what a view is, and this one is the first
// choice for contact of them. Who has not come within the time that a starting node waits for the others is not waited for.
bool Members::may_form() const {
  if (!membership_ || place_.config.is_witness(place_.self) || view().epoch != 0 || !is_fenced_ || !trouble_.empty() || !events_.settled()) return false;
  for (const auto& peer : place_.peers)
    if (peer.up() && peer.index != place_.self && peer.version < kVersionWithViews) return false;
  for (const auto& [node, epoch] : told_)
    if (epoch != 0) return false;
  const NodeSet all = newcomers() | one(place_.self);
  if (static_cast<size_t>(std::popcount(all)) <= place_.config.present_nodes() / 2) return false;
  for (const auto& contact : place_.config.contact)
    if (const auto node = static_cast<uint16_t>(place_.config.index_of(contact)); all & one(node)) return node == place_.self;
  for (uint16_t node = 0; node < place_.self; ++node)
    if ((all & one(node)) && !place_.config.is_witness(node)) return false;
  return true;   // nobody of them may be contact: the first of the file that serves
}

// A linked node that starts just now says in a moment that it has no view either: if it comes first as contact, the group begins with it.
bool Members::waits_for_word() const {
  return std::ranges::any_of(place_.peers, [this](const Peer& p) { return p.index != place_.self && p.up() && !told_.contains(p.index); });
}

void Members::look_for_first_view() {
  if (!may_form()) {
    could_form_ = Time::max();
    return;
  }
  const Time t = now();
  could_form_ = std::min(could_form_, t);
  if (waits_for_word() && t < could_form_ + kWordComes) return ask_for_first_view_at(could_form_ + kWordComes);
  if (promised_to_ != place_.self && promised_to_ != kNoNode && t < promised_until_) return ask_for_first_view_at(promised_until_);
  promised_to_ = place_.self;
  promised_until_ = t + kAgreementKept;
  size_t agreed = 1;
  for (const auto& [node, asked] : agreed_)
    if (place_.peers[node].up() && t < asked + kAgreementGood) ++agreed;
  if (agreed > place_.config.present_nodes() / 2) {
    agreed_.clear();
    log_info("group '" + place_.config.name + "': this node forms the group's first view");
    if (auto ok = form(); !ok) log_error("group '" + place_.config.name + "': " + ok.error().message);
    return;
  }
  if (t >= asked_ + kAskAgain) {
    asked_ = t;
    for (uint16_t n = 0; n < place_.peers.size(); ++n)
      if (newcomers() & one(n)) place_.peers[n].send(LinkType::first_view, wire::FirstView{});
  }
  ask_for_first_view_at(asked_ + kAskAgain);
}

void Members::ask_for_first_view_at(Time when) {
  place_.loop.cancel(first_timer_);
  first_timer_ = place_.loop.at(when, [this] {
    first_timer_ = 0;
    look_for_first_view();
  });
}

void Members::on(Peer& from, const wire::FirstView& m) {
  if (m.answer) {
    if (m.agreed) agreed_[from.index] = asked_;
    return look_for_first_view();
  }
  const Time t = now();
  const bool free = promised_to_ == kNoNode || promised_to_ == from.index || t >= promised_until_;
  const bool agreed = membership_ && view().epoch == 0 && free;
  if (agreed) {
    promised_to_ = from.index;
    promised_until_ = t + kAgreementKept;
  }
  from.send(LinkType::first_view, wire::FirstView{true, agreed});
}

}  // namespace gecko::node
