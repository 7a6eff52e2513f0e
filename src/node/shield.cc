#include "node/shield.hh"

#include <algorithm>
#include <tuple>

#include "base/sequence.hh"
#include "node/daemon.hh"
#include "node/kernel_socket.hh"
#include "tcp/nudge.hh"
#include "tcp/packet.hh"

namespace gecko::node {
namespace {

// What the kernel of an ended connection still has to say (last acknowledgements, TIME_WAIT), and as long as it has a socket for it.
constexpr Duration kSilentEnd = std::chrono::seconds(65);
// Whoever ends all of a node ends geckod, too: so long after an application it is still alive to let the end out.
constexpr Duration kOnlyTheApplication = std::chrono::milliseconds(50);
constexpr Duration kKernelAnswers = std::chrono::seconds(2);
constexpr size_t kMostAnswering = 4096;
// Half-open connections that are remembered: as many as the gate does. A SYN-ACK is repeated for a minute.
constexpr size_t kMostNewborn = GECKO_MAX_YOUNG;
constexpr Duration kNewbornFor = std::chrono::seconds(70);
constexpr size_t kErasedPerSweep = 1024;
constexpr Duration kComplain = std::chrono::seconds(10);
// A clock's value is on its way for less than that (RTO included), in its milliseconds.
constexpr uint32_t kClockSlack = 10'000;
constexpr uint32_t kUnscaledWindow = 65535;
// Half of all clocks: what can be told apart from the future.
constexpr uint32_t kAnyClock = 0x7fffffff;

uint32_t later(uint32_t a, uint32_t b) { return seq_after(b, a) ? b : a; }
uint32_t first_of(uint64_t pair) { return std::bit_cast<std::array<uint32_t, 2>>(pair)[0]; }
uint32_t second_of(uint64_t pair) { return std::bit_cast<std::array<uint32_t, 2>>(pair)[1]; }

// The offset whose low half is `low`, nearest to `about`.
uint64_t nearest(uint64_t about, uint32_t low) {
  const auto off = static_cast<int32_t>(low - static_cast<uint32_t>(about));
  return off < 0 && about < static_cast<uint64_t>(-static_cast<int64_t>(off)) ? low : about + static_cast<uint64_t>(static_cast<int64_t>(off));
}

wire::TcpMirror negotiated(const Flow& flow, const KernelFacts& f) {
  wire::TcpMirror m;
  m.flow = flow;
  m.v4_mapped = f.v4_mapped;
  m.mss = f.mss;
  m.window_scaling = f.window_scaling;
  m.snd_wscale = f.snd_wscale;
  m.rcv_wscale = f.rcv_wscale;
  m.sack = f.sack;
  m.timestamps = f.timestamps;
  return m;
}

// To the client: the end that this kernel has said, and that was refused then. It counts as sent, and a kernel that has measured no round trip yet (of a
// connection that has just come here) says it again after a second or three (RFC 6298, 2.1 and 5.7).
wire::Bytes end_of_output(const Flow& flow, const gecko_gated& e) {
  tcp::Segment s;
  s.from = flow.local;
  s.to = flow.peer;
  s.flags = tcp::Segment::kFin | tcp::Segment::kAck;
  s.seq = e.snd_nxt;
  s.ack = first_of(e.sent);
  s.window = static_cast<uint16_t>(std::min((second_of(e.sent) - s.ack) >> e.window_scale, kUnscaledWindow));
  s.timestamps = (e.seen & GECKO_GATE_SEEN_TIMESTAMPS) != 0;
  s.ts_value = first_of(e.stamps);
  s.ts_echo = second_of(e.stamps);
  return tcp::build_packet(s);
}

// To the client, which answers with where it is: a kernel without the socket then resets it, with the one sequence number that the client believes.
wire::Bytes question(const Flow& flow, const gecko_gated& e) {
  tcp::Nudge n;
  n.flow = flow;
  n.snd_una = e.snd_una;
  n.rcv_nxt = first_of(e.kernel);
  n.window = second_of(e.kernel) - first_of(e.kernel);
  n.rcv_wscale = e.window_scale;
  n.timestamps = (e.seen & GECKO_GATE_SEEN_TIMESTAMPS) != 0;
  n.timestamp = first_of(e.stamps);
  return tcp::build_nudge(n);
}

}  // namespace

Shield::Shield(Group& group, Mirroring::Send send)
    : group_(group), mirroring_(std::move(send), [this](const Flow& flow, uint64_t offset, bool end) { stable(flow, offset, end); }) {}
Shield::~Shield() { *alive_ = false; }

bool Shield::on() const { return group_.config().recovery != config::Recovery::none && group_.daemon().gate() != nullptr; }
bpf::GateTable& Shield::table() const { return group_.daemon().gate()->table(); }
uint16_t Shield::term() const { return group_.daemon().gate()->term(group_.index()); }

Shield::Guarded* Shield::find(const Flow& flow) {
  const auto it = guarded_.find(flow);
  return it == guarded_.end() ? nullptr : &it->second;
}

void Shield::say_soon() { group_.daemon().gate()->look_soon(); }

// ---------------------------------------------------------------- ports

// The first program decides whether they are replicated; one that is of another mind is found out when it names a connection.
void Shield::guard(uint16_t port, bool replicated) {
  if (!on() || !ports_.emplace(port, replicated).second) return;
  // Connections that began without the gate go on without it.
  for (const auto& [id, connection] : group_.connections())
    if (connection.flow.local.port == port && !guarded_.contains(connection.flow))
      let_pass(connection.flow, "it began before a program that asks for recovery served its port");
  group_.daemon().privileged().protect_port(group_.index(), port, [this, port](const Status& ok) {
    if (ok) return;
    ports_.erase(port);
    log_error("port " + std::to_string(port) + " of group '" + group_.config().name + "' is not protected: " + ok.error().message);
  });
}

void Shield::programs_changed() {
  if (!on() || looking_for_unserved_) return;
  const auto unserved = [this](const auto& port) { return !group_.wants_recovery(port.first); };
  if (std::ranges::none_of(ports_, unserved)) return;
  looking_for_unserved_ = true;
  const std::weak_ptr<bool> alive = alive_;
  group_.daemon().loop().at(group_.daemon().loop().now() + kOnlyTheApplication, [this, alive] {
    if (alive.expired()) return;
    looking_for_unserved_ = false;
    open_unserved();
  });
}

// Nobody serves it: its clients are refused, instead of timing out.
void Shield::open_unserved() {
  std::erase_if(ports_, [this](const auto& port) {
    if (group_.wants_recovery(port.first)) return false;
    group_.daemon().privileged().unprotect_port(group_.index(), port.first);
    return true;
  });
}

// ---------------------------------------------------------------- the gate's news

void Shield::born(const bpf::Birth& birth) {
  ++counters_.births;
  const bpf::Protection p = birth.protection(term());
  if (Guarded* known = find(birth.flow)) {
    if (known->first_out == p.first_out && known->stage != Stage::ended) return;
    if (known->handle != 0) mirroring_.end(known->handle);
    guarded_.erase(birth.flow);   // the port is used again
  }
  const auto it = newborn_.find(birth.flow);
  if (it != newborn_.end() && it->second.protection.first_out == p.first_out) return;   // its SYN-ACK again; the client has the first one's clock
  const Time now = group_.daemon().loop().now();
  newborn_.insert_or_assign(birth.flow, Newborn{p, now});
  newborn_order_.emplace_back(now, birth.flow);
  while (newborn_order_.size() > kMostNewborn) forget_oldest_newborn();
}

void Shield::moved(const Flow& flow) {
  if (Guarded* g = find(flow); g != nullptr && g->stage != Stage::ended) return refresh(flow, *g);
  (void)grow_up(flow);
}

// Unless a later SYN-ACK of the same flow has taken its place.
void Shield::forget_oldest_newborn() {
  const auto [since, flow] = newborn_order_.front();
  newborn_order_.pop_front();
  if (const auto old = newborn_.find(flow); old != newborn_.end() && old->second.since == since) newborn_.erase(old);
}

bool Shield::grow_up(const Flow& flow) {
  const auto newborn = newborn_.extract(flow);
  if (newborn.empty()) return false;
  take_up(flow, newborn.mapped());
  return true;
}

void Shield::looked() {
  if (!on() || !mirroring_.pending()) return;
  mirroring_.flush(group_.daemon().loop().now());
  if (mirroring_.pending()) say_soon();
}

// It has become a connection: from now on the gate knows it, and so do the backups.
void Shield::take_up(const Flow& flow, const Newborn& newborn) {
  bpf::Protection p = newborn.protection;
  p.term = term();
  p.clamp = replicates(flow.local.port);
  if (auto ok = table().protect(flow, p); !ok) {
    ++counters_.refused;
    if (const Time now = group_.daemon().loop().now(); complained_ == Time{} || now - complained_ > kComplain) {
      complained_ = now;
      log_error(ok.error().message);
    }
    return;
  }
  Guarded& g = guarded_[flow] = {};
  g.first_out = p.first_out;
  g.first_in = p.first_in;
  const auto facts = kernel_facts(flow);
  if (!facts || !*facts || (*facts)->ending()) {
    g.why = "it ended before it was mirrored";
    g.end_refused = true;
    if (p.clamp) (void)table().unclamp(flow);
    return wait_to_end(flow, g);
  }
  // What left before the entry was there is known to the kernel only. It may have received a little more than it has acknowledged; the difference
  // is acknowledged within milliseconds.
  const uint64_t received = (*facts)->bytes_received;
  wire::TcpMirror m = negotiated(flow, **facts);
  m.fin_received = (*facts)->fin_received();
  m.received = received - (m.fin_received ? 1 : 0);
  m.rcv_nxt = p.first_in + static_cast<uint32_t>(m.received);
  m.rcv_edge = later(p.sent_edge, m.rcv_nxt + kUnscaledWindow);
  m.snd_una = m.snd_edge = p.first_out;
  if (m.timestamps) m.clock = m.echoed_clock = p.clock;
  g.handle = mirroring_.add({}, 1, m);
  if (p.clamp) mirroring_.replicate(g.handle, core::Replica(0), 0, group_.daemon().loop().now());
  refresh(flow, g);
  say_soon();
}

// After a restart of geckod: the gate still has it.
void Shield::take_up_again(const Connection& c, const gecko_gated& entry) {
  const auto facts = kernel_facts(c.flow);
  if (entry.first_out == 0 && entry.first_in == 0) return let_pass(c.flow, "it was not mirrored before geckod was started again");
  Guarded& g = guarded_[c.flow] = {};
  g.first_out = entry.first_out;
  g.first_in = entry.first_in;
  if (entry.term != term()) {
    g.why = "it is of a former life of this node";
    return;
  }
  if (!facts || !*facts || (*facts)->ending()) {
    g.why = "its own side has been shut down";
    return;
  }
  wire::TcpMirror m = negotiated(c.flow, **facts);
  m.fin_received = (*facts)->fin_received();
  // What left before the gate knew it is known to the kernel only (take_up).
  m.received = entry.in_before + (*facts)->bytes_received - (m.fin_received ? 1 : 0);
  m.rcv_nxt = entry.first_in + static_cast<uint32_t>(m.received);
  m.rcv_edge = later(second_of(entry.sent), m.rcv_nxt + kUnscaledWindow);
  m.snd_una = entry.snd_una;
  m.acked = nearest(entry.out_before + (*facts)->bytes_acked, m.snd_una - entry.first_out);
  m.snd_edge = later(entry.snd_nxt, m.snd_una);
  if (m.timestamps) {
    m.clock = first_of(entry.stamps);
    m.echoed_clock = m.clock - kAnyClock;
  }
  g.handle = mirroring_.add(c.id, c.epoch, m);
  // Its library says from where on it has the input.
  if ((entry.flags & GECKO_GATE_F_CLAMP) != 0) g.stable = nearest(entry.in_before + (*facts)->bytes_received, entry.watermark - entry.first_in);
  say_soon();
}

// Known to the gate so that it may speak, with nothing to recover it from.
void Shield::let_pass(const Flow& flow, std::string why) {
  bpf::Protection p;
  p.term = term();
  p.may_end = true;
  if (auto ok = table().protect(flow, p); !ok) {
    ++counters_.refused;
    log_error(ok.error().message);
    return;
  }
  ++counters_.unnamed;
  guarded_[flow] = {};
  guarded_[flow].why = std::move(why);
}

// From the gate's entry; positions only grow, however old what is read.
void Shield::refresh(const Flow& flow, Guarded& g) {
  const auto entry = table().get(flow);
  if (!entry || !*entry) return;
  const gecko_gated& e = **entry;
  if (e.wants_end != 0 && (e.flags & GECKO_GATE_F_MAY_END) == 0 && g.stage == Stage::open) wait_to_end(flow, g);
  const wire::TcpMirror* was = mirroring_.find(g.handle);
  if (was == nullptr) return;
  wire::TcpMirror m = *was;
  if (seq_after(e.snd_una, m.snd_una)) {
    m.acked += e.snd_una - m.snd_una;
    m.snd_una = e.snd_una;
  }
  m.snd_edge = later(later(m.snd_edge, e.snd_nxt), m.snd_una);
  if (!m.fin_received) {
    const bool fin = (e.seen & GECKO_GATE_SEEN_PEER_FIN) != 0;
    const uint32_t now = first_of(e.sent) - (fin ? 1 : 0);
    if (!seq_after(m.rcv_nxt, now)) {
      m.received += now - m.rcv_nxt;
      m.rcv_nxt = now;
      m.fin_received = fin;
    }
  }
  m.rcv_edge = later(later(m.rcv_edge, second_of(e.sent)), m.rcv_nxt);
  if (m.timestamps) {
    if (const uint32_t clock = first_of(e.stamps); seq_after(clock, m.clock)) m.clock = clock;
    // Once the client has acknowledged what was sent under a clock, it has heard one that is hardly older.
    if (g.clock_waits && !seq_after(g.told_until, m.snd_una)) {
      if (const uint32_t heard = g.told_clock - kClockSlack; seq_after(heard, m.echoed_clock)) m.echoed_clock = heard;
      g.clock_waits = false;
    }
    if (!g.clock_waits && seq_after(e.snd_nxt, m.snd_una)) {
      g.told_clock = m.clock;
      g.told_until = e.snd_nxt;
      g.clock_waits = true;
    }
  }
  mirroring_.moved(g.handle, m);
}

// ---------------------------------------------------------------- an application's connections

void Shield::named(const Connection& c) {
  if (!on() || !guards(c.flow.local.port)) return;
  group_.daemon().gate()->catch_up();
  Guarded* g = find(c.flow);
  if (g == nullptr || g->stage == Stage::ended) {
    if (!grow_up(c.flow)) {
      if (const auto entry = table().get(c.flow); entry && *entry && g == nullptr) take_up_again(c, **entry);
      else let_pass(c.flow, "its beginning was not seen here");
    }
    g = find(c.flow);
    if (g == nullptr) return;
  }
  if (g->stage == Stage::ending) g->stage = Stage::open;   // only its application's link had ended
  g->id = c.id;
  g->epoch = c.epoch;
  if (g->handle == 0) return;
  mirroring_.identify(g->handle, c.id, c.epoch);
  if (replicates(c.flow.local.port) && (c.session == nullptr || !c.session->asks_replication(c.flow.local.port))) stop_replicating(c.flow, *g);
  if (c.saved) mirroring_.checkpoint(g->handle, c.saved);
  say_soon();
}

void Shield::ended(const Flow& flow, bool announced) {
  if (!on()) return;
  Guarded* g = find(flow);
  if (g == nullptr) {
    if (!grow_up(flow) || (g = find(flow)) == nullptr) return;
  }
  if (g->stage == Stage::ended) return;
  if (announced) let_end(flow, *g);
  else wait_to_end(flow, *g);
}

void Shield::wait_to_end(const Flow& flow, Guarded& g) {
  g.stage = Stage::ending;
  const std::weak_ptr<bool> alive = alive_;
  group_.daemon().loop().at(group_.daemon().loop().now() + kOnlyTheApplication, [this, alive, flow] {
    if (alive.expired()) return;
    if (Guarded* waits = find(flow); waits != nullptr && waits->stage == Stage::ending) let_end(flow, *waits);
  });
}

void Shield::let_end(const Flow& flow, Guarded& g) {
  if (replicates(flow.local.port)) stop_replicating(flow, g);   // nobody reads any more
  (void)table().allow_end(flow);
  if (const auto entry = table().get(flow); entry && *entry && ((*entry)->wants_end != 0 || g.end_refused) && (*entry)->first_out != 0) {
    const auto facts = kernel_facts(flow);
    const bool has_socket = facts && *facts;
    if (!has_socket) group_.daemon().privileged().probe(group_.index(), question(flow, **entry));
    else if ((*facts)->ending() && (*facts)->unacknowledged == 1) group_.daemon().privileged().probe(group_.index(), end_of_output(flow, **entry));
  }
  if (g.handle != 0) {
    mirroring_.end(std::exchange(g.handle, 0));
    say_soon();
  }
  g.why = "its own side has been shut down";
  g.stage = Stage::ended;
  g.silenced.reset();
  erase_later(flow, g, kSilentEnd);
}

void Shield::erase_later(const Flow& flow, Guarded& g, Duration delay) {
  g.erase_at = group_.daemon().loop().now() + delay;
  to_erase_.emplace(g.erase_at, flow);
}

void Shield::checkpoint(const Flow& flow, std::shared_ptr<const core::SavedState> saved) {
  if (!on()) return;
  const Guarded* g = find(flow);
  if (g == nullptr || g->handle == 0) return;
  mirroring_.checkpoint(g->handle, std::move(saved));
  say_soon();
}

// ---------------------------------------------------------------- handoffs

Status Shield::arriving(const wire::TcpOutline& o, Arrival arrival) {
  const wire::TcpState& s = o.state;
  if (!on() || !guards(s.flow.local.port)) return {};
  const bool own_end = s.phase != wire::TcpPhase::established && s.phase != wire::TcpPhase::close_wait;
  const auto sent = static_cast<uint32_t>(o.send_bytes), unread = static_cast<uint32_t>(o.recv_bytes) + arrival.ahead;
  bpf::Protection p;
  p.term = term();
  p.may_end = own_end;
  p.timestamps = s.timestamps;
  p.window_scale = s.rcv_wscale;
  p.sent_ack = s.rcv_wup;
  p.sent_edge = s.rcv_wup + s.rcv_wnd;
  p.watermark = s.rcv_wup;
  p.snd_nxt = p.released = s.send_seq - s.unsent;
  p.snd_una = s.send_seq - sent;
  p.clock = s.timestamps ? s.timestamp : 0;
  p.in_before = arrival.base.received;
  p.out_before = arrival.base.sent;
  p.first_in = s.recv_seq - unread - static_cast<uint32_t>(arrival.base.received);
  const bool replicated = replicates(s.flow.local.port) && !own_end;
  if (replicated) {
    if (!arrival.replica) {   // of a node that keeps none: it begins here
      arrival.replica.emplace(arrival.base.received);
      arrival.stable = arrival.base.received;
    }
    // Its kernel had acknowledged more than the gate had let out.
    p.clamp = true;
    p.watermark = p.first_in + static_cast<uint32_t>(arrival.stable);
    if (arrival.told) std::tie(p.sent_ack, p.sent_edge) = *arrival.told;
  }
  p.first_out = p.snd_una - static_cast<uint32_t>(arrival.base.sent);
  GECKO_CHECK(table().protect(s.flow, p));
  if (const Guarded* old = find(s.flow); old != nullptr && old->handle != 0) mirroring_.end(old->handle);
  Guarded& g = guarded_[s.flow] = {};
  g.id = arrival.id;
  g.epoch = arrival.epoch;
  g.first_out = p.first_out;
  g.first_in = p.first_in;
  if (replicated) {
    g.replica = std::move(arrival.replica);
    g.stable = arrival.stable;
  }
  newborn_.erase(s.flow);
  if (own_end) {
    g.why = "its own side has been shut down";
    return {};
  }
  wire::TcpMirror m;
  m.flow = s.flow;
  m.v4_mapped = s.v4_mapped;
  m.mss = s.mss;
  m.window_scaling = s.window_scaling;
  m.snd_wscale = s.snd_wscale;
  m.rcv_wscale = s.rcv_wscale;
  m.sack = s.sack;
  m.timestamps = s.timestamps;
  m.snd_una = p.snd_una;
  m.acked = arrival.base.sent;
  m.snd_edge = later(m.snd_una + s.snd_wnd, p.snd_nxt);
  // What has been received and not been acknowledged yet: the former owner's kernel had it, ours has it, and acknowledges it.
  m.fin_received = s.fin_received;
  m.rcv_nxt = s.recv_seq;
  m.received = arrival.base.received + unread;
  if (replicated) {
    // Ours acknowledges only what the backups have, and they get what the program has read: the rest must come again when this node dies.
    m.fin_received = s.fin_received && p.sent_ack == s.recv_seq + 1;
    m.rcv_nxt = p.sent_ack - (m.fin_received ? 1 : 0);
    m.received -= s.recv_seq - m.rcv_nxt;
  }
  m.rcv_edge = later(p.sent_edge, m.rcv_nxt);
  if (m.timestamps) {
    m.clock = s.timestamp;
    m.echoed_clock = m.clock - kAnyClock;   // what the client has heard last is not in the state
  }
  g.arriving = m;
  return {};
}

void Shield::arrived(const Flow& flow) {
  if (!on()) return;
  Guarded* g = find(flow);
  if (g == nullptr || !g->arriving) return;
  g->handle = mirroring_.add(g->id, g->epoch, *g->arriving);
  g->arriving.reset();
  if (g->replica) mirroring_.replicate(g->handle, *std::exchange(g->replica, {}), g->stable, group_.daemon().loop().now());
  refresh(flow, *g);
  say_soon();
}

void Shield::not_arrived(const Flow& flow) {
  if (!on() || guarded_.erase(flow) == 0) return;
  (void)table().erase(flow);
}

void Shield::silence(const Flow& flow) {
  if (!on()) return;
  Guarded* g = find(flow);
  if (g == nullptr) return;
  if (const auto entry = table().get(flow); entry && *entry) g->silenced = **entry;
  if (auto ok = table().erase(flow); !ok) log_error(ok.error().message);
}

void Shield::speak(const Flow& flow) {
  if (!on()) return;
  Guarded* g = find(flow);
  if (g == nullptr || !g->silenced) return;
  g->silenced->term = term();
  if (auto ok = table().put(flow, *g->silenced); !ok) log_error(ok.error().message);
  g->silenced.reset();
}

std::optional<core::MirroredConnection> Shield::departed(const Flow& flow) {
  if (!on()) return std::nullopt;
  Guarded* g = find(flow);
  if (g == nullptr) return std::nullopt;
  (void)table().erase(flow);
  auto left = mirroring_.end(g->handle);
  guarded_.erase(flow);
  say_soon();
  return left;
}

// ---------------------------------------------------------------- the rest

void Shield::kernel_may_answer(const Flow& flow) {
  if (!on() || !guards(flow.local.port) || answering_ >= kMostAnswering) return;
  if (const Guarded* g = find(flow); g != nullptr && g->stage != Stage::ended) return;
  let_pass(flow, "nobody's");
  Guarded* g = find(flow);
  if (g == nullptr) return;
  ++answering_;
  g->stage = Stage::ended;
  erase_later(flow, *g, kKernelAnswers);
}

void Shield::start() {
  if (on()) term_seen_ = term();
}

void Shield::lease_changed() {
  if (!on() || term() == term_seen_) return;
  // Before the first lease nothing has left, and nobody else was asked to take anything over.
  if (std::exchange(term_seen_, term()) == 0) confirm();
}

void Shield::confirm() {
  for (const auto& [flow, g] : guarded_)
    if (!g.silenced) (void)table().set_term(flow, term());
}

void Shield::sweep(bool claimed) {
  if (!on()) return;
  lease_changed();
  const Time now = group_.daemon().loop().now();
  while (!newborn_order_.empty() && now - newborn_order_.front().first > kNewbornFor) forget_oldest_newborn();
  answering_ = 0;
  for (size_t i = 0; i < kErasedPerSweep && !to_erase_.empty() && to_erase_.begin()->first <= now; ++i) {
    const auto [due, flow] = *to_erase_.begin();
    to_erase_.erase(to_erase_.begin());
    Guarded* g = find(flow);
    if (g == nullptr || g->stage != Stage::ended || g->erase_at != due) continue;
    const auto has = kernel_has_socket(flow);
    if (has && *has) {   // half-closed, it may last
      erase_later(flow, *g, kSilentEnd);
      continue;
    }
    (void)table().erase(flow);
    guarded_.erase(flow);
  }
  if (!claimed || std::exchange(claimed_, true)) return;
  // What a former geckod left: ports that nobody serves, connections whose applications have not come back.
  for (const uint16_t port : group_.config().ports)
    if (!group_.wants_recovery(port)) group_.daemon().privileged().unprotect_port(group_.index(), port);
  std::vector<Flow> left;
  (void)table().for_each([&](const Flow& flow, const gecko_gated&) {
    if (group_.owns_address(flow) && !guarded_.contains(flow)) left.push_back(flow);
  });
  for (const Flow& flow : left) {
    let_end(flow, guarded_[flow] = {});
  }
}

Shield::Report Shield::report() const {
  Report r = counters_;
  r.guarded = guarded_.size();
  r.mirrored = mirroring_.size();
  for (const auto& [flow, g] : guarded_) {
    if (g.stage != Stage::open) ++r.ending;
    if (g.handle != 0 && mirroring_.is_kept(g.handle)) ++r.kept;
    if (mirroring_.is_replicated(g.handle)) ++r.replicated;
  }
  return r;
}

std::string Shield::unprotected_because(const Connection& c) const {
  const Flow& flow = c.flow;
  if (!on()) return "the group asks for no recovery";
  const auto it = guarded_.find(flow);
  if (it == guarded_.end()) return guards(flow.local.port) ? "the gate does not know it" : "its program has not asked for recovery";
  if (it->second.handle == 0) return it->second.why.empty() ? "it is on its way" : it->second.why;
  if (mirroring_.backups().empty()) return "no other node is there to keep its mirror";
  if (!mirroring_.is_kept(it->second.handle)) return "no backup has its mirror yet";
  const bool needs_none = c.session != nullptr && c.session->continues(flow.local.port);
  return needs_none || mirroring_.is_resumable(it->second.handle) ? "" : "no backup has a checkpoint of it yet, and its program goes on from one only";
}

}  // namespace gecko::node
