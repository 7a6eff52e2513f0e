#include "sim/recovery/server.hh"

#include <algorithm>

#include "sim/recovery/world.hh"

namespace gecko::sim {

using namespace std::chrono_literals;

namespace {
constexpr size_t kSegment = 80;
constexpr Duration kFirstTimeout = 60ms, kLastTimeout = 500ms;
}  // namespace

// ---------------------------------------------------------------- sockets

void Server::open(ConnNo conn) {
  Socket& s = sockets_[conn];
  s.live = true;
  if (world_.settings.replicated) s.watermark = 0;
  apps_[conn] = {};
  world_.checker.live(conn, self_);
}

void Server::restore(ConnNo conn, const Stands& at, uint64_t watermark) {
  Socket& s = sockets_[conn] = {};
  s.at = at;
  if (world_.settings.replicated) s.watermark = watermark;
}

void Server::activate(ConnNo conn) {
  Socket& s = sockets_.at(conn);
  s.live = true;
  world_.checker.live(conn, self_);
  arm(conn, s);
}

void Server::destroy(ConnNo conn) {
  const auto it = sockets_.find(conn);
  if (it == sockets_.end()) return;
  if (it->second.live) world_.checker.silent(conn, self_);
  sockets_.erase(it);
  apps_.erase(conn);
}

Server::Stands Server::freeze(ConnNo conn) {
  Socket& s = sockets_.at(conn);
  s.live = false;
  world_.checker.silent(conn, self_);
  return s.at;
}

void Server::thaw(ConnNo conn) {
  const auto it = sockets_.find(conn);
  if (it != sockets_.end() && !it->second.live) activate(conn);
}

void Server::stable(ConnNo conn, uint64_t offset) {
  const auto it = sockets_.find(conn);
  if (it == sockets_.end() || !it->second.watermark || offset <= *it->second.watermark) return;
  it->second.watermark = offset;
  if (it->second.live) say(conn, it->second, it->second.at.sent, true);
}

void Server::unclamp(ConnNo conn) {
  if (const auto it = sockets_.find(conn); it != sockets_.end()) it->second.watermark.reset();
}

bool Server::is_live(ConnNo conn) const {
  const auto it = sockets_.find(conn);
  return it != sockets_.end() && it->second.live;
}

Server::Stands Server::stands(ConnNo conn) const { return sockets_.at(conn).at; }

std::vector<ConnNo> Server::all() const {
  std::vector<ConnNo> out;
  for (const auto& [conn, socket] : sockets_) out.push_back(conn);
  return out;
}

void Server::machine_died() {
  for (const ConnNo conn : all()) destroy(conn);
}

uint64_t Server::acknowledgement(const Socket& s) const {
  const uint64_t all = s.at.received + (s.at.fin ? 1 : 0);
  return std::max(s.at.told, s.watermark ? std::min(all, *s.watermark) : all);
}

bool Server::receive(const Packet& p) {
  const auto it = sockets_.find(p.conn);
  if (it == sockets_.end()) return false;
  Socket& s = it->second;
  if (!s.live) return true;   // dropped by its filter; it comes again
  const uint64_t ack = std::min(p.ack, s.at.sent);   // a client that is ahead of its new node: lowered on the way in (docs/adr/0030)
  if (ack > s.at.acked) {
    s.at.unacked.erase(s.at.unacked.begin(), s.at.unacked.begin() + static_cast<ptrdiff_t>(ack - s.at.acked));
    s.at.acked = ack;
    s.timeout = kFirstTimeout;
    s.resend_at = world_.now() + s.timeout;
  }
  if (!p.bytes.empty() || p.fin) {
    if (p.from <= s.at.received && p.to() > s.at.received) {
      s.at.unread.insert(s.at.unread.end(), p.bytes.begin() + static_cast<ptrdiff_t>(s.at.received - p.from), p.bytes.end());
      s.at.received = p.to();
    }
    if (p.fin && p.to() == s.at.received) s.at.fin = true;
    say(p.conn, s, s.at.sent, true);
    wake(p.conn);
  }
  world_.geckod(self_).moved(p.conn);
  return true;
}

// From there on to the end of what is written, or an acknowledgement alone; past the gate.
void Server::say(ConnNo conn, Socket& s, uint64_t from, bool even_nothing) {
  while (even_nothing || from < s.at.sent) {
    even_nothing = false;
    Packet p;
    p.conn = conn;
    p.from = from;
    const auto begin = s.at.unacked.begin() + static_cast<ptrdiff_t>(from - s.at.acked);
    p.bytes.assign(begin, begin + static_cast<ptrdiff_t>(std::min(kSegment, static_cast<size_t>(s.at.sent - from))));
    p.ack = acknowledgement(s);
    from = p.to();
    if (!world_.transmits(self_)) continue;
    world_.checker.leaves(self_, p);
    s.at.told = p.ack;
    world_.to_client(self_, p);
  }
  world_.geckod(self_).moved(conn);
}

void Server::arm(ConnNo conn, Socket& s) {
  if (s.at.acked == s.at.sent || std::exchange(s.timer, true)) return;
  s.timeout = kFirstTimeout;
  s.resend_at = world_.now() + s.timeout;
  world_.machines().at(self_, Part::kernel, s.resend_at, "resend", [this, conn] { on_timer(conn); });
}

void Server::on_timer(ConnNo conn) {
  const auto it = sockets_.find(conn);
  if (it == sockets_.end()) return;
  Socket& s = it->second;
  s.timer = false;
  if (!s.live || s.at.acked == s.at.sent) return;
  if (world_.now() >= s.resend_at) {
    say(conn, s, s.at.acked, false);
    s.timeout = std::min(s.timeout * 2, kLastTimeout);
    s.resend_at = world_.now() + s.timeout;
  }
  s.timer = true;
  world_.machines().at(self_, Part::kernel, s.resend_at, "resend", [this, conn] { on_timer(conn); });
}

// ---------------------------------------------------------------- programs

void Server::deliver(ConnNo conn, const Program& program) {
  App& app = apps_[conn] = {};
  app.program = program;
  app.skip_to = sockets_.at(conn).at.sent;
  wake(conn);
}

std::optional<Program> Server::let_go(ConnNo conn) {
  const auto it = apps_.find(conn);
  if (it == apps_.end() || it->second.in_call || it->second.program.produced < it->second.skip_to) return {};
  const Program program = it->second.program;
  apps_.erase(it);
  return program;
}

void Server::wake(ConnNo conn) {
  if (!apps_.contains(conn)) return;
  world_.machines().after(self_, Part::kernel, world_.random.between(10us, 1ms), "read", [this, conn] { read(conn); });
}

// A read: as much as it asks for, or the end. geckod has it before the program goes on.
void Server::read(ConnNo conn) {
  const auto at = apps_.find(conn);
  const auto socket = sockets_.find(conn);
  if (at == apps_.end() || socket == sockets_.end() || !socket->second.live || at->second.in_call || at->second.program.ended) return;
  App& app = at->second;
  auto& unread = socket->second.at.unread;
  const bool end = unread.empty();
  if (end && !socket->second.at.fin) return;
  app.in_call = true;
  const uint64_t offset = app.program.consumed;
  const auto n = static_cast<ptrdiff_t>(end ? 0 : 1 + world_.random.below(unread.size()));
  const wire::Bytes bytes(unread.begin(), unread.begin() + n);
  unread.erase(unread.begin(), unread.begin() + n);
  world_.checker.reads(offset, conn, bytes);
  for (const uint8_t byte : bytes) app.program.take(byte, app.output);
  if (end) app.program.end(app.output);
  world_.machines().after(self_, Part::daemon, world_.settings.api_delay, "input", [this, conn, offset, bytes, end] {
    Geckod& geckod = world_.geckod(self_);
    geckod.input(conn, offset, bytes, end);
    geckod.when_stable(conn, offset + bytes.size(), [this, conn] {
      world_.machines().after(self_, Part::kernel, world_.settings.api_delay, "stable", [this, conn] { write(conn); });
    });
  });
}

void Server::write(ConnNo conn) {
  const auto at = apps_.find(conn);
  const auto socket = sockets_.find(conn);
  if (at == apps_.end() || socket == sockets_.end() || !socket->second.live || !at->second.in_call) return;
  App& app = at->second;
  Socket& s = socket->second;
  app.in_call = false;
  const wire::Bytes output = std::exchange(app.output, {});
  const uint64_t begins = app.program.produced - output.size();
  const auto known = static_cast<ptrdiff_t>(std::clamp<uint64_t>(app.skip_to, begins, app.program.produced) - begins);
  const uint64_t from = s.at.sent;
  s.at.unacked.insert(s.at.unacked.end(), output.begin() + known, output.end());
  s.at.sent += output.size() - static_cast<size_t>(known);
  if (s.at.sent > from) {
    say(conn, s, from, false);
    arm(conn, s);
  }
  if (world_.random.chance(world_.settings.checkpoints) && app.program.produced >= app.skip_to) {
    core::SavedState saved{app.program.consumed, app.program.produced, wire::encode(app.program)};
    world_.machines().after(self_, Part::daemon, world_.settings.api_delay, "checkpoint", [this, conn, saved = std::move(saved)]() mutable {
      world_.geckod(self_).checkpoint(conn, std::move(saved));
    });
  }
  wake(conn);
}

}  // namespace gecko::sim
