#include "sim/handoff/client.hh"

namespace gecko::sim {

namespace {
constexpr uint64_t kWindow = 64;                                   // unacknowledged bytes
constexpr Duration kFirstTimeout = std::chrono::milliseconds(200);  // Linux: TCP_RTO_MIN
constexpr Duration kLastTimeout = std::chrono::seconds(2);
}  // namespace

void Clients::open(ConnNo conn) {
  if (conn >= clients_.size()) clients_.resize(conn + 1);
  clients_[conn].open = true;
  clients_[conn].timeout = kFirstTimeout;
  ask(conn);
}

void Clients::ask(ConnNo conn) {
  Client& c = clients_[conn];
  if (!asking_ || checker_.connection(conn).ended) return;
  if (c.sent - c.acked < kWindow) {
    const uint64_t from = c.sent;
    c.sent += 1 + random_.below(3);
    checker_.client_has_sent(conn, c.sent);
    transmit({conn, from, c.sent, c.received, 0});
    arm(conn);
  }
  queue_.at(queue_.now() + random_.between(pause_ / 2, pause_ * 3 / 2), [this, conn] { ask(conn); });
}

void Clients::receive(const Segment& s) {
  Client& c = clients_[s.conn];
  checker_.client_took(s.conn, s.from <= c.received ? s.to : 0, s.ack);
  if (s.ack > c.acked) {
    c.acked = std::min(s.ack, c.sent);
    c.timeout = kFirstTimeout;
    c.resend_at = queue_.now() + c.timeout;
  }
  if (s.to > s.from) {
    if (s.from <= c.received && s.to > c.received) c.received = s.to;
    transmit({s.conn, c.sent, c.sent, c.received, 0});
  }
}

void Clients::arm(ConnNo conn) {
  Client& c = clients_[conn];
  if (c.timer) return;
  c.timer = true;
  c.resend_at = queue_.now() + c.timeout;
  queue_.at(c.resend_at, [this, conn] { on_timer(conn); });
}

void Clients::on_timer(ConnNo conn) {
  Client& c = clients_[conn];
  c.timer = false;
  if (c.acked == c.sent || checker_.connection(conn).ended) return;
  if (queue_.now() >= c.resend_at) {
    transmit({conn, c.acked, c.sent, c.received, 0});
    c.timeout = std::min(c.timeout * 2, kLastTimeout);
    c.resend_at = queue_.now() + c.timeout;
  }
  c.timer = true;
  queue_.at(c.resend_at, [this, conn] { on_timer(conn); });
}

std::string Clients::unfinished(ConnNo conn) const {
  const Client& c = clients_[conn];
  const auto& truth = checker_.connection(conn);
  if (c.acked != c.sent) return "the client has " + std::to_string(c.sent - c.acked) + " bytes unacknowledged";
  if (truth.consumed != c.sent) return "the application has not taken " + std::to_string(c.sent - truth.consumed) + " bytes";
  if (c.received != truth.produced) return "the client misses " + std::to_string(truth.produced - c.received) + " bytes";
  return "";
}

}  // namespace gecko::sim
