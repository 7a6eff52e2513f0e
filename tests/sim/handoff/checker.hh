// What must be true of every connection whatever happens to the group (docs/design promises 1, 3, 4). It sees everything and is told by
// nobody but the model's kernels, applications and clients, never by the engines under test.
//
//   one owner     at most one live socket per connection, at every instant; ownership epochs grow
//   every byte    applications take each byte once and in order, whichever node they run on; so do clients
//   no reset      no socket answers for bytes it never had, none is steered to where there is none
//   not lost      the last socket of a connection goes only with a machine that died, with a daemon that died between the connection's coming
//                 to life and its application's getting it, or with a handoff that was past the point of no return when one of its two
//                 machines died or was unreachable for as long as the protocol promises to wait
//   not undead    a connection that has ended does not come back
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/clock.hh"
#include "core/handoff.hh"
#include "sim/engine/trace.hh"
#include "sim/handoff/stream.hh"

namespace gecko::sim {

class Checker {
 public:
  Checker(Trace& trace, std::function<Time()> now, core::HandoffLimits limits) : trace_(trace), now_(std::move(now)), limits_(limits) {}

  // Sockets.
  void born(ConnNo conn, uint16_t node);
  void live(ConnNo conn, uint16_t node, uint64_t epoch);       // restored or frozen -> live
  void silent(ConnNo conn);                                    // live -> frozen
  void restored(ConnNo conn);                                  // a new, silent socket
  enum class Cause { closed, engine, daemon_died, machine_died };
  void gone(ConnNo conn, uint16_t node, bool was_live, bool was_frozen, Cause cause);
  // Streams.
  void consumed(ConnNo conn, uint64_t from, uint64_t to);      // by an application
  void produced(ConnNo conn, uint64_t from, uint64_t to);
  void client_has_sent(ConnNo conn, uint64_t to) { at(conn).client_sent = to; }
  void server_took_ack(ConnNo conn, uint64_t ack, uint64_t written);
  void client_took(ConnNo conn, uint64_t to, uint64_t ack);
  // Handoffs, as the model's steering tables and processes see them.
  void handoff_started(ConnNo conn, uint16_t donor, uint64_t xid, uint16_t acceptor);
  void steered_away(ConnNo conn, uint16_t donor, uint64_t xid, bool acceptor_has_socket);
  void retired(ConnNo conn, uint16_t donor, uint64_t xid);
  void handoff_over(ConnNo conn, uint16_t donor, uint64_t xid, bool reported_moved, bool reported_lost, uint64_t epoch);
  void node_died(uint16_t node);                               // with its machine
  void daemon_died(uint16_t node);                             // one or both halves; the kernel and the applications live
  void node_unreachable(uint16_t node);                        // stopped
  void link_unreachable(uint16_t a, uint16_t b);               // cut
  void violation(ConnNo conn, const std::string& what);

  struct Connection {
    bool born = false, ended = false, lost = false;
    uint32_t sockets = 0, live = 0;
    uint64_t epoch = 0;
    uint16_t owner = 0;
    bool owner_died = false;                 // with a machine, or between coming to life and an application; nobody else may have it now
    bool given_up = false;                   // its donor has, for good reason: it may still come to life at the acceptor
    Time silent_since{};
    Duration longest_gap{};                  // without a live socket
    uint64_t consumed = 0, produced = 0, client_sent = 0, client_took = 0;
  };
  const Connection& connection(ConnNo conn) const { return connections_[conn]; }
  const std::vector<std::string>& violations() const { return violations_; }
  uint64_t lost() const { return lost_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t checks() const { return checks_; }

  struct Window {                            // a handoff, from start to report
    ConnNo conn;
    uint16_t donor, acceptor;
    uint64_t xid;
    Time started, committed_at{};
    bool committed = false, died = false, donor_died = false, unreachable = false;
    bool restarted = false;                  // a daemon of one of them died
  };
  const Window* handoff(ConnNo conn, uint16_t donor, uint64_t xid) const;

 private:
  Connection& at(ConnNo conn);
  Window* window(ConnNo conn, uint16_t donor, uint64_t xid);
  bool excused(ConnNo conn) const;
  void check(bool ok, ConnNo conn, const char* what);

  Trace& trace_;
  std::function<Time()> now_;
  const core::HandoffLimits limits_;
  std::vector<Connection> connections_;
  std::vector<Window> windows_;
  std::vector<std::string> violations_;
  uint64_t lost_ = 0, bytes_ = 0, checks_ = 0;
};

}  // namespace gecko::sim
