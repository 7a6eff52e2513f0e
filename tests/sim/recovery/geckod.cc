#include "sim/recovery/geckod.hh"

#include <algorithm>

#include "core/view.hh"
#include "sim/recovery/world.hh"

namespace gecko::sim {

namespace {
wire::TcpMirror mirror_at_birth(ConnNo conn) {
  wire::TcpMirror m;
  m.flow = conn_flow(conn);
  m.mss = 1400;
  m.sack = true;
  m.snd_una = m.snd_edge = first_out(conn);
  m.rcv_nxt = first_in(conn);
  m.rcv_edge = m.rcv_nxt + kWindow;
  return m;
}

}  // namespace

Geckod::Geckod(RecoveryWorld& world, uint16_t self) : world_(world), self_(self) {}
Geckod::~Geckod() = default;

Time Geckod::now() const { return world_.now(); }
Server& Geckod::server() const { return world_.server(self_); }

void Geckod::start(uint64_t incarnation) {
  member_ = false;
  view_ = {};
  const auto send = [this](uint16_t node, const auto& m) { return world_.send(self_, node, m); };
  mirroring_ = std::make_unique<node::Mirroring>(node::Mirroring::Send{send, send, send}, [this](const Flow& flow, uint64_t offset, bool end) {
    const ConnNo conn = conn_of(flow);
    server().stable(conn, offset + (end ? 1 : 0));
    const auto it = owned_.find(conn);
    if (it == owned_.end()) return;
    auto& waiting = it->second.waiting;
    std::vector<std::function<void()>> then;
    for (auto at = waiting.begin(); at != waiting.upper_bound(offset); at = waiting.erase(at)) then.push_back(std::move(at->second));
    for (auto& call : then) call();
  });
  store_ = std::make_unique<core::MirrorStore>();
  recovery_ = std::make_unique<core::Recovery>(self_);
  handoff_ = std::make_unique<core::Handoff>(self_, core::HandoffLimits(), [this](const ConnId& id) {
    const auto it = owned_.find(conn_no(id));
    return it == owned_.end() ? 0 : it->second.epoch;
  }, now(), incarnation);
  timer_ = Time::max();
  flush_due_ = false;
}

void Geckod::died() {
  ++round_;
  owned_.clear();
  subjects_.clear();
  giving_.clear();
  taking_.clear();
  replicas_.clear();
  early_.clear();
  start(1);
}

// ---------------------------------------------------------------- membership

std::vector<core::Owner> Geckod::owners() const {
  std::vector<core::Owner> all;
  for (const auto& member : view_.members)
    if (!member.witness) all.push_back({member.node, member.incarnation});
  return all;
}

void Geckod::choose_backups() {
  if (!member_) return;
  const auto nodes = core::successors_of(view_, self_, world_.settings.backups);
  for (const auto& [conn, owned] : owned_) world_.note_kept(self_, conn, nodes);   // before it acts on it
  mirroring_->set_backups(nodes, now());
  for (const uint16_t node : nodes)
    if (world_.linked(self_, node)) mirroring_->link_up(node, true);
  say_soon();
}

void Geckod::adopted(const core::Adopted& adopted) {
  view_ = adopted.view;
  member_ = core::owns(view_, self_, adopted.incarnation);
  if (member_) mirroring_->begin_life(adopted.incarnation);
  else mirroring_->end_life();
  for (const auto& owner : adopted.gone) mirroring_->backup_over(owner.node, now());
  choose_backups();
  for (const auto& owner : adopted.gone)
    if (owner.node != self_) handoff_->life_over(owner.node, now());
  run();
  if (!member_) {
    recovery_->fence();
    return run();
  }
  recovery_->view(view_.epoch, owners(), now());
  for (const auto& life : adopted.inherited) inherit(life);
  for (const auto& [from, ask] : std::exchange(early_, {})) on(from, ask);
  run();
  store_->adopt(view_, self_, world_.settings.backups);
}

void Geckod::fenced() {
  ++round_;
  early_.clear();
  recovery_->fence();
  run();
  subjects_.clear();
  store_->drop_all();
  for (uint16_t n = 0; n < world_.settings.group.nodes; ++n)
    if (n != self_) handoff_->life_over(n, now());
  run();
  taking_.clear();
  replicas_.clear();
  while (!owned_.empty()) forget(owned_.begin()->first);
  for (const ConnNo conn : server().all()) server().destroy(conn);
}

// ---------------------------------------------------------------- links

void Geckod::link_up(uint16_t peer) {
  mirroring_->link_down(peer, now());   // node/links ends a link that is replaced first: what was on its way is lost
  handoff_->link_up(peer, world_.incarnation(peer), now());
  choose_backups();
  recovery_->link_up(peer, now());
  run();
}

void Geckod::link_down(uint16_t peer) {
  handoff_->link_down(peer, now());
  mirroring_->link_down(peer, now());
  choose_backups();
  run();
}

void Geckod::on(uint16_t from, const wire::Mirrors& m) { (void)world_.send(self_, from, store_->hear(from, m)); }
void Geckod::on(uint16_t from, const wire::Checkpoint& m) { (void)store_->hear(from, m); }
void Geckod::on(uint16_t from, const wire::MirrorsKept& m) { mirroring_->on_kept(from, m, now()); }
void Geckod::on(uint16_t from, const wire::InputsKept& m) { mirroring_->on_kept(from, m); }

void Geckod::on(uint16_t from, const wire::Inputs& m) {
  const auto kept = store_->hear(from, m);
  world_.heard_inputs(from, self_, m.incarnation);
  (void)world_.send(self_, from, kept);
}

// ---------------------------------------------------------------- what it owns

void Geckod::say_soon() {
  if (std::exchange(flush_due_, true)) return;
  world_.machines().after(self_, Part::daemon, world_.random.between(Duration{}, world_.settings.mirror_interval), "say", [this] {
    flush_due_ = false;
    for (auto& [conn, owned] : owned_) refresh(conn, owned);
    if (mirroring_->pending()) mirroring_->flush(now());
    if (mirroring_->pending()) say_soon();
  });
}

void Geckod::moved(ConnNo conn) {
  if (owned_.contains(conn)) say_soon();
}

// A mirror is what the gate has let out: acknowledgements that no client has been told of are not in it.
void Geckod::refresh(ConnNo conn, Owned& owned) {
  if (owned.handle == 0 || !server().has(conn)) return;
  const Server::Stands at = server().stands(conn);
  const bool fin = at.fin && at.told > at.received;
  wire::TcpMirror m = owned.mirror;
  m.acked = at.acked;
  m.snd_una = first_out(conn) + static_cast<uint32_t>(at.acked);
  m.snd_edge = later(later(m.snd_edge, first_out(conn) + static_cast<uint32_t>(at.sent)), m.snd_una);
  m.received = at.told - (fin ? 1 : 0);
  m.fin_received = fin;
  m.rcv_nxt = first_in(conn) + static_cast<uint32_t>(m.received);
  m.rcv_edge = later(m.rcv_edge, m.rcv_nxt + kWindow / 2);
  if (m.acked == owned.mirror.acked && m.received == owned.mirror.received && fin == owned.mirror.fin_received) return;
  owned.mirror = m;
  mirroring_->moved(owned.handle, m);
}

void Geckod::own(ConnNo conn, uint64_t epoch, std::optional<core::Replica> replica, uint64_t stable) {
  Owned& owned = owned_[conn];
  owned.epoch = epoch;
  const Server::Stands at = server().stands(conn);
  wire::TcpMirror m = mirror_at_birth(conn);
  m.acked = at.acked;
  m.snd_una += static_cast<uint32_t>(at.acked);
  m.snd_edge = first_out(conn) + static_cast<uint32_t>(at.sent);
  m.fin_received = at.fin && (!replica || at.told > at.received);
  m.received = replica ? at.told - (m.fin_received ? 1 : 0) : at.received;   // what is not acknowledged must come again (Shield::arriving)
  m.rcv_nxt += static_cast<uint32_t>(m.received);
  m.rcv_edge = m.rcv_nxt + kWindow;
  owned.mirror = m;
  owned.handle = mirroring_->add(epoch == 1 ? ConnId{} : conn_id(conn), epoch, m);
  if (replica && backups().empty()) world_.checker.kept(conn, replica->input().end() + (replica->input().ended() ? 1 : 0));   // before it is said
  if (replica) mirroring_->replicate(owned.handle, std::move(*replica), stable, now());
  world_.note_kept(self_, conn, backups());
  refresh(conn, owned);
  say_soon();
}

void Geckod::born(ConnNo conn) {
  if (!member_ || owned_.contains(conn) || !server().is_live(conn)) return;
  own(conn, 1, world_.settings.replicated ? std::optional<core::Replica>(std::in_place, uint64_t{0}) : std::nullopt, 0);
}

void Geckod::forget(ConnNo conn) {
  const auto it = owned_.find(conn);
  if (it == owned_.end()) return;
  mirroring_->end(it->second.handle);
  owned_.erase(it);
  say_soon();
}

void Geckod::end(ConnNo conn) {
  const auto it = owned_.find(conn);
  if (it == owned_.end() || it->second.moving) return;
  forget(conn);
  server().destroy(conn);
  world_.checker.ended(conn);
}

// ---------------------------------------------------------------- programs

void Geckod::input(ConnNo conn, uint64_t offset, const wire::Bytes& bytes, bool end) {
  born(conn);   // its library has named it before
  const auto it = owned_.find(conn);
  if (it == owned_.end()) return;
  mirroring_->identify(it->second.handle, conn_id(conn), it->second.epoch);
  if (backups().empty()) world_.checker.kept(conn, offset + bytes.size() + (end ? 1 : 0));
  mirroring_->input(it->second.handle, offset, bytes, end);
}

uint64_t Geckod::logged(ConnNo conn) const {
  const auto it = owned_.find(conn);
  const core::Replica* replica = it == owned_.end() ? nullptr : mirroring_->replica(it->second.handle);
  return replica == nullptr ? 0 : replica->input().end() + (replica->input().ended() ? 1 : 0);
}

void Geckod::when_stable(ConnNo conn, uint64_t offset, std::function<void()> then) {
  const auto it = owned_.find(conn);
  if (it == owned_.end()) return;
  const auto so_far = mirroring_->progress(it->second.handle);
  if (!so_far || so_far->stable >= std::min(offset, so_far->reported)) return then();
  it->second.waiting.emplace(std::min(offset, so_far->reported), std::move(then));
}

void Geckod::checkpoint(ConnNo conn, core::SavedState saved) {
  const auto it = owned_.find(conn);
  if (it == owned_.end()) return;
  mirroring_->checkpoint(it->second.handle, std::make_shared<const core::SavedState>(std::move(saved)));
  say_soon();
}

std::string Geckod::unprotected() const {
  const auto& nodes = backups();
  if (nodes.size() != std::min<size_t>(world_.settings.backups, world_.settings.group.nodes - 1u)) return "node " + std::to_string(self_) + " lacks backups";
  for (const auto& [conn, owned] : owned_) {
    const std::string name = "connection " + std::to_string(conn) + " of node " + std::to_string(self_);
    for (const uint16_t b : nodes) {
      const auto* there = world_.geckod(b).store().find({self_, incarnation()}, conn_flow(conn));
      if (there == nullptr || there->epoch != owned.epoch) return name + " is not at node " + std::to_string(b);
      if (!world_.settings.replicated) continue;
      const auto& truth = world_.checker.at(conn);
      if (!there->replica) return name + ": no log at node " + std::to_string(b);
      const core::InputLog& log = there->replica->input();
      if (log.end() + (log.ended() ? 1 : 0) < truth.told) return name + ": log at node " + std::to_string(b);
      if (!there->replica->resume(truth.client_got)) return name + ": checkpoints at node " + std::to_string(b);
    }
  }
  return "";
}

// ---------------------------------------------------------------- what its machines say

void Geckod::arm_timer() {
  const Time next = std::min(recovery_->next_deadline(), handoff_->next_deadline());
  if (next >= timer_) return;
  timer_ = next;
  world_.machines().at(self_, Part::daemon, next, "tick", [this, next] {
    if (timer_ != next) return;
    timer_ = Time::max();
    recovery_->tick(now());
    handoff_->tick(now());
    run();
  });
}

void Geckod::run() {
  if (std::exchange(running_, true)) return;
  for (bool more = true; more;) {
    auto recovering = recovery_->take_actions();
    for (auto& action : recovering) std::visit([this](auto& a) { carry_out(a); }, action);
    auto moving = handoff_->take_actions();
    for (auto& action : moving) std::visit([this](auto& a) { carry_out(a); }, action);
    more = !recovering.empty() || !moving.empty();
  }
  running_ = false;
  arm_timer();
}

}  // namespace gecko::sim
