#include "sim/recovery/world.hh"

#include <algorithm>

namespace gecko::sim {

using namespace std::chrono_literals;

RecoveryWorld::RecoveryWorld(uint64_t seed, const RecoverySettings& s, bool print_trace)
    : settings(s),
      client_loss(s.client_loss),
      group(seed, s.group, print_trace),
      random(mixed(seed + 1)),
      trace(group.trace),
      checker(trace, [this] { return now(); }, s.replicated),
      clients(group.queue, random.fork(), checker),
      network_(group.queue, group.machines, random.fork(), s.links) {
  for (uint16_t n = 0; n < settings.group.nodes; ++n) {
    servers_.push_back(std::make_unique<Server>(*this, n));
    geckods_.push_back(std::make_unique<Geckod>(*this, n));
    incarnations_.push_back(random.next() >> 20);
    geckods_[n]->start(incarnations_[n]);
  }
  network_.on_up = [this](uint16_t n, uint16_t peer) {
    lives_[{n, peer}] = machines().life(peer, Part::daemon);
    geckod(n).link_up(peer);
  };
  network_.on_down = [this](uint16_t n, uint16_t peer) { geckod(n).link_down(peer); };
  clients.transmit = [this](const Packet& packet) { to_group(packet); };
  group.on_adopted = [this](uint16_t n, const core::Adopted& adopted) { geckod(n).adopted(adopted); };
  group.on_fenced = [this](uint16_t n) { geckod(n).fenced(); };
  group.on_look = [this] { checker.look([this](uint16_t n) { return transmits(n); }); };
  network_.start();
}

// ---------------------------------------------------------------- packets

uint16_t RecoveryWorld::contact() const {
  for (uint16_t n = 0; n < settings.group.nodes; ++n)
    if (group.acts(n) && group.machines.running(n, Part::kernel)) return n;
  return wire::kNoNode;
}

void RecoveryWorld::to_group(const Packet& packet) {
  const ConnNo conn = packet.conn;
  const auto somebody = [&] {
    for (uint16_t n = 0; n < settings.group.nodes; ++n)
      if (servers_[n]->has(conn) || geckods_[n]->concerns(conn)) return true;
    return false;
  };
  if (somebody()) nobodys_since_.erase(conn);
  else nobody_has(conn);
  for (int copies = random.chance(settings.client_doubled) ? 2 : 1; copies > 0; --copies) {
    if (random.chance(client_loss)) continue;
    const Duration delay = random.between(settings.client_delay_min, settings.client_delay_max);
    group.queue.at(now() + delay, [this, packet] {
      const uint16_t first = contact();
      const uint16_t to = random.chance(settings.astray) ? static_cast<uint16_t>(random.below(settings.group.nodes)) : steered_[packet.conn];
      if (first == wire::kNoNode || (first != to && network_.is_cut(first, to))) return;
      machines().after(to, Part::kernel, first == to ? Duration{} : 100us, "client's packet", [this, to, packet] {
        if (!geckod(to).hold(packet)) (void)server(to).receive(packet);
      });
    });
  }
}

// All nodes say that it is not theirs: the contact's kernel may answer.
void RecoveryWorld::nobody_has(ConnNo conn) {
  const Time since = nobodys_since_.try_emplace(conn, now()).first->second;
  if (now() - since > 3s && contact() != wire::kNoNode) reset_client(conn);
}

bool RecoveryWorld::is_gone(ConnNo conn) const {
  const auto& c = checker.connections()[conn];
  const bool may_be = checker.may_lose() || c.excused || (c.client_acked == 0 && c.client_got == 0);
  return c.live.empty() && may_be && clients.all_acked(conn);
}

void RecoveryWorld::steer_to_heir(ConnNo conn, uint16_t node) {
  for (uint16_t n = 0; n < settings.group.nodes; ++n)
    if (n != node && !transmits(node) && transmits(n) && (geckods_[n]->owns(conn) || geckods_[n]->concerns(conn))) return;
  steer(conn, node);
}

// The owner had left its former backup for one that has just joined, and died before that one had everything.
void RecoveryWorld::excuse_what_only_others_have(uint16_t heir, const core::Owner& life) {
  const auto has = [&](uint16_t n, ConnNo conn) { return geckod(n).store().find({life.node, life.incarnation}, conn_flow(conn)) != nullptr; };
  for (const ConnNo conn : open_connections()) {
    if (has(heir, conn)) continue;
    for (uint16_t n = 0; n < settings.group.nodes; ++n)
      if (n != heir && has(n, conn)) checker.excuse(conn);
  }
}

void RecoveryWorld::ask_whose(ConnNo conn) {
  for (uint16_t n = 0; n < settings.group.nodes; ++n)
    if (geckods_[n]->owns(conn) && transmits(n)) steer(conn, n);
}

void RecoveryWorld::to_client(uint16_t n, const Packet& packet) {
  if (muted_.contains(n)) return;
  for (int copies = random.chance(settings.client_doubled) ? 2 : 1; copies > 0; --copies)
    if (!random.chance(client_loss))
      group.queue.at(now() + random.between(settings.client_delay_min, settings.client_delay_max), [this, packet] { clients.receive(packet); });
}

void RecoveryWorld::probe(uint16_t n, ConnNo conn, uint64_t acked) {
  if (!transmits(n) || muted_.contains(n) || random.chance(client_loss)) return;
  // Before its first byte of output that is the SYN-ACK's.
  group.queue.at(now() + random.between(settings.client_delay_min, settings.client_delay_max), [this, conn, acked] { clients.probed(conn, acked); });
}

void RecoveryWorld::reset_client(ConnNo conn) {
  ++counts.resets;
  Packet p;
  p.conn = conn;
  p.reset = true;
  group.queue.at(now() + settings.client_delay_min, [this, p] { clients.receive(p); });
}

// ---------------------------------------------------------------- what the backups have

void RecoveryWorld::heard_inputs(uint16_t owner, uint16_t backup, uint64_t incarnation) {
  const uint32_t life = machines().life(backup, Part::daemon);
  for (const ConnNo conn : open_connections()) {
    const auto* there = geckod(backup).store().find({owner, incarnation}, conn_flow(conn));
    if (there == nullptr || !there->replica) continue;
    const core::InputLog& log = there->replica->input();
    Kept& kept = kept_[{conn, owner, incarnation, backup}];
    if (kept.life != life) kept = {life, 0};
    const uint64_t end = log.end() + (log.ended() ? 1 : 0);
    if (end > kept.end) checker.log_is(conn, log.begin(), log.from(log.begin()));
    kept.end = std::max(kept.end, end);
    if (geckod(owner).owns(conn)) note_kept(owner, conn, geckod(owner).backups());
  }
}

void RecoveryWorld::note_kept(uint16_t owner, ConnNo conn, const std::vector<uint16_t>& backups) {
  if (!settings.replicated) return;
  uint64_t all = geckod(owner).logged(conn);
  for (const uint16_t b : backups) {
    const auto it = kept_.find({conn, owner, geckod(owner).incarnation(), b});
    const bool same_life = it != kept_.end() && it->second.life == lives_[{owner, b}];
    all = std::min(all, same_life ? it->second.end : 0);
  }
  checker.kept(conn, all);
}

// ---------------------------------------------------------------- workload

ConnNo RecoveryWorld::open(uint16_t n, uint64_t length) {
  const ConnNo conn = checker.open(length);
  steer(conn, n);
  server(n).open(conn);
  machines().after(n, Part::daemon, random.between(0us, 5ms), "born", [this, n, conn] { geckod(n).born(conn); });
  trace.add(now(), "open", conn, n, length);
  clients.open(conn);
  return conn;
}

bool RecoveryWorld::hand_off(ConnNo conn, uint16_t target) {
  for (uint16_t n = 0; n < settings.group.nodes; ++n)
    if (geckod(n).owns(conn) && machines().running(n, Part::daemon)) return geckod(n).hand_off(conn, target);
  return false;
}

std::vector<ConnNo> RecoveryWorld::open_connections() const {
  std::vector<ConnNo> out;
  for (ConnNo c = 0; c < checker.connections().size(); ++c)
    if (!checker.connections()[c].ended) out.push_back(c);
  return out;
}

size_t RecoveryWorld::owned_by(uint16_t n) const {
  const auto open = open_connections();
  return static_cast<size_t>(std::ranges::count_if(open, [&](ConnNo conn) { return geckod(n).owns(conn); }));
}

// Clients that have heard all hang up; their sockets end where they are.
void RecoveryWorld::end_what_is_done() {
  for (const ConnNo conn : open_connections())
    if (clients.done(conn))
      for (uint16_t n = 0; n < settings.group.nodes; ++n)
        if (geckod(n).owns(conn) && machines().running(n, Part::daemon) && transmits(n) && server(n).is_live(conn)) geckod(n).end(conn);
}

std::string RecoveryWorld::unprotected() const {
  if (!group.whole()) return group.why_not_whole();
  for (uint16_t n = 0; n < settings.group.nodes; ++n) {
    if (!geckod(n).at_rest()) return "node " + std::to_string(n) + " has something under way";
    if (auto why = geckod(n).unprotected(); !why.empty()) return why;
  }
  for (const ConnNo conn : open_connections()) {
    if (is_gone(conn)) continue;
    const auto& live = checker.connections()[conn].live;
    if (live.size() != 1) return "connection " + std::to_string(conn) + " has " + std::to_string(live.size()) + " live sockets";
    if (!geckod(live.front()).owns(conn)) return "connection " + std::to_string(conn) + " is not known to node " + std::to_string(live.front());
  }
  return "";
}

// ---------------------------------------------------------------- faults

void RecoveryWorld::kill(uint16_t n) {
  if (!machines().up(n, Part::kernel)) return;
  group.kill_machine(n);
  network_.daemon_died(n, true);
  geckod(n).died();
  server(n).machine_died();
}

void RecoveryWorld::start(uint16_t n) {
  if (machines().up(n, Part::kernel)) return;
  geckod(n).start(++incarnations_[n]);
  group.start_machine(n);
  network_.daemon_started(n);
}

void RecoveryWorld::kill_keeper(uint16_t n) {
  if (!machines().up(n, Part::daemon)) return;
  group.kill_keeper(n);
  network_.daemon_died(n, false);
  geckod(n).died();
}

void RecoveryWorld::start_keeper(uint16_t n) {
  if (machines().up(n, Part::daemon) || !machines().up(n, Part::kernel)) return;
  geckod(n).start(++incarnations_[n]);
  group.start_keeper(n);
  network_.daemon_started(n);
}

void RecoveryWorld::stop(uint16_t n, Part part) {
  trace.add(now(), "stop", n, static_cast<uint64_t>(part));
  group.stop(n, part);
}

void RecoveryWorld::resume(uint16_t n, Part part) {
  if (machines().stopped(n, part)) group.resume(n, part);
}

void RecoveryWorld::mute(uint16_t n, bool is) {
  if (is) muted_.insert(n);
  else muted_.erase(n);
}

void RecoveryWorld::cut(uint16_t a, uint16_t b, bool is) {
  trace.add(now(), is ? "cut" : "heal", a, b);
  group.cut(a, b, is);
  group.cut(b, a, is);
  if (is) network_.cut(a, b);
  else network_.heal(a, b);
}

void RecoveryWorld::heal_everything() {
  client_loss = settings.client_loss;
  for (uint16_t n = 0; n < settings.group.nodes; ++n) {
    for (uint16_t m = 0; m < n; ++m) cut(n, m, false);
    resume(n, Part::kernel);
    resume(n, Part::daemon);
    start(n);
    start_keeper(n);
  }
  group.heal_everything();
}

}  // namespace gecko::sim
