#include "sim/recovery/client.hh"

#include <algorithm>

namespace gecko::sim {

using namespace std::chrono_literals;

namespace {
constexpr uint64_t kMostUnacked = 400, kSegment = 60;
constexpr Duration kFirstTimeout = 60ms, kLastTimeout = 500ms;
}  // namespace

void RecoveryClients::open(ConnNo conn) {
  if (conn >= clients_.size()) clients_.resize(conn + 1);
  clients_[conn].timeout = kFirstTimeout;
  clients_[conn].reports_again = random_.chance(0.8);
  write(conn);
}

Packet RecoveryClients::here(ConnNo conn) const {
  const Client& c = clients_[conn];
  Packet p;
  p.conn = conn;
  p.from = c.written + (c.written == length(conn) ? 1 : 0);   // behind its FIN
  p.ack = c.got;
  return p;
}

void RecoveryClients::write(ConnNo conn) {
  Client& c = clients_[conn];
  if (c.over) return;
  if (c.written - std::min(c.acked, c.written) < kMostUnacked) {
    const uint64_t from = c.written;
    c.written = std::min(length(conn), c.written + 1 + random_.below(random_.chance(0.1) ? 200 : 30));
    checker_.at(conn).client_sent = c.written;
    send(conn, from);
  }
  if (c.written < length(conn)) queue_.at(queue_.now() + random_.between(1ms, random_.chance(0.1) ? 300ms : 40ms), [this, conn] { write(conn); });
}

// What is on its way, or all that is not acknowledged: a FIN ends the last one.
void RecoveryClients::send(ConnNo conn, uint64_t from) {
  const Client& c = clients_[conn];
  do {
    Packet p = here(conn);
    p.from = from;
    const uint64_t to = std::min(c.written, from + kSegment);
    for (; from < to; ++from) p.bytes.push_back(input_byte(conn, from));
    p.fin = to == length(conn);
    transmit(p);
  } while (from < c.written);
  arm(conn);
}

bool RecoveryClients::all_acked(ConnNo conn) const {
  const Client& c = clients_[conn];
  return c.acked >= c.written + (c.written == length(conn) ? 1 : 0);
}

void RecoveryClients::arm(ConnNo conn) {
  Client& c = clients_[conn];
  if (std::exchange(c.timer, true)) return;
  c.resend_at = queue_.now() + c.timeout;
  queue_.at(c.resend_at, [this, conn] { on_timer(conn); });
}

void RecoveryClients::on_timer(ConnNo conn) {
  Client& c = clients_[conn];
  c.timer = false;
  if (c.over || all_acked(conn)) return;
  if (queue_.now() >= c.resend_at) {
    c.timeout = std::min(c.timeout * 2, kLastTimeout);
    c.resend_at = queue_.now() + c.timeout;
    send(conn, std::min(c.acked, c.written));
  }
  if (!std::exchange(c.timer, true)) queue_.at(c.resend_at, [this, conn] { on_timer(conn); });
}

void RecoveryClients::receive(const Packet& p) {
  Client& c = clients_[p.conn];
  if (c.over) return;
  if (p.reset) {
    c.over = true;
    return checker_.client_reset(p.conn);
  }
  checker_.client_takes(p.conn, p);
  if (p.ack > c.acked) {
    c.acked = p.ack;
    c.timeout = kFirstTimeout;
    c.resend_at = queue_.now() + c.timeout;
  }
  if (p.bytes.empty()) return;
  Packet answer = here(p.conn);
  if (p.to() <= c.got && c.reports_again) answer.again_from = p.from, answer.again_to = p.to();
  // What comes behind a hole is kept: when the hole is filled, all of it is acknowledged (docs/adr/0030).
  uint64_t& end = c.behind[p.from];
  end = std::max(end, p.to());
  for (auto it = c.behind.begin(); it != c.behind.end() && it->first <= c.got; it = c.behind.erase(it)) c.got = std::max(c.got, it->second);
  checker_.client_has(p.conn, c.got);
  answer.ack = c.got;
  transmit(answer);
}

void RecoveryClients::probed(ConnNo conn, uint64_t acked) {
  if (clients_[conn].over) return;
  Packet answer = here(conn);
  if (clients_[conn].reports_again) answer.again_from = acked - 1, answer.again_to = acked;
  transmit(answer);
}

bool RecoveryClients::done(ConnNo conn) const { return unfinished(conn).empty(); }

std::string RecoveryClients::unfinished(ConnNo conn) const {
  const Client& c = clients_[conn];
  const uint64_t all = length(conn), output = checker_.connections()[conn].script.output.size();
  if (c.over) return "";
  if (c.acked <= all) return "its client has had " + std::to_string(c.acked) + " of " + std::to_string(all) + " bytes and a FIN acknowledged";
  if (c.got < output) return "its client has got " + std::to_string(c.got) + " of " + std::to_string(output) + " bytes";
  return "";
}

}  // namespace gecko::sim
