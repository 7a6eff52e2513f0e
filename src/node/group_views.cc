// What follows from a view, from a lease and from the end of a life of this node: for its mirrors (whose backups may be others now), for what it
// inherits (heir.hh), for the steering tables, and for what it owned itself.
#include <algorithm>

#include "node/daemon.hh"

namespace gecko::node {

namespace {
// Flow entries that are turned to an heir at once; then the links and the others get their turn.
constexpr size_t kTurnedAtOnce = 512;
static_assert(kTurnedAtOnce <= wire::kMaxHints);
constexpr uint64_t kUnconfirmed = 0;   // the epoch of an entry that no owner has spoken for
}  // namespace

void Group::on_view(const ViewChange& change) {
  for (const auto& owner : change.gone) shield_.mirroring().backup_over(owner.node, daemon_.loop().now());
  choose_backups();
  if (config_.recovery == config::Recovery::none) {
    for (const auto& owner : change.inherited) recovered(owner);
    return;
  }
  if (!change.gone.empty()) unsettled_since_ = daemon_.loop().now();
  // First what was on its way to or from the dead: from here on nothing of them comes to life (docs/adr/0020).
  for (const auto& owner : change.gone) {
    if (owner.node == self_ || owner.node >= peers_.size()) continue;
    peers_[owner.node].only_geckod_ended = false;   // when it is back its kernel does not know them, and may not answer for them
    handoff_.life_over(owner.node, daemon_.loop().now());
    for (auto it = questions_.begin(); it != questions_.end();) {
      const auto question = it++;
      if (question->second.waiting.erase(owner.node) != 0 && question->second.waiting.empty()) answered_by_nobody(question->first);
    }
  }
  run_actions();
  follow_heirs(change);
  std::vector<core::Owner> over;   // nobody inherits from them, or their heirs were done before this node knew the view
  for (const auto& followed : followed_) {
    const core::Owner& life = followed.first;
    if (core::find_orphan(change.view, life) == nullptr) over.push_back(life);
  }
  for (const auto& life : over) tell_unclaimed(life);
  for (const auto& owner : change.gone) {
    auto given = given_away_.take(owner, daemon_.loop().now());
    std::erase_if(given, [this](const auto& connection) { return speaks_for(connection.tcp.flow) != 0; });   // it has come back meanwhile
    if (is_member() && !given.empty()) heir_.reclaim(owner, std::move(given));
  }
  heir_.view(change);
  mirrors_.adopt(change.view, self_, config_.backups);
}

// What was forwarded to a dead node goes to its heir; what nobody inherits is asked for when its next packet comes.
void Group::follow_heirs(const ViewChange& change) {
  struct Followed {
    core::Owner dead;
    uint16_t heir;
  };
  std::map<uint16_t, Followed> heirs;   // by steering number of the dead
  for (const auto& owner : change.gone) {
    if (owner.node >= peers_.size() || owner.node == self_ || !config_.serves(owner.node)) continue;
    const auto* orphan = core::find_orphan(change.view, owner);
    heirs[number(owner.node)] = {owner, orphan == nullptr ? wire::kNoNode : orphan->heir};
  }
  if (heirs.empty()) return;
  const auto entries = std::make_shared<std::vector<ToHeir>>();
  (void)daemon_.flows().for_each([&](const Flow& flow, const gecko_flow& entry) {
    if (entry.state != GECKO_FLOW_FORWARD || !belongs(config_, flow)) return;
    const auto it = heirs.find(entry.node);
    if (it == heirs.end()) return;
    entries->push_back({flow, it->first, it->second.heir});
    followed_[it->second.dead].push_back({flow, wire::kNoNode, entry.epoch});
  });
  turn_to_heirs(entries, 0);
}

void Group::turn_to_heirs(const std::shared_ptr<const std::vector<ToHeir>>& entries, size_t at) {
  const size_t end = std::min(entries->size(), at + kTurnedAtOnce);
  for (; at < end; ++at) {
    const auto& [flow, dead, heir] = (*entries)[at];
    const auto entry = daemon_.flows().get(flow);
    if (!entry || !*entry || (*entry)->state != GECKO_FLOW_FORWARD || (*entry)->node != dead) continue;   // somebody has said more meanwhile
    // None, this node, or one of a newer group file than this node's: asked for when its next packet comes.
    if (heir >= peers_.size() || heir == self_) (void)daemon_.flows().erase(flow);
    else (void)daemon_.flows().set(flow, GECKO_FLOW_FORWARD, number(heir), kUnconfirmed, (*entry)->flags);
  }
  if (at == entries->size()) return;
  daemon_.loop().defer([this, alive = std::weak_ptr<bool>(alive_), entries, at] {
    if (!alive.expired()) turn_to_heirs(entries, at);
  });
}

// An heir says of each connection that it has brought to life that it owns it, and then that it is done. What it has said nothing of is not there: it had
// no mirror of it, maybe because whoever had one has died as well. At the contact the next packet of such a flow asks whose it is, and its client is told.
void Group::forget_unclaimed(uint16_t heir, const core::Owner& dead) {
  if (config_.recovery == config::Recovery::none) return;   // there is nothing to inherit: what a node owned is its own, wherever it is now
  tell_unclaimed(dead);
  if (!is_contact() || heir == self_) return;
  const bool is_back = core::find(view(), dead.node) != nullptr;   // entries of its new life are not to be turned any more
  std::vector<Flow> unclaimed;
  (void)daemon_.flows().for_each([&](const Flow& flow, const gecko_flow& entry) {
    if (entry.state != GECKO_FLOW_FORWARD || !belongs(config_, flow)) return;
    const bool turned = entry.node == number(heir) && entry.epoch == kUnconfirmed, not_turned_yet = entry.node == number(dead.node) && !is_back;
    if (turned || not_turned_yet) unclaimed.push_back(flow);
  });
  for (const auto& flow : unclaimed) (void)daemon_.flows().erase(flow);
}

void Group::recovered(const core::Owner& owner) {
  tell_unclaimed(owner);
  members_.recovered(owner);
}

// A contact, or one to be, may still send here what was handed off from here to the dead, who was perhaps the only one to know that: two tables that
// send a flow to each other would leave its client without any answer. Whoever has an older story than this node's forgets it. One that has heard the heir
// has a newer one.
void Group::tell_unclaimed(const core::Owner& dead) {
  auto followed = followed_.extract(dead);
  if (followed) tell_unclaimed(std::make_shared<const std::vector<wire::Hint>>(std::move(followed.mapped())), 0);
}

void Group::tell_unclaimed(const std::shared_ptr<const std::vector<wire::Hint>>& flows, size_t at) {
  wire::Hints unclaimed;
  for (const size_t end = std::min(flows->size(), at + kTurnedAtOnce); at < end; ++at) {
    const wire::Hint& h = (*flows)[at];
    const auto entry = daemon_.flows().get(h.flow);
    const bool is_known = entry && *entry && ((*entry)->state != GECKO_FLOW_FORWARD || (*entry)->epoch > h.epoch);   // it is here, or somebody has said more
    if (!is_known) unclaimed.hints.push_back(h);
  }
  if (!unclaimed.hints.empty())
    for (auto& peer : peers_)
      if (is_fellow(peer)) peer.send(wire::LinkType::hints, unclaimed);
  if (at == flows->size()) return;
  daemon_.loop().defer([this, alive = std::weak_ptr<bool>(alive_), flows, at] {
    if (!alive.expired()) tell_unclaimed(flows, at);
  });
}

void Group::on_lease() {
  shield_.lease_changed();
  choose_backups();   // its life may be another one
}

// What the table says of this life, or of one of a geckod before this one, sends packets to sockets that are about to end, or holds them for ever.
void Group::forget_own_entries() {
  std::vector<Flow> own;
  (void)daemon_.flows().for_each([&](const Flow& flow, const gecko_flow& entry) {
    const bool is_own = entry.state == GECKO_FLOW_MINE || (entry.state == GECKO_FLOW_HOLD && !questions_.contains(flow));
    if (is_own && belongs(config_, flow)) own.push_back(flow);
  });
  for (const auto& flow : own) drop_entry(flow);
}

// What this life owned is others' now, or nobody's: its sockets end without a word to their clients (the gate lets nothing of them out), its
// applications see that they have ended.
void Group::fence(const core::Owner&, std::function<void()> done) {
  if (config_.recovery == config::Recovery::none) return done();
  heir_.fence();
  mirrors_.drop_all();
  for (const auto& peer : peers_)
    if (peer.index != self_) handoff_.life_over(peer.index, daemon_.loop().now());
  run_actions();
  for (auto& [key, taking] : taking_) daemon_.privileged().retire(taking.token);
  taking_.clear();
  unoffered_.clear();
  followed_.clear();
  given_away_.clear();
  std::vector<ConnId> all;
  for (const auto& [id, connection] : connections_) {
    all.push_back(id);
    if (connection.session != nullptr) connection.session->former.insert(id);
  }
  for (const auto& id : all) {
    shield_.departed(connections_.at(id).flow);
    forget(id, false);
  }
  forget_own_entries();
  if (!all.empty()) log_warn("group '" + config_.name + "': this node's life as a member is over; " + std::to_string(all.size()) + " connections end here");
  daemon_.privileged().end_sockets(index_, [done = std::move(done)](const Status& status) {
    if (!status) log_error("ending what a former life owned: " + status.error().message);
    done();
  });
}

}  // namespace gecko::node
