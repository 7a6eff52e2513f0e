#include "sim/handoff/host.hh"

#include "sim/handoff/world.hh"

namespace gecko::sim {

namespace {
constexpr Duration kFirstTimeout = std::chrono::milliseconds(200), kLastTimeout = std::chrono::seconds(2);
constexpr size_t kMaxHeld = 256;
constexpr uint8_t kMaxHops = 8;   // two stale entries that point at each other must not keep a packet for ever
}  // namespace

Host::Entry& Host::entry(ConnNo conn) {
  if (conn >= entries_.size()) entries_.resize(conn + 1);
  return entries_[conn];
}

bool Host::is_live(ConnNo conn) const {
  const auto it = sockets_.find(conn);
  return it != sockets_.end() && it->second.state == Socket::live;
}
bool Host::is_frozen(ConnNo conn) const {
  const auto it = sockets_.find(conn);
  return it != sockets_.end() && it->second.state == Socket::frozen;
}

uint32_t Host::segments_in(ConnNo conn) const {
  const auto it = sockets_.find(conn);
  return it == sockets_.end() ? 0 : it->second.segments_in;
}

// ---------------------------------------------------------------- the daemon's orders

void Host::hold(ConnNo conn) {
  Entry& e = entry(conn);
  e.state = Entry::holding;
  e.node = self_;
}

Result<wire::Bytes> Host::freeze(ConnNo conn) {
  const auto it = sockets_.find(conn);
  if (it == sockets_.end() || it->second.state != Socket::live) return make_error(Errc::closed, "no live socket");
  it->second.state = Socket::frozen;
  it->second.frozen_at = world_.now();
  it->second.committing = false;
  world_.checker.silent(conn);
  world_.trace.add(world_.now(), "frozen", conn, self_);
  return wire::encode(it->second.at);
}

void Host::unhold(ConnNo conn) { release(conn, Entry::mine, self_, entry(conn).epoch); }

Status Host::thaw(ConnNo conn, uint64_t epoch) {
  const auto it = sockets_.find(conn);
  if (it == sockets_.end() || it->second.state != Socket::frozen) return make_error(Errc::internal, "no frozen socket");
  Socket& s = it->second;
  s.state = Socket::live;
  s.committing = false;
  s.epoch = epoch;
  world_.trace.add(world_.now(), "thawed", conn, self_, epoch);
  world_.checker.live(conn, self_, epoch);
  release(conn, Entry::mine, self_, epoch);
  transmit(conn, s, s.at.out_acked);
  return {};
}

void Host::steer_away(ConnNo conn, uint16_t to, uint64_t epoch) {
  if (const auto it = sockets_.find(conn); it != sockets_.end()) it->second.committing = true;
  world_.trace.add(world_.now(), "steered away", conn, self_, to);
  release(conn, Entry::forward, to, epoch);
}

Status Host::restore(ConnNo conn, uint16_t donor, uint64_t epoch, const wire::Bytes& tcp) {
  if (sockets_.contains(conn)) return make_error(Errc::exists, "lives here");
  auto at = wire::decode<Positions>(tcp);
  if (!at) return at.error();
  taken_[conn] = {donor, epoch, false};
  Socket& s = sockets_[conn];
  s.state = Socket::restored;
  s.at = *at;
  world_.trace.add(world_.now(), "restored", conn, self_);
  world_.checker.restored(conn);
  return {};
}

void Host::unrestore(ConnNo conn, uint16_t donor, bool contact) {
  const auto it = sockets_.find(conn);
  if (it != sockets_.end() && it->second.state == Socket::restored) end_socket(conn, static_cast<int>(Checker::Cause::engine));
  release(conn, Entry::forward, donor, 0);
  if (!contact) entry(conn).state = Entry::none;
}

Status Host::activate(ConnNo conn, uint64_t epoch) {
  const auto it = sockets_.find(conn);
  if (it == sockets_.end() || it->second.state != Socket::restored) return make_error(Errc::internal, "no restored socket");
  Socket& s = it->second;
  taken_[conn].activated = true;
  s.state = Socket::live;
  s.epoch = epoch;
  world_.trace.add(world_.now(), "activated", conn, self_, epoch);
  world_.checker.live(conn, self_, epoch);
  release(conn, Entry::mine, self_, epoch);
  transmit(conn, s, s.at.out_acked);
  return {};
}

void Host::retire(ConnNo conn) {
  if (is_frozen(conn)) end_socket(conn, static_cast<int>(Checker::Cause::engine));
}

void Host::hint(ConnNo conn, uint16_t owner, uint64_t epoch) {
  Entry& e = entry(conn);
  if (owner == self_ || e.state == Entry::mine || e.state == Entry::holding) return;
  if (e.state == Entry::forward && e.epoch >= epoch) return;
  e = {Entry::forward, owner, epoch, {}};
}

void Host::release(ConnNo conn, Entry::State state, uint16_t node, uint64_t epoch) {
  Entry& e = entry(conn);
  e.state = state;
  e.node = node;
  e.epoch = epoch;
  for (const Segment& s : std::exchange(e.held, {})) {
    if (state == Entry::forward) send_on(s, node);
    else to_socket(s);
  }
}

void Host::end_socket(ConnNo conn, int cause) {
  const auto it = sockets_.find(conn);
  const auto state = it->second.state;
  sockets_.erase(it);
  world_.trace.add(world_.now(), "socket gone", conn, self_, static_cast<uint64_t>(cause));
  world_.checker.gone(conn, self_, state == Socket::live, state == Socket::frozen, static_cast<Checker::Cause>(cause));
}

// ---------------------------------------------------------------- packets

void Host::receive(Segment s) {
  Entry& e = entry(s.conn);
  switch (e.state) {
    case Entry::mine: return to_socket(s);
    case Entry::holding:
      if (const auto it = sockets_.find(s.conn); it != sockets_.end() && is_late(it->second)) return take(s.conn, it->second, s);
      // Without a daemon there is no hold device.
      if (e.held.size() < kMaxHeld && world_.machines.up(self_, Part::daemon)) e.held.push_back(s);
      return;
    case Entry::forward: return send_on(s, e.node);
    case Entry::none:
      if (world_.contact() == self_) ask_for_owner(s.conn);
      // Elsewhere: dropped, the client sends it again. A kernel that answered would reset a connection that lives on.
      else if (s.hops > 0 && !world_.checker.connection(s.conn).ended) ++world_.counts.strays;
      return;
  }
}

void Host::send_on(Segment s, uint16_t to) {
  if (to == self_ || ++s.hops > kMaxHops) return;
  world_.network.packet(self_, to, [this, s, to] { world_.host(to).receive(s); });
}

// "Whose is this?" to all nodes; the model answers for them after a round trip.
void Host::ask_for_owner(ConnNo conn) {
  world_.machines.after(self_, Part::kernel, std::chrono::milliseconds(2), "ask owner", [this, conn] {
    if (entry(conn).state != Entry::none) return;
    for (const bool frozen : {false, true})
      for (uint16_t n = 0; n < world_.settings.nodes; ++n) {
        const Host& other = world_.host(n);
        if (n == self_ || !world_.machines.running(n, Part::kernel) || world_.network.is_cut(self_, n)) continue;
        if (frozen ? other.is_frozen(conn) : other.is_live(conn)) {
          const uint64_t epoch = other.sockets_.at(conn).epoch;
          return hint(conn, n, epoch);
        }
      }
  });
}

void Host::to_socket(const Segment& in) {
  const auto it = sockets_.find(in.conn);
  if (it == sockets_.end() || it->second.state != Socket::live) return;   // ended: a client that still speaks is told so (not modelled)
  take(in.conn, it->second, in);
}

// A virtual CPU stood still with a segment between the filters and the socket; for less than a message to the acceptor and back takes.
bool Host::is_late(const Socket& s) const {
  return s.state == Socket::frozen && world_.now() - s.frozen_at < 2 * world_.settings.network.delay_min && world_.random.chance(world_.settings.late_segment);
}

void Host::take(ConnNo conn, Socket& s, const Segment& in) {
  ++s.segments_in;
  world_.checker.server_took_ack(conn, in.ack, s.at.out_written);
  if (in.ack > s.at.out_acked) {
    s.at.out_acked = in.ack;
    s.timeout = kFirstTimeout;
    s.resend_at = world_.now() + s.timeout;
  }
  if (in.to == in.from) return;
  if (in.from <= s.at.in_next && in.to > s.at.in_next) {
    s.at.in_next = in.to;
    wake(conn);
  }
  transmit(conn, s, s.at.out_written);
}

void Host::transmit(ConnNo conn, Socket& s, uint64_t from) {
  world_.to_client(self_, {conn, from, s.at.out_written, s.at.in_next, 0});
  if (s.at.out_acked < s.at.out_written) arm(conn, s);
}

void Host::arm(ConnNo conn, Socket& s) {
  if (s.timer) return;
  s.timer = true;
  s.timeout = kFirstTimeout;
  s.resend_at = world_.now() + s.timeout;
  world_.machines.at(self_, Part::kernel, s.resend_at, "resend", [this, conn] { on_timer(conn); });
}

void Host::on_timer(ConnNo conn) {
  const auto it = sockets_.find(conn);
  if (it == sockets_.end()) return;
  Socket& s = it->second;
  s.timer = false;
  if (s.state != Socket::live || s.at.out_acked == s.at.out_written) return;
  if (world_.now() >= s.resend_at) {
    world_.to_client(self_, {conn, s.at.out_acked, s.at.out_written, s.at.in_next, 0});
    s.timeout = std::min(s.timeout * 2, kLastTimeout);
    s.resend_at = world_.now() + s.timeout;
  }
  s.timer = true;
  world_.machines.at(self_, Part::kernel, s.resend_at, "resend", [this, conn] { on_timer(conn); });
}

// ---------------------------------------------------------------- the application

void Host::open(ConnNo conn) {
  sockets_[conn].epoch = 1;
  apps_[conn].epoch = 1;
  entry(conn) = {Entry::mine, self_, 1, {}};
  world_.checker.born(conn, self_);
}

bool Host::serves(ConnNo conn) const {
  const auto it = apps_.find(conn);
  return it != apps_.end() && !it->second.let_go && is_live(conn);
}

bool Host::close(ConnNo conn) {
  if (!serves(conn)) return false;
  apps_.erase(conn);
  end_socket(conn, static_cast<int>(Checker::Cause::closed));
  return true;
}

AppState Host::let_go(ConnNo conn) {
  App& app = apps_.at(conn);
  app.let_go = true;
  return app.state;
}

void Host::give_back(ConnNo conn, uint64_t epoch) {
  const auto it = apps_.find(conn);
  if (it == apps_.end()) return;
  it->second.let_go = false;
  if (epoch != 0) it->second.epoch = epoch;
  wake(conn);
}

void Host::deliver(ConnNo conn, uint64_t epoch, const AppState& state) {
  apps_[conn] = {false, false, epoch, state};
  wake(conn);
}

std::vector<std::pair<ConnNo, uint64_t>> Host::serving() const {
  std::vector<std::pair<ConnNo, uint64_t>> out;
  for (const auto& [conn, app] : apps_)
    if (serves(conn)) out.emplace_back(conn, app.epoch);
  return out;
}

void Host::wake(ConnNo conn) {
  const auto it = apps_.find(conn);
  if (it == apps_.end() || it->second.reading || it->second.let_go) return;
  it->second.reading = true;
  world_.machines.after(self_, Part::kernel, world_.random.between({}, world_.settings.think_max), "read", [this, conn] { read(conn); });
}

void Host::read(ConnNo conn) {
  const auto it = apps_.find(conn);
  if (it == apps_.end()) return;
  App& app = it->second;
  app.reading = false;
  if (!serves(conn)) return;
  Socket& s = sockets_.at(conn);
  if (s.at.in_read == s.at.in_next) return;
  if (app.state.consumed != s.at.in_read || app.state.produced != s.at.out_written)
    world_.checker.violation(conn, "the application's state is not the socket's");
  const uint64_t from = app.state.produced;
  for (; app.state.consumed < s.at.in_next; ++app.state.consumed) app.state.produced += answer_length(app.state.consumed);
  world_.checker.consumed(conn, s.at.in_read, s.at.in_next);
  world_.checker.produced(conn, from, app.state.produced);
  s.at.in_read = s.at.in_next;
  s.at.out_written = app.state.produced;
  transmit(conn, s, from);
}

// ---------------------------------------------------------------- fate

// The privileged half, left alone: what is frozen goes on here, unless the journal says that it was committed; what was restored and not
// activated ends. If it died as well, all that is frozen stays so until the application offers it to the next daemon. A live socket that was
// not delivered yet has nobody: it ends. The application takes back what it had let go, where the socket is alive.
void Host::daemon_died(bool both_halves) {
  std::vector<ConnNo> conns;
  for (const auto& [conn, socket] : sockets_) conns.push_back(conn);
  for (const ConnNo conn : conns) {
    Socket& s = sockets_.at(conn);
    if (s.state == Socket::frozen) {
      if (!apps_.contains(conn)) end_socket(conn, static_cast<int>(Checker::Cause::daemon_died));   // nobody else holds it
      else if (!s.committing && !both_halves) (void)thaw(conn, s.epoch);
    } else if (s.state == Socket::restored || !apps_.contains(conn)) {
      end_socket(conn, static_cast<int>(Checker::Cause::daemon_died));
      if (entry(conn).state == Entry::mine) entry(conn) = {};
    }
  }
  for (ConnNo conn = 0; conn < entries_.size(); ++conn) {
    if (entries_[conn].state != Entry::holding) continue;
    if (is_live(conn)) release(conn, Entry::mine, self_, entries_[conn].epoch);   // the freeze had not come yet
    else entries_[conn].held.clear();
  }
  for (auto it = apps_.begin(); it != apps_.end();) {
    if (!sockets_.contains(it->first)) {
      it = apps_.erase(it);
      continue;
    }
    if (is_live(it->first)) {
      it->second.let_go = false;
      wake(it->first);
    }
    ++it;
  }
}

void Host::daemon_starts() {
  for (ConnNo conn = 0; conn < entries_.size(); ++conn) {
    if (entries_[conn].state != Entry::holding || is_frozen(conn)) continue;
    const auto taken = taken_.find(conn);
    if (taken == taken_.end() || taken->second.activated) entries_[conn] = {};
    else release(conn, Entry::forward, taken->second.donor, 0);   // it has it, or will have it again
  }
}

void Host::mark_given(ConnNo conn, uint64_t xid, Given::State state) {
  const auto it = given_.find(conn);
  if (it != given_.end() && it->second.xid == xid) it->second.state = state;
}

bool Host::may_have_lived(ConnNo conn, uint64_t epoch) const {
  const auto it = taken_.find(conn);
  return it == taken_.end() || it->second.epoch != epoch || it->second.activated;
}

std::vector<std::pair<ConnNo, uint64_t>> Host::orphans() const {
  std::vector<std::pair<ConnNo, uint64_t>> out;
  for (const auto& [conn, app] : apps_)
    if (app.let_go && is_frozen(conn)) out.emplace_back(conn, app.epoch);
  return out;
}

void Host::machine_died() {
  given_.clear();
  taken_.clear();
  apps_.clear();
  while (!sockets_.empty()) end_socket(sockets_.begin()->first, static_cast<int>(Checker::Cause::machine_died));
  entries_.clear();
}

}  // namespace gecko::sim
