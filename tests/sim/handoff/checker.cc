#include "sim/handoff/checker.hh"

#include <algorithm>

namespace gecko::sim {

Checker::Connection& Checker::at(ConnNo conn) {
  if (conn >= connections_.size()) connections_.resize(conn + 1);
  return connections_[conn];
}

void Checker::violation(ConnNo conn, const std::string& what) {
  trace_.add(now_(), "VIOLATION", conn);
  if (trace_.prints()) std::printf("           connection %u: %s\n", conn, what.c_str());
  char when[32];
  std::snprintf(when, sizeof when, "%.6f s: ", double(now_().time_since_epoch().count()) / 1e9);
  if (violations_.size() < 100) violations_.push_back(when + ("connection " + std::to_string(conn)) + ": " + what);
}

void Checker::check(bool ok, ConnNo conn, const char* what) {
  ++checks_;
  if (!ok) violation(conn, what);
}

void Checker::born(ConnNo conn, uint16_t node) {
  Connection& c = at(conn);
  c.born = true;
  c.sockets = c.live = 1;
  c.epoch = 1;
  c.owner = node;
}

void Checker::live(ConnNo conn, uint16_t node, uint64_t epoch) {
  Connection& c = at(conn);
  ++c.live;
  check(c.live == 1, conn, "two nodes own it at once");
  check(!c.ended, conn, "it has ended and comes to life again");
  check(!c.owner_died, conn, "its owner died with it, and a former one goes on from an old state");
  check(epoch > c.epoch || (epoch == c.epoch && node == c.owner), conn, "its ownership epoch did not grow");
  c.epoch = std::max(c.epoch, epoch);
  c.owner = node;
  c.given_up = false;
  c.longest_gap = std::max(c.longest_gap, now_() - c.silent_since);
  // A handoff whose donor is gone is over when the acceptor owns the connection.
  std::erase_if(windows_, [&](const Window& w) { return w.conn == conn && w.donor_died && w.acceptor == node; });
}

void Checker::silent(ConnNo conn) {
  --at(conn).live;
  at(conn).silent_since = now_();
}
void Checker::restored(ConnNo conn) { ++at(conn).sockets; }

void Checker::gone(ConnNo conn, uint16_t node, bool was_live, bool was_frozen, Cause cause) {
  Connection& c = at(conn);
  --c.sockets;
  if (was_live) --c.live;
  if (cause == Cause::closed) c.ended = true;
  const bool committed = std::any_of(windows_.begin(), windows_.end(), [&](const Window& w) { return w.conn == conn && w.donor == node && w.committed; });
  if (cause == Cause::machine_died && !c.ended && (was_live || (was_frozen && !committed))) c.owner_died = true;
  if (cause == Cause::daemon_died && !c.ended && was_live) c.owner_died = true;
  if (c.sockets != 0 || c.ended) return;
  c.ended = c.lost = true;
  ++lost_;
  trace_.add(now_(), "lost", conn);
  check(c.owner_died || c.given_up || cause == Cause::machine_died || excused(conn), conn, "lost, and no node that had a part in it died");
  std::erase_if(windows_, [&](const Window& w) { return w.conn == conn && w.donor_died; });
}

bool Checker::excused(ConnNo conn) const {
  return std::any_of(windows_.begin(), windows_.end(), [&](const Window& w) {
    return w.conn == conn && w.committed && (w.died || (w.unreachable && now_() - w.committed_at >= limits_.give_up));
  });
}

void Checker::consumed(ConnNo conn, uint64_t from, uint64_t to) {
  Connection& c = at(conn);
  check(from == c.consumed, conn, from < c.consumed ? "an application takes bytes that were taken before" : "bytes were lost on the way to an application");
  check(to <= c.client_sent, conn, "an application takes bytes that the client never sent");
  c.consumed = std::max(c.consumed, to);
  bytes_ += to - from;
}

void Checker::produced(ConnNo conn, uint64_t from, uint64_t to) {
  Connection& c = at(conn);
  check(from == c.produced, conn, "an application writes at a position that is not the stream's end");
  c.produced = std::max(c.produced, to);
}

void Checker::server_took_ack(ConnNo conn, uint64_t ack, uint64_t written) {
  check(ack <= written, conn, "a socket is acknowledged bytes it never had: it goes on from an old state");
}

void Checker::client_took(ConnNo conn, uint64_t to, uint64_t ack) {
  Connection& c = at(conn);
  check(to <= c.produced, conn, "the client takes bytes that no application wrote");
  check(ack <= c.client_sent, conn, "the client is acknowledged bytes it never sent");
  if (to > c.client_took) {
    bytes_ += to - c.client_took;
    c.client_took = to;
  }
}

Checker::Window* Checker::window(ConnNo conn, uint16_t donor, uint64_t xid) {
  const auto it = std::find_if(windows_.begin(), windows_.end(), [&](const Window& w) { return w.xid == xid && w.donor == donor && w.conn == conn; });
  return it == windows_.end() ? nullptr : &*it;
}

void Checker::handoff_started(ConnNo conn, uint16_t donor, uint64_t xid, uint16_t acceptor) {
  windows_.push_back({conn, donor, acceptor, xid, now_()});
}

void Checker::steered_away(ConnNo conn, uint16_t donor, uint64_t xid, bool acceptor_has_socket) {
  Window* w = window(conn, donor, xid);
  if (!w) return;
  w->committed = true;
  w->committed_at = now_();
  const bool acceptor_gave_up = now_() - w->started >= limits_.quiet_timeout - std::chrono::milliseconds(10);   // the donor was stopped in between
  check(acceptor_has_socket || w->died || w->restarted || acceptor_gave_up, conn, "steered to a node where its socket does not exist yet");
}

void Checker::retired(ConnNo conn, uint16_t donor, uint64_t xid) {
  const Window* w = window(conn, donor, xid);
  check(w && w->committed, conn, "the donor closes its socket before steering has switched");
}

void Checker::handoff_over(ConnNo conn, uint16_t donor, uint64_t xid, bool reported_moved, bool reported_lost, uint64_t epoch) {
  check(!reported_moved || at(conn).epoch >= epoch, conn, "reported moved, and it never came to life there");
  if (Window* w = window(conn, donor, xid)) {
    check(!reported_lost || excused(conn) || w->restarted, conn, "reported lost, and neither of its nodes died or was out of reach");
    at(conn).given_up |= reported_lost;
    windows_.erase(windows_.begin() + (w - windows_.data()));
  }
}

void Checker::node_died(uint16_t node) {
  for (Window& w : windows_) {
    if (w.donor == node || w.acceptor == node) w.died = true;
    if (w.donor == node) w.donor_died = true;
  }
  // A donor that died before it committed has no say in anything any more.
  std::erase_if(windows_, [&](const Window& w) { return w.donor == node && !w.committed; });
}

void Checker::daemon_died(uint16_t node) {
  for (Window& w : windows_)
    if (w.donor == node || w.acceptor == node) w.restarted = true;
  // A donor that died before it committed has no say in anything any more; what it had committed its next life asks for.
  std::erase_if(windows_, [&](const Window& w) { return w.donor == node && !w.committed; });
}

const Checker::Window* Checker::handoff(ConnNo conn, uint16_t donor, uint64_t xid) const {
  const auto it = std::find_if(windows_.begin(), windows_.end(), [&](const Window& w) { return w.xid == xid && w.donor == donor && w.conn == conn; });
  return it == windows_.end() ? nullptr : &*it;
}

void Checker::node_unreachable(uint16_t node) {
  for (Window& w : windows_)
    if (w.donor == node || w.acceptor == node) w.unreachable = true;
}

void Checker::link_unreachable(uint16_t a, uint16_t b) {
  for (Window& w : windows_)
    if ((w.donor == a && w.acceptor == b) || (w.donor == b && w.acceptor == a)) w.unreachable = true;
}

}  // namespace gecko::sim
