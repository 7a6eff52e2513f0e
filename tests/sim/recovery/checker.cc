#include "sim/recovery/checker.hh"

#include <algorithm>

namespace gecko::sim {

void RecoveryChecker::violation(ConnNo conn, const std::string& what) {
  trace_.add(now_(), "VIOLATION", conn);
  if (violations_.size() >= 20) return;
  char head[64];
  std::snprintf(head, sizeof head, "at %.6f, connection %u: ", std::chrono::duration<double>(now_().time_since_epoch()).count(), conn);
  violations_.push_back(head + what);
}

ConnNo RecoveryChecker::open(uint64_t length) {
  const auto conn = static_cast<ConnNo>(connections_.size());
  connections_.emplace_back().script = Script(conn, length);
  return conn;
}

void RecoveryChecker::live(ConnNo conn, uint16_t node) {
  Connection& c = at(conn);
  check(std::ranges::find(c.live, node) == c.live.end(), conn, "comes to life where it lives");
  c.live.push_back(node);
  if (c.live.size() == 2) doubly_live_.push_back(conn);
}

void RecoveryChecker::silent(ConnNo conn, uint16_t node) {
  Connection& c = at(conn);
  std::erase(c.live, node);
  if (c.live.size() == 1) std::erase(doubly_live_, conn);
}

void RecoveryChecker::look(const std::function<bool(uint16_t)>& transmits) {
  ++checks_;
  for (const ConnNo conn : doubly_live_) {   // hardly ever any
    const auto& nodes = at(conn).live;
    if (std::ranges::count_if(nodes, transmits) > 1) return violation(conn, "two nodes may speak for it");
  }
}

void RecoveryChecker::leaves(uint16_t node, const Packet& packet) {
  Connection& c = at(packet.conn);
  check(std::ranges::find(c.live, node) != c.live.end(), packet.conn, "a node speaks for it that has no live socket");
  if (replicated_) {
    if (packet.ack > c.told) check(packet.ack <= c.safe, packet.conn, "acknowledged to the client before all backups have it");
    if (!packet.bytes.empty()) check(c.script.needed_for(packet.to()) <= c.safe, packet.conn, "output leaves before the backups have the input it depends on");
  }
  c.told = std::max(c.told, packet.ack);
}

void RecoveryChecker::kept(ConnNo conn, uint64_t offset) { at(conn).safe = std::max(at(conn).safe, offset); }

void RecoveryChecker::log_is(ConnNo conn, uint64_t begin, wire::ByteView bytes) {
  for (size_t i = 0; i < bytes.size(); ++i)
    if (bytes[i] != input_byte(conn, begin + i)) return violation(conn, "a backup's log has a wrong byte at " + std::to_string(begin + i));
  ++checks_;
}

void RecoveryChecker::reads(uint64_t offset, ConnNo conn, wire::ByteView bytes) {
  for (size_t i = 0; i < bytes.size(); ++i)
    if (bytes[i] != input_byte(conn, offset + i)) return violation(conn, "its program reads a wrong byte at " + std::to_string(offset + i));
  ++checks_;
}

void RecoveryChecker::recovered(ConnNo conn, uint64_t sent, uint64_t received, bool fin) {
  Connection& c = at(conn);
  check(sent == c.client_got, conn, "recovered with another send position than its client's");
  check(received + (fin ? 1 : 0) >= c.client_acked, conn, "recovered behind what its client had been told is received");
  check(received <= c.client_sent, conn, "recovered beyond what its client has sent");
}

void RecoveryChecker::client_takes(ConnNo conn, const Packet& packet) {
  Connection& c = at(conn);
  check(packet.ack <= c.client_sent + (c.client_sent == c.script.length ? 1 : 0), conn, "its client is told of bytes that it has not sent");
  c.client_acked = std::max(c.client_acked, packet.ack);
  for (uint64_t i = packet.from; i < packet.to(); ++i) {
    ++checks_;
    if (i >= c.script.output.size() || packet.bytes[i - packet.from] != c.script.output[i])
      return violation(conn, "its client gets a wrong byte at " + std::to_string(i) + " of " + std::to_string(c.script.output.size()));
  }
}

void RecoveryChecker::client_has(ConnNo conn, uint64_t got) {
  Connection& c = at(conn);
  check(got >= c.client_got, conn, "its client loses what it had");
  bytes_ += got - c.client_got;
  c.client_got = got;
}

void RecoveryChecker::client_reset(ConnNo conn) {
  Connection& c = at(conn);
  if (c.ended) return;
  c.ended = c.lost = true;
  ++lost_;
  check(may_lose_ || c.excused || (c.client_acked == 0 && c.client_got == 0), conn, "lost, although its client had been told of its bytes");
}

}  // namespace gecko::sim
