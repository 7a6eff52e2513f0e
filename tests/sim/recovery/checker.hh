// What must be true of every connection of a group that recovers, whatever happens to it (promises 1, 2, 4 and 5; docs/adr/0020, 0026). It sees the
// model's kernels, programs, clients and what the backups really hold, and is told nothing by the machines under test.
//
//   one speaker    at every instant at most one node has a live socket of a connection and a lease
//   safe first     replicated: an acknowledgement leaves only when every designated backup has had those bytes, output only when they have had what
//                  it depends on
//   every byte     programs read what their client has sent, from their checkpoint on without a gap; clients get every byte of output once, in order
//   exact          a recovered socket stands where its client stands
//   not lost       while no more than k nodes die before all is protected again, a connection ends only if its client had been told of nothing
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/clock.hh"
#include "sim/engine/trace.hh"
#include "sim/recovery/stream.hh"

namespace gecko::sim {

class RecoveryChecker {
 public:
  RecoveryChecker(Trace& trace, std::function<Time()> now, bool replicated) : trace_(trace), now_(std::move(now)), replicated_(replicated) {}

  struct Connection {
    Script script;
    std::vector<uint16_t> live;              // nodes with a live socket
    uint64_t safe = 0;                       // input that all who were designated at one time have had; a FIN counts
    uint64_t told = 0;                       // acknowledged to the client: as it left a node
    uint64_t client_sent = 0, client_acked = 0, client_got = 0;
    bool ended = false, lost = false;
    bool excused = false;                    // its heir was a newcomer that had not been told of it: docs/guarantees.md
  };
  ConnNo open(uint64_t length);
  Connection& at(ConnNo conn) { return connections_[conn]; }
  const std::vector<Connection>& connections() const { return connections_; }

  // Kernels and programs.
  void live(ConnNo conn, uint16_t node);
  void silent(ConnNo conn, uint16_t node);
  void leaves(uint16_t node, const Packet& packet);          // past the gate
  void reads(uint64_t offset, ConnNo conn, wire::ByteView bytes);
  void recovered(ConnNo conn, uint64_t sent, uint64_t received, bool fin);
  void kept(ConnNo conn, uint64_t offset);                   // all designated backups have had that
  void log_is(ConnNo conn, uint64_t begin, wire::ByteView bytes);
  // Clients.
  void client_takes(ConnNo conn, const Packet& packet);      // from its network
  void client_has(ConnNo conn, uint64_t got);                // without a hole
  void client_reset(ConnNo conn);
  void ended(ConnNo conn) { at(conn).ended = true; }
  // After every step.
  void look(const std::function<bool(uint16_t)>& transmits);

  void excuse(ConnNo conn) { at(conn).excused = true; }
  uint64_t excused() const { return static_cast<uint64_t>(std::ranges::count_if(connections_, &Connection::excused)); }
  void may_lose(bool is) { may_lose_ = is; }
  bool may_lose() const { return may_lose_; }
  void violation(ConnNo conn, const std::string& what);
  const std::vector<std::string>& violations() const { return violations_; }
  uint64_t checks() const { return checks_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t lost() const { return lost_; }

 private:
  void check(bool ok, ConnNo conn, const char* what) {
    ++checks_;
    if (!ok) violation(conn, what);
  }

  Trace& trace_;
  std::function<Time()> now_;
  const bool replicated_;
  bool may_lose_ = false;
  std::vector<Connection> connections_;
  std::vector<ConnNo> doubly_live_;
  std::vector<std::string> violations_;
  uint64_t checks_ = 0, bytes_ = 0, lost_ = 0;
};

}  // namespace gecko::sim
