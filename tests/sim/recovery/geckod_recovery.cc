// The heir's side of a death, as node/heir does it around core/recovery.
#include "sim/recovery/geckod.hh"

#include <algorithm>

#include "sim/recovery/world.hh"

namespace gecko::sim {

using core::LostBy;

namespace {
constexpr size_t kMostHeld = 64;

tcp::Segment segment_of(const Packet& p) {
  tcp::Segment s;
  const Flow flow = conn_flow(p.conn);
  s.from = flow.peer;
  s.to = flow.local;
  s.seq = first_in(p.conn) + static_cast<uint32_t>(p.from);
  s.ack = first_out(p.conn) + static_cast<uint32_t>(p.ack);
  if (p.fin) s.flags |= tcp::Segment::kFin;
  s.window = kWindow;
  s.sack = p.again_from != p.again_to;
  s.sack_left = first_out(p.conn) + static_cast<uint32_t>(p.again_from);
  s.sack_right = first_out(p.conn) + static_cast<uint32_t>(p.again_to);
  s.payload = p.bytes;
  return s;
}
}  // namespace

void Geckod::on(uint16_t from, const wire::RecoverAsk& m) {
  if (!member_) return;
  if (view_.epoch >= m.view_epoch) answer(from, m);
  else early_.emplace_back(from, m);
}

void Geckod::answer(uint16_t from, const wire::RecoverAsk& m) {
  const bool still =
      std::ranges::any_of(view_.orphans, [&](const auto& o) { return o.node == m.node && o.incarnation == m.incarnation && o.heir == from; });
  if (!still) return;
  wire::RecoverAnswer answer{m.request, {}};
  for (const auto& claim : m.claims) {
    uint64_t epoch = speaks_for(conn_of(claim.flow));
    if (epoch == 0) epoch = recovery_->asked(from, claim).value_or(0);
    if (epoch != 0) answer.owned.push_back({claim.id, claim.flow, epoch});
  }
  run();
  (void)world_.send(self_, from, answer);
}

void Geckod::on(uint16_t from, const wire::RecoverAnswer& m) {
  recovery_->answer(from, m, now());
  run();
}

uint64_t Geckod::speaks_for(ConnNo conn) const {
  if (const auto it = owned_.find(conn); it != owned_.end()) return it->second.epoch;
  const auto is_it = [conn](const auto& entry) { return entry.second.conn == conn; };
  return std::ranges::any_of(giving_, is_it) || std::ranges::any_of(taking_, is_it) ? 1 : 0;
}

void Geckod::inherit(const core::Owner& life) {
  world_.excuse_what_only_others_have(self_, life);
  std::vector<wire::Claim> claims;
  std::map<Flow, Subject> found;
  for (auto& mirrored : store_->take({life.node, life.incarnation})) {
    const Flow flow = mirrored.tcp.flow;
    if (speaks_for(conn_of(flow)) != 0) continue;
    claims.push_back({mirrored.id, flow, mirrored.epoch});
    Subject subject;
    subject.mirrored = std::move(mirrored);
    auto& m = subject.mirrored;
    subject.told = m.tcp.received + (m.tcp.fin_received ? 1 : 0);
    if (!rely_on_log(subject) && m.saved && m.saved->input > m.tcp.received) {
      m.tcp.rcv_nxt += static_cast<uint32_t>(m.saved->input - m.tcp.received);
      m.tcp.received = m.saved->input;
      m.tcp.rcv_edge = later(m.tcp.rcv_edge, m.tcp.rcv_nxt);
    }
    found.insert_or_assign(flow, std::move(subject));
  }
  world_.trace.add(now(), "inherits", self_, life.node, found.size());
  for (const Flow& flow : recovery_->inherit(life, view_.epoch, owners(), std::move(claims), now())) {
    world_.trace.add(now(), "claims", self_, conn_of(flow), found.at(flow).mirrored.epoch);
    subjects_[conn_of(flow)] = std::move(found.at(flow));
    world_.steer_to_heir(conn_of(flow), self_);
  }
}

// As Heir::rely_on_log.
bool Geckod::rely_on_log(Subject& subject) const {
  auto& m = subject.mirrored;
  if (!m.replica) return false;
  const core::InputLog& log = m.replica->input();
  world_.checker.log_is(conn_of(m.tcp.flow), log.begin(), log.from(log.begin()));
  const uint64_t more = log.end() - m.tcp.received;
  if (log.end() < m.tcp.received || more > tcp::kMostMovedSince || (m.tcp.fin_received && !log.ended())) {
    if (!m.replica->saved().empty()) m.saved = m.replica->saved().back();
    m.replica.reset();
    return false;
  }
  m.tcp.received = log.end();
  m.tcp.rcv_nxt += static_cast<uint32_t>(more);
  m.tcp.fin_received = log.ended();
  m.tcp.rcv_edge = later(m.tcp.rcv_edge, m.tcp.rcv_nxt);
  return true;
}

// As Heir::go_back_to_checkpoint.
void Geckod::go_back_to_checkpoint(Subject& subject) const {
  auto& m = subject.mirrored;
  if (!m.replica) return;
  tcp::Recovered& r = *subject.recovered;
  const core::SavedState* saved = nullptr;
  if (const auto resume = m.replica->resume(r.sent)) {
    saved = resume->saved;
    subject.replayed = true;
    const auto bytes = m.replica->input().from(saved != nullptr ? saved->input : 0);
    subject.unread.assign(bytes.begin(), bytes.end());
  } else if (!m.replica->saved().empty()) {
    saved = &m.replica->saved().back();
  }
  if (saved != nullptr) m.saved = *saved;
}

bool Geckod::hold(const Packet& packet) {
  const auto it = subjects_.find(packet.conn);
  if (it == subjects_.end()) return false;
  if (it->second.held.size() < kMostHeld) it->second.held.push_back(packet);
  world_.machines().after(self_, Part::daemon, world_.settings.api_delay, "heard", [this, conn = packet.conn] {
    const auto at = subjects_.find(conn);
    if (at == subjects_.end()) return;
    const Flow flow = conn_flow(conn);
    if (recovery_->probes(flow)) (void)listen(conn, at->second);
    else recovery_->spoke(flow);
    run();
  });
  return true;
}

bool Geckod::listen(ConnNo conn, Subject& subject) {
  if (!subject.word) return false;
  for (; subject.looked < subject.held.size(); ++subject.looked) subject.word->heard(segment_of(subject.held[subject.looked]));
  const Flow flow = conn_flow(conn);
  switch (subject.word->judge(now() - subject.asked)) {
    case tcp::ClientWord::Verdict::silent: return false;
    case tcp::ClientWord::Verdict::reset: recovery_->failed(flow, LostBy::client_reset, now()); return true;
    case tcp::ClientWord::Verdict::beyond: recovery_->failed(flow, LostBy::mirror_too_old, now()); return true;
    case tcp::ClientWord::Verdict::enough: break;
  }
  subject.recovered = subject.word->recovered();
  go_back_to_checkpoint(subject);
  recovery_->answered(flow, now());
  return true;
}

void Geckod::carry_out(core::Recovery::Ask& a) { (void)world_.send(self_, a.to, a.message); }

void Geckod::carry_out(core::Recovery::Probe& a) {
  const ConnNo conn = conn_of(a.flow);
  const auto it = subjects_.find(conn);
  if (it == subjects_.end()) return;
  Subject& subject = it->second;
  if (a.attempt == 0) {
    subject.word.emplace(subject.mirrored.tcp, subject.mirrored.replica.has_value());
    subject.asked = now();
    subject.looked = subject.held.size();
  }
  if (a.attempt == 2) subject.looked = 0;
  if (listen(conn, subject)) return;
  world_.probe(self_, conn, subject.mirrored.tcp.acked);
}

void Geckod::carry_out(core::Recovery::Rebuild& a) {
  world_.machines().after(self_, Part::daemon, world_.random.between({}, world_.settings.command_max), "rebuilt", [this, flow = a.flow, round = round_] {
    const auto it = subjects_.find(conn_of(flow));
    if (round != round_ || it == subjects_.end() || !it->second.recovered) return;
    Subject& subject = it->second;
    const tcp::Recovered& r = *subject.recovered;
    Server::Stands at;
    at.received = subject.replayed ? subject.mirrored.tcp.received : r.received;
    at.fin = r.state.fin_received;
    at.told = subject.mirrored.replica ? subject.told : at.received + (at.fin ? 1 : 0);
    at.sent = at.acked = r.sent;
    at.unread = subject.unread;
    server().restore(it->first, at, at.told);
    if (world_.transmits(self_)) world_.checker.recovered(it->first, at.sent, at.received, at.fin);   // else nobody hears of it: it was stopped, others have it
    recovery_->rebuilt(flow, {}, now());
    run();
  });
}

void Geckod::carry_out(core::Recovery::Enliven& a) {
  world_.machines().after(self_, Part::daemon, world_.random.between({}, world_.settings.command_max), "enlivened",
                          [this, flow = a.flow, epoch = a.epoch, round = round_] {
    const auto it = subjects_.find(conn_of(flow));
    if (round != round_ || it == subjects_.end() || !server().has(it->first)) return;
    server().activate(it->first);
    Subject& subject = it->second;
    auto replica = std::exchange(subject.mirrored.replica, {});
    uint64_t stable = subject.told;
    if (!replica && world_.settings.replicated) {   // its log had not come yet: it begins here (Shield::arriving)
      replica.emplace(stable = subject.recovered->received);
      world_.checker.kept(it->first, stable);
    }
    own(it->first, epoch, std::move(replica), stable);
    recovery_->enlivened(flow, {}, now());
    run();
  });
}

void Geckod::carry_out(core::Recovery::Arrived& a) {
  auto subject = subjects_.extract(conn_of(a.flow));
  if (subject) arrive(subject.key(), std::move(subject.mapped()), a.epoch);
}

void Geckod::arrive(ConnNo conn, Subject subject, uint64_t epoch) {
  ++world_.counts.recovered;
  world_.trace.add(now(), "recovered", self_, conn, epoch);
  if (world_.transmits(self_)) world_.steer(conn, self_);   // else it was stopped, and others have it
  const auto& saved = subject.mirrored.saved;
  Program program;
  if (saved) program = *wire::decode<Program>(saved->blob);
  // A program that can do without nothing: what was read since its checkpoint must be here, and so must what it had written before it.
  const uint64_t from = subject.replayed ? program.consumed : subject.recovered->received;
  if (from != program.consumed || program.produced > subject.recovered->sent) {
    ++world_.counts.closed;
    forget(conn);
    server().destroy(conn);
    if (!world_.checker.may_lose()) world_.checker.violation(conn, "its program is told that bytes are missing");
    return world_.reset_client(conn);
  }
  server().deliver(conn, program);
  for (const Packet& packet : subject.held) (void)server().receive(packet);
}

void Geckod::carry_out(core::Recovery::GiveTo& a) {
  world_.trace.add(now(), "gives to", self_, conn_of(a.flow), a.owner);
  subjects_.erase(conn_of(a.flow));
  world_.steer(conn_of(a.flow), a.owner);
}

void Geckod::carry_out(core::Recovery::Lose& a) {
  const ConnNo conn = conn_of(a.flow);
  world_.trace.add(now(), "loses", self_, conn, static_cast<uint64_t>(a.reason));
  if (a.restored) server().destroy(conn);
  subjects_.erase(conn);
  world_.reset_client(conn);
}

void Geckod::carry_out(core::Recovery::Drop& a) {
  world_.trace.add(now(), "drops", self_, conn_of(a.flow));
  if (a.restored) server().destroy(conn_of(a.flow));
  subjects_.erase(conn_of(a.flow));
  world_.ask_whose(conn_of(a.flow));
}

void Geckod::carry_out(core::Recovery::Done& a) {
  mirroring_->when_kept([this, life = a.life] { world_.recovered(self_, life); });
}

}  // namespace gecko::sim
