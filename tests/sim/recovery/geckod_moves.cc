// Handoffs, as node/group_moves does them around core/handoff; what a replicated connection is recovered from travels along.
#include "sim/recovery/geckod.hh"

#include <algorithm>

#include "core/view.hh"
#include "sim/recovery/world.hh"

namespace gecko::sim {

bool Geckod::hand_off(ConnNo conn, uint16_t target) {
  const auto it = owned_.find(conn);
  if (it == owned_.end() || it->second.moving || !server().is_live(conn) || target == self_) return false;
  const auto xid = handoff_->start({conn_id(conn), conn_flow(conn), it->second.epoch, target, false, {}}, now());
  if (!xid) return false;
  it->second.moving = true;
  giving_[*xid] = {conn, target, {}};
  run();
  return true;
}

bool Geckod::gives_to(uint16_t target) const {
  return std::ranges::any_of(giving_, [target](const auto& giving) { return giving.second.target == target; });
}

bool Geckod::moves_are_kept() const {
  if (!taking_.empty()) return false;
  for (uint16_t n = 0; n < world_.settings.group.nodes; ++n)
    if (n != self_ && world_.geckod(n).gives_to(self_)) return false;
  for (const auto& [conn, owned] : owned_) {
    if (owned.epoch == 1) continue;
    for (const uint16_t b : backups()) {
      if (!world_.linked(self_, b)) continue;
      const auto* there = world_.geckod(b).store().find({self_, incarnation()}, conn_flow(conn));
      if (there == nullptr || there->epoch != owned.epoch) return false;
      const auto so_far = mirroring_->progress(owned.handle);
      if (so_far && (so_far->kept < so_far->reported || so_far->stable_checkpoints < so_far->checkpoints)) return false;
    }
  }
  return true;
}

void Geckod::on(uint16_t from, const core::LinkMessage& m) {
  if (view_.epoch != 0 && core::find(view_, from) == nullptr) return;   // an outsider does not own what it speaks of
  handoff_->message(from, m, now());
  run();
}

void Geckod::on(uint16_t from, const wire::Replica& m) {
  if (handoff_->expects_state({from, m.xid})) replicas_.insert_or_assign({from, m.xid}, m);
}

void Geckod::carry_out(core::Send& a) { (void)world_.send(self_, a.to, a.message); }

void Geckod::carry_out(core::AskYield& a) {
  world_.machines().after(self_, Part::daemon, world_.settings.api_delay, "yield", [this, xid = a.xid, conn = conn_no(a.id)] {
    if (!giving_.contains(xid)) return;
    const auto program = server().let_go(conn);
    if (program) giving_.at(xid).program = *program;
    if (program) (void)handoff_->yielded(xid, wire::encode(*program), now());
    else (void)handoff_->yielded(xid, make_error(Errc::refused, "its program is in the middle of a call"), now());
    run();
  });
}

void Geckod::carry_out(core::Freeze& a) {
  world_.machines().after(self_, Part::daemon, world_.random.between({}, world_.settings.command_max), "frozen", [this, xid = a.xid] {
    const auto it = giving_.find(xid);
    if (it == giving_.end() || !server().is_live(it->second.conn) || !owned_.contains(it->second.conn)) {
      handoff_->frozen(xid, make_error(Errc::closed, "its socket has ended"), now());   // fenced meanwhile: the answer is owed all the same
      return run();
    }
    const ConnNo conn = it->second.conn;
    const Server::Stands at = server().freeze(conn);
    world_.trace.add(now(), "freezes", self_, conn, it->second.target);
    if (const auto* replica = mirroring_->replica(owned_.at(conn).handle)) {
      wire::Replica m = replica->to_wire();
      m.xid = xid;
      m.stable = mirroring_->progress(owned_.at(conn).handle)->stable;
      (void)world_.send(self_, it->second.target, m);
    }
    handoff_->frozen(xid, wire::encode(at), now(), {at.acked, at.received - at.unread.size(), true});
    run();
  });
}

void Geckod::carry_out(core::Thaw& a) {
  const ConnNo conn = conn_no(a.id);
  if (const auto it = owned_.find(conn); it != owned_.end()) {
    it->second.epoch = a.epoch;
    world_.trace.add(now(), "thaws", self_, conn, a.epoch);
    server().thaw(conn);
    if (world_.transmits(self_)) world_.steer(conn, self_);   // else others may have it, and nobody believes this node
  }
  handoff_->thawed(a.xid, {}, now());
}

void Geckod::carry_out(core::CommitMove& a) { world_.steer(conn_no(a.id), a.to); }

void Geckod::carry_out(core::Retire& a) { server().destroy(conn_no(a.id)); }
void Geckod::carry_out(core::End& a) { server().destroy(conn_no(a.id)); }

void Geckod::carry_out(core::Report& a) {
  const auto giving = giving_.extract(a.xid);
  const ConnNo conn = conn_no(a.id);
  if (!giving) return;
  const auto it = owned_.find(conn);
  world_.trace.add(now(), a.status ? "gave" : a.lost ? "lost" : "keeps", self_, conn);
  if (a.status || a.lost) {
    if (a.status) ++world_.counts.moved;
    forget(conn);
  } else if (it != owned_.end()) {
    it->second.moving = false;
    mirroring_->identify(it->second.handle, conn_id(conn), it->second.epoch);
    if (a.give_back && server().has(conn)) server().deliver(conn, giving.mapped().program);
  }
}

void Geckod::carry_out(core::Check& a) { handoff_->checked(a.key, member_ ? Status() : Status(make_error(Errc::refused, "this node is no member")), now()); }

void Geckod::carry_out(core::Restore& a) {
  auto replica = replicas_.extract(a.key);
  const auto at = wire::decode<Server::Stands>(a.tcp);
  const ConnNo conn = conn_no(a.id);
  if (!at || server().has(conn)) return handoff_->restored(a.key, make_error(Errc::exists, "there is such a socket"), now());
  Taking& taking = taking_[a.key] = {conn, *at, {}, 0};
  if (replica) {
    taking.stable = replica.mapped().stable;
    taking.replica.emplace(std::move(replica.mapped()));
  }
  world_.machines().after(self_, Part::daemon, world_.random.between({}, world_.settings.command_max), "restored", [this, key = a.key] {
    const auto it = taking_.find(key);
    if (it != taking_.end()) server().restore(it->second.conn, it->second.at, std::max(it->second.at.told, it->second.stable));
    handoff_->restored(key, it != taking_.end() ? Status() : Status(make_error(Errc::closed, "this node's life is over")), now());
    run();
  });
}

void Geckod::carry_out(core::Activate& a) {
  world_.machines().after(self_, Part::daemon, world_.random.between({}, world_.settings.command_max), "activated",
                          [this, key = a.key, epoch = a.epoch] {
    const auto it = taking_.find(key);
    if (it == taking_.end()) {
      handoff_->activated(key, make_error(Errc::closed, "this node's life is over"), now());
      return run();
    }
    Taking& taking = it->second;
    world_.steer(taking.conn, self_);
    world_.trace.add(now(), "arrived", self_, taking.conn, epoch);
    store_->drop(conn_id(taking.conn));
    server().activate(taking.conn);
    auto replica = std::exchange(taking.replica, {});
    if (!replica && world_.settings.replicated) replica.emplace(taking.at.received - taking.at.unread.size());
    own(taking.conn, epoch, std::move(replica), taking.stable);
    handoff_->activated(key, {}, now());
    run();
  });
}

void Geckod::carry_out(core::Deliver& a) {
  const auto taking = taking_.extract(a.key);
  if (taking && server().has(taking.mapped().conn)) server().deliver(taking.mapped().conn, *wire::decode<Program>(a.blob));
}

void Geckod::carry_out(core::Destroy& a) {
  replicas_.erase(a.key);
  if (const auto taking = taking_.extract(a.key)) {
    world_.trace.add(now(), "destroys", self_, taking.mapped().conn);
    server().destroy(taking.mapped().conn);
  }
}

}  // namespace gecko::sim
