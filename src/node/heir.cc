#include "node/heir.hh"

#include <algorithm>
#include <numeric>

#include "base/sequence.hh"
#include "node/daemon.hh"

namespace gecko::node {

static_assert(core::kRecoveredEpochs == GECKO_RECOVERED_EPOCHS, "the steering programs know a recovered connection by its epoch");
static_assert(tcp::kMostMovedSince == GECKO_AHEAD_MAX);

using core::LostBy;
using wire::LinkType;

namespace {
// Questions of heirs that have adopted a view before this node has: it follows within a round trip.
constexpr size_t kMaxEarly = 256;
// Who has not said whether it owns what was handed off into a death will not say it any more: a round trip, or a node that had to be put out.
constexpr Duration kAnswered = std::chrono::seconds(2);
// After a connection is lost its client is asked again, each so long after the last time; all within the time that this kernel may answer.
constexpr std::array kMadeToSpeak{std::chrono::milliseconds(200), std::chrono::milliseconds(400), std::chrono::milliseconds(800)};

// Bytes that the application's checkpoint stands for are received, even if the dead node had not acknowledged them yet, or the mirror has not heard
// of it: the client, who may send them again, is to hear that they are here.
void advance_to(wire::TcpMirror& mirror, const core::SavedState& saved) {
  if (saved.input <= mirror.received) return;
  const uint64_t more = saved.input - mirror.received;
  if (more > tcp::kMostMovedSince) return;   // it makes no sense
  mirror.received += more;
  mirror.rcv_nxt += static_cast<uint32_t>(more);
  if (seq_after(mirror.rcv_nxt, mirror.rcv_edge)) mirror.rcv_edge = mirror.rcv_nxt;   // the window had been opened further
}

bool has_where_to_go_on(const core::MirroredConnection& c) {
  return c.saved || (c.replica && (c.replica->input().begin() == 0 || !c.replica->saved().empty()));
}
}  // namespace

uint64_t Heir::Counters::lost_in_all() const { return std::accumulate(lost.begin(), lost.end(), uint64_t{0}); }

Heir::Heir(Group& group) : group_(group), recovery_(group.self()) {}

Heir::~Heir() { group_.daemon().loop().cancel(timer_); }

// All that may own a connection.
std::vector<core::Owner> Heir::owners() const {
  std::vector<core::Owner> all;
  for (const auto& member : group_.view().members)
    if (!member.witness) all.push_back({member.node, member.incarnation});
  return all;
}

void Heir::view(const ViewChange& change) {
  if (!group_.is_member()) return fence();
  recovery_.view(change.view.epoch, owners(), group_.daemon().loop().now());
  for (const auto& life : change.inherited) inherit(life);
  for (const auto& [from, ask] : std::exchange(early_, {})) on(group_.peers_[from], ask);
  run();
}

void Heir::inherit(const core::Owner& life) {
  auto mirrors = group_.mirrors().take({life.node, life.incarnation});
  log_info("group '" + group_.config().name + "': this node is the heir of " + group_.config().nodes[life.node].name + " and has mirrors of " +
           std::to_string(mirrors.size()) + " of its connections");
  (void)take_up(life, std::move(mirrors));
}

void Heir::reclaim(const core::Owner& life, std::vector<core::MirroredConnection> given) {
  const auto flows = take_up(life, std::move(given));
  for (const Flow& flow : flows)   // what its client says is to come here
    group_.tell_contact(flow, group_.self(), subjects_.at(flow).mirrored.epoch + core::kRecoveredEpochs);
  run();
  // Versions before this one answer heirs alone.
  auto& loop = group_.daemon().loop();
  loop.at(loop.now() + kAnswered, [this, alive = std::weak_ptr<bool>(alive_), life, flows] {
    if (alive.expired()) return;
    for (const Flow& flow : flows)
      if (const auto it = subjects_.find(flow); it != subjects_.end() && it->second.from == life && !it->second.word)
        recovery_.failed(flow, LostBy::failed, group_.daemon().loop().now());
    run();
  });
}

bool Heir::inherits(const core::Owner& life) const {
  const auto* orphan = core::find_orphan(group_.view(), life);
  return orphan != nullptr && orphan->heir == group_.self();
}

// Asks everybody about those that are not this node's own again, and holds what comes for them. Returns these.
std::vector<Flow> Heir::take_up(const core::Owner& life, std::vector<core::MirroredConnection> connections) {
  const Time now = group_.daemon().loop().now();
  auto& hold = group_.daemon().hold();
  lives_.try_emplace(life, Life{now, {}});
  std::vector<wire::Claim> claims;
  Subjects found;
  for (auto& mirrored : connections) {
    const Flow flow = mirrored.tcp.flow;
    // What this node has got from it in a handoff is its own.
    if (!group_.owns_address(flow) || group_.by_flow_.contains(flow) || group_.is_taking(flow)) continue;
    claims.push_back({mirrored.id, flow, mirrored.epoch});
    Subject subject;
    subject.mirrored = std::move(mirrored);
    if (auto& m = subject.mirrored; !rely_on_log(subject) && m.saved) advance_to(m.tcp, *m.saved);
    subject.from = life;
    found.insert_or_assign(flow, std::move(subject));
  }
  auto taken = recovery_.inherit(life, group_.view().epoch, owners(), std::move(claims), now);
  for (const Flow& flow : taken) {
    auto& subject = subjects_[flow] = std::move(found.at(flow));
    group_.questions_.erase(flow);
    hold.expect(flow);
    hold.watch(flow);
    if (auto ok = group_.daemon().flows().set(flow, GECKO_FLOW_HOLD, group_.number(group_.self()), subject.mirrored.epoch + core::kRecoveredEpochs); !ok) {
      log_error("recovering " + flow.str() + ": " + ok.error().message);
      recovery_.failed(flow, LostBy::failed, now);
    }
  }
  return taken;
}

// What the dead node had acknowledged is in the log. False: the connection is not replicated, or its log says less than its mirror (its backup had no
// room): then what is left is what a connection of a `fast` group has.
bool Heir::rely_on_log(Subject& subject) {
  auto& m = subject.mirrored;
  if (!m.replica) return false;
  const core::InputLog& log = m.replica->input();
  const uint64_t more = log.end() - m.tcp.received;
  if (log.end() < m.tcp.received || more > tcp::kMostMovedSince || (m.tcp.fin_received && !log.ended())) {
    if (!m.replica->saved().empty()) m.saved = m.replica->saved().back();
    m.replica.reset();
    return false;
  }
  subject.told = m.tcp.received;
  subject.told_ack_edge = {m.tcp.rcv_nxt + (m.tcp.fin_received ? 1 : 0), m.tcp.rcv_edge};
  subject.logged = log.end();
  m.tcp.received = log.end();
  m.tcp.rcv_nxt += static_cast<uint32_t>(more);
  m.tcp.fin_received = log.ended();
  if (seq_after(m.tcp.rcv_nxt, m.tcp.rcv_edge)) m.tcp.rcv_edge = m.tcp.rcv_nxt;
  return true;
}

// The program reads once more what its predecessor had read since, from the socket. Where the log does not reach back, it is told how much is missing.
void Heir::go_back_to_checkpoint(Subject& subject) {
  auto& m = subject.mirrored;
  if (!m.replica) return;
  tcp::Recovered& r = *subject.recovered;
  const core::SavedState* saved = nullptr;
  if (const auto resume = m.replica->resume(r.sent)) {
    saved = resume->saved;
    subject.replayed = true;
    r.received = saved != nullptr ? saved->input : 0;
    const auto bytes = m.replica->input().from(r.received);
    r.state.recv_queue.assign(bytes.begin(), bytes.end());
  } else if (!m.replica->saved().empty()) {
    saved = &m.replica->saved().back();
  }
  if (saved != nullptr) m.saved = *saved;
}

void Heir::fence() {
  ++round_;
  early_.clear();
  recovery_.fence();
  run();
  subjects_.clear();
  lives_.clear();
}

void Heir::link_up(Peer& peer) {
  recovery_.link_up(peer.index, group_.daemon().loop().now());
  run();
}

void Heir::on(Peer& peer, wire::RecoverAsk m) {
  if (!group_.is_member()) return;
  if (group_.view().epoch >= m.view_epoch) answer(peer, m);
  else if (early_.size() < kMaxEarly) early_.emplace_back(peer.index, std::move(m));
}

// This node has adopted the view in which that life is over: from here on nothing of it comes to life here by a handoff.
void Heir::answer(Peer& peer, const wire::RecoverAsk& m) {
  const auto& view = group_.view();
  const auto* orphan = core::find_orphan(view, {m.node, m.incarnation});
  const bool is_heir = orphan != nullptr && orphan->heir == peer.index;
  const bool reclaims = m.view_epoch == view.epoch && core::find(view, peer.index) != nullptr && !core::owns(view, m.node, m.incarnation);
  if (!is_heir && !reclaims) return;   // an older view's heir: it will hear of this one
  wire::RecoverAnswer answer{m.request, {}};
  for (const auto& claim : m.claims) {
    if (!group_.owns_address(claim.flow)) continue;
    uint64_t epoch = group_.speaks_for(claim.flow);
    if (epoch == 0) epoch = recovery_.asked(peer.index, claim).value_or(0);
    if (epoch != 0) answer.owned.push_back({claim.id, claim.flow, epoch});
  }
  run();   // what it has yielded to the asker is let go before the asker hears so
  peer.send(LinkType::recover_answer, answer);
}

void Heir::on(Peer& peer, const wire::RecoverAnswer& m) {
  recovery_.answer(peer.index, m, group_.daemon().loop().now());
  run();
}

void Heir::run() {
  if (std::exchange(running_, true)) return;
  for (auto actions = recovery_.take_actions(); !actions.empty(); actions = recovery_.take_actions())
    for (auto& action : actions) std::visit([this](auto& a) { carry_out(a); }, action);
  running_ = false;
  arm_timer();
}

void Heir::arm_timer() {
  const Time next = recovery_.next_deadline();
  if (next >= timer_at_) return;
  auto& loop = group_.daemon().loop();
  loop.cancel(timer_);
  timer_at_ = next;
  timer_ = loop.at(next, [this] {
    timer_at_ = Time::max();
    recovery_.tick(group_.daemon().loop().now());
    run();
  });
}

void Heir::count(const core::Owner& from, uint64_t Counters::*what) {
  ++(counters_.*what);
  if (const auto life = lives_.find(from); life != lives_.end()) ++(life->second.counters.*what);
}

uint32_t Heir::ms_under_way(const core::Owner& from) const {
  const auto life = lives_.find(from);
  if (life == lives_.end()) return 0;
  return static_cast<uint32_t>((group_.daemon().loop().now() - life->second.begun) / std::chrono::milliseconds(1));
}

void Heir::carry_out(core::Recovery::Ask& a) {
  if (a.to < group_.peers_.size() && group_.peers_[a.to].up()) group_.peers_[a.to].send(LinkType::recover_ask, a.message);
}

void Heir::carry_out(core::Recovery::Probe& a) {
  const auto it = subjects_.find(a.flow);
  if (it == subjects_.end()) return;
  Subject& subject = it->second;
  auto& daemon = group_.daemon();
  if (group_.choose_continuer(a.flow.local.port, has_where_to_go_on(subject.mirrored)) == nullptr)
    return recovery_.failed(a.flow, LostBy::nobody_serves, daemon.loop().now());
  if (a.attempt == 0) {
    subject.word.emplace(subject.mirrored.tcp, subject.mirrored.replica.has_value());
    subject.asked = daemon.loop().now();
    subject.looked = daemon.hold().held(a.flow).size();   // what came before may be older than the dead node's last word
  }
  if (a.attempt == 2) subject.looked = 0;   // no answer: it may have been lost, and the client silent since
  if (listen(a.flow, subject)) return;
  daemon.privileged().probe(group_.index(), tcp::build_probe(subject.mirrored.tcp));
}

void Heir::heard(const Flow& flow) {
  const auto it = subjects_.find(flow);
  if (it == subjects_.end()) return;
  if (recovery_.probes(flow)) (void)listen(flow, it->second);
  else recovery_.spoke(flow);
  run();
}

bool Heir::listen(const Flow& flow, Subject& subject) {
  if (!subject.word) return false;
  const Time now = group_.daemon().loop().now();
  for (const auto& packet : group_.daemon().hold().held(flow, subject.looked)) {
    ++subject.looked;
    if (const auto segment = tcp::read_packet(packet)) subject.word->heard(*segment);
  }
  switch (subject.word->judge(now - subject.asked)) {
    case tcp::ClientWord::Verdict::silent: return false;
    case tcp::ClientWord::Verdict::reset: recovery_.failed(flow, LostBy::client_reset, now); return true;
    case tcp::ClientWord::Verdict::beyond:
      log_warn(subject.word->why_beyond().message);
      recovery_.failed(flow, LostBy::mirror_too_old, now);
      return true;
    case tcp::ClientWord::Verdict::enough: break;
  }
  subject.recovered = subject.word->recovered();
  go_back_to_checkpoint(subject);
  recovery_.answered(flow, now);
  return true;
}

void Heir::carry_out(core::Recovery::Rebuild& a) {
  const auto it = subjects_.find(a.flow);
  if (it == subjects_.end()) return;
  Subject& subject = it->second;
  if (subject.mirrored.id == ConnId{}) subject.mirrored.id = ConnId::random();   // no application had accepted it
  wire::IpcRestore command{0, group_.index(), a.flow, subject.mirrored.id, a.epoch, group_.config().nodes[subject.from.node].address, 0,
                           wire::encode(subject.recovered->state)};
  subject.token = group_.daemon().privileged().restore(std::move(command), [this, flow = a.flow, round = round_](Status status) {
    if (round != round_) return;
    recovery_.rebuilt(flow, status, group_.daemon().loop().now());
    if (!status) log_warn("recovering " + flow.str() + ": " + status.error().message);
    run();
  });
}

void Heir::carry_out(core::Recovery::Enliven& a) {
  const auto it = subjects_.find(a.flow);
  if (it == subjects_.end()) return;
  Subject& subject = it->second;
  auto& daemon = group_.daemon();
  auto& recovered = *subject.recovered;
  const size_t unread = std::exchange(recovered.state.recv_queue, {}).size();
  Shield::Arrival arrival{subject.mirrored.id, a.epoch, {recovered.sent, recovered.received, true}, 0};
  if (auto& replica = subject.mirrored.replica) {
    arrival.replica = std::exchange(replica, {});
    arrival.stable = subject.told;
    arrival.told = subject.told_ack_edge;
  }
  if (auto ok = group_.shield().arriving({recovered.state, 0, unread}, std::move(arrival)); !ok) {
    daemon.privileged().retire(subject.token);
    return recovery_.enlivened(a.flow, ok, daemon.loop().now());
  }
  daemon.privileged().activate(subject.token, [this, flow = a.flow, epoch = a.epoch, round = round_](Result<PrivilegedClient::Activated> active) {
    if (round != round_) return;   // fenced meanwhile: the descriptor ends here, the gate lets nothing out
    const auto at = subjects_.find(flow);
    if (at == subjects_.end()) return;
    if (active) {
      if (auto ok = group_.daemon().hold().release_in_order(flow, group_.number(group_.self()), epoch, active->next_seq); !ok)
        log_error("steering " + flow.str() + ": " + ok.error().message);
      at->second.fd = std::move(active->fd);
      group_.shield().arrived(flow);
    } else {
      group_.shield().not_arrived(flow);
      log_warn("recovering " + flow.str() + ": " + active.error().message);
    }
    recovery_.enlivened(flow, active ? Status{} : Status(active.error()), group_.daemon().loop().now());
    run();
  });
}

void Heir::carry_out(core::Recovery::Arrived& a) {
  const auto it = subjects_.find(a.flow);
  if (it == subjects_.end()) return;
  Subject subject = std::move(it->second);
  subjects_.erase(it);
  count(subject.from, &Counters::recovered);
  group_.happened(Recovered{subject.mirrored.id, a.flow, a.epoch, subject.from.node, group_.self(), true, group_.view_number(), ms_under_way(subject.from)});
  if (!group_.is_contact()) group_.tell_contact(a.flow, group_.self(), a.epoch);
  const auto& r = *subject.recovered;
  wire::Arrive arrival{subject.mirrored.id, a.epoch, a.flow, group_.config().nodes[subject.from.node].name, {}, {r.sent, r.received, true}, true, false, 0, 0};
  arrival.replayed = subject.replayed;
  arrival.logged = subject.logged;
  if (auto& saved = subject.mirrored.saved) {
    arrival.saved = true;
    arrival.input = saved->input;
    arrival.output = saved->output;
    arrival.blob = std::move(saved->blob);
  }
  group_.deliver(std::move(arrival), std::move(subject.fd));
}

void Heir::carry_out(core::Recovery::GiveTo& a) {
  if (const auto subject = subjects_.extract(a.flow)) {
    const auto& s = subject.mapped();
    count(s.from, &Counters::elsewhere);
    group_.happened(Recovered{s.mirrored.id, a.flow, a.epoch, s.from.node, a.owner, false, group_.view_number(), ms_under_way(s.from)});
  }
  (void)group_.daemon().hold().release(a.flow, GECKO_FLOW_FORWARD, group_.number(a.owner), a.epoch);
}

// The client hears that it has ended when it speaks, so it is made to speak while this kernel may answer; of what comes later the contact asks whose
// it is, as of any flow that nobody knows.
void Heir::carry_out(core::Recovery::Lose& a) {
  ++counters_.lost[static_cast<size_t>(a.reason)];
  group_.shield().kernel_may_answer(a.flow);
  (void)group_.daemon().hold().release(a.flow, GECKO_FLOW_KERNEL, group_.number(group_.self()), 0);
  const auto it = subjects_.find(a.flow);
  if (it == subjects_.end()) return;
  const Subject subject = std::move(it->second);
  subjects_.erase(it);
  if (const auto life = lives_.find(subject.from); life != lives_.end()) ++life->second.counters.lost[static_cast<size_t>(a.reason)];
  std::string why = "its node " + group_.config().nodes[subject.from.node].name + " has died";
  if (a.reason == LostBy::no_answer && subject.word) {
    why += ", and its client " + subject.word->what_is_missing();
    log_info("recovering " + a.flow.str() + ": " + why);
  }
  group_.happened(ConnectionLost{subject.mirrored.id, a.flow, lost_in(a.reason), why});
  if (a.restored) group_.daemon().privileged().retire(subject.token);
  make_speak(tcp::build_probe(subject.mirrored.tcp), {kMadeToSpeak.begin(), kMadeToSpeak.end()}, [this, flow = a.flow, epoch = subject.mirrored.epoch] {
    group_.tell_contact(flow, wire::kNoNode, epoch + core::kRecoveredEpochs);
  });
}

void Heir::make_speak(wire::Bytes probe, std::vector<Duration> again, std::function<void()> then) {
  group_.daemon().privileged().probe(group_.index(), probe);
  if (again.empty()) return then();
  auto& loop = group_.daemon().loop();
  const Time next = loop.now() + again.front();
  again.erase(again.begin());
  loop.at(next, [this, alive = std::weak_ptr<bool>(alive_), probe = std::move(probe), again = std::move(again), then = std::move(then)]() mutable {
    if (!alive.expired()) make_speak(std::move(probe), std::move(again), std::move(then));
  });
}

void Heir::carry_out(core::Recovery::Drop& a) {
  if (const auto it = subjects_.find(a.flow); it != subjects_.end()) {
    if (a.restored && it->second.token != 0) group_.daemon().privileged().retire(it->second.token);
    subjects_.erase(it);
  }
  group_.daemon().hold().drop(a.flow);
  (void)group_.daemon().flows().erase(a.flow);
}

void Heir::carry_out(core::Recovery::Done& a) {
  const uint32_t took = ms_under_way(a.life);
  const auto life = lives_.extract(a.life);
  const Counters done = life ? life.mapped().counters : Counters();
  if (!inherits(a.life)) return;   // reclaimed
  group_.happened(RecoveryEnded{a.life, group_.self(), done.recovered, done.elsewhere, done.lost, took});
  std::string lost;
  for (size_t i = 0; i < core::kLostReasons; ++i)
    if (const uint64_t n = done.lost[i]; n != 0)
      lost += ", " + std::to_string(n) + " lost (" + std::string(to_string(static_cast<LostBy>(i))) + ")";
  log_info("group '" + group_.config().name + "': " + std::to_string(done.recovered) + " connections of " + group_.config().nodes[a.life.node].name +
           " go on here, " + std::to_string(done.elsewhere) + " elsewhere" + lost + "; after " + std::to_string(took) + " ms");
  // Not before this node's own backups have them: whoever comes after this node asks nobody else any more.
  group_.shield().mirroring().when_kept([this, life = a.life] { group_.recovered(life); });
}

}  // namespace gecko::node
