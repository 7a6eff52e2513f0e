// Mirrors between nodes: whom this node's are sent to, and what comes of the others'.
#include <algorithm>

#include "node/daemon.hh"

namespace gecko::node {

using wire::LinkType;

namespace {
constexpr uint16_t kSpeaksMirrors = 4, kKeepsInput = 5;   // link versions
}  // namespace

Mirroring::Send Group::mirror_senders() {
  const auto to = [this](uint16_t node, LinkType type, const auto& m) {
    Peer& peer = peers_[node];
    if (!peer.up() || peer.version < kSpeaksMirrors) return false;
    peer.send(type, m);
    return true;
  };
  return {[to](uint16_t node, const wire::Mirrors& m) { return to(node, LinkType::mirrors, m); },
          [to](uint16_t node, const wire::Checkpoint& m) { return to(node, LinkType::checkpoint, m); },
          [to](uint16_t node, const wire::Inputs& m) { return to(node, LinkType::inputs, m); }};
}

bool Group::wants_recovery(uint16_t port) const {
  return std::ranges::any_of(sessions_, [port](const ApiSession* s) { return s->wants_recovery(port); });
}

void Group::ending(ApiSession& session, const ConnId& id) {
  if (const Connection* connection = owned_by(session, id); connection != nullptr && !connection->moving) shield_.ended(connection->flow, true);
}

void Group::choose_backups() {
  if (!shield_.on()) return;
  if (const uint64_t life = this->life().incarnation; life != 0) {
    if (is_member()) shield_.mirroring().begin_life(life);
    else shield_.mirroring().end_life();
  }
  const auto nodes = backups(config_.backups);
  shield_.mirroring().set_backups(nodes, daemon_.loop().now());
  for (const uint16_t node : nodes)
    if (peers_[node].up() && peers_[node].version >= kSpeaksMirrors) shield_.mirroring().link_up(node, peers_[node].version >= kKeepsInput);
  daemon_.gate()->look_soon();
}

void Group::on_mirrors(Peer& peer, const wire::Mirrors& m) {
  if (peer.version < kSpeaksMirrors) return;
  const auto kept = mirrors_.hear(peer.index, m);
  peer.send(LinkType::mirrors_kept, kept);
}

// ---------------------------------------------------------------- replicated connections (docs/adr/0026)

void Group::input(ApiSession& session, const wire::AppInput& m) {
  if (const Connection* connection = owned_by(session, m.id)) shield_.input(connection->flow, m);
}

void Group::when_stable(ApiSession& session, const wire::AppAwait& m, std::function<void()> then) {
  const Connection* connection = owned_by(session, m.id);
  if (connection != nullptr) shield_.when_stable(connection->flow, m.offset, std::move(then));   // else its program waits for what becomes of it
}

// Frozen: nothing is added any more. Before its state, over the same link.
void Group::send_replica(uint64_t xid, const Giving& giving) {
  const core::Replica* replica = shield_.replica(giving.flow);
  Peer& peer = peers_[giving.target];
  if (replica == nullptr || giving.target == self_ || !peer.up() || peer.version < kKeepsInput) return;
  wire::Replica m = replica->to_wire();
  m.xid = xid;
  shield_.tell_where_it_stands(giving.flow, m);
  peer.send(LinkType::replica, m);
}

void Group::on_replica(Peer& peer, wire::Replica m) {
  const core::AcceptKey key{peer.index, m.xid};
  if (shield_.on() && handoff_.expects_state(key)) replicas_.insert_or_assign(key, std::move(m));
}

}  // namespace gecko::node
