// One machine of the group above and below its geckod: the kernel's sockets, the gate (what may leave, and which acknowledgement), and the program
// that serves the connections through the library (docs/adr/0026): what it reads is told to geckod first, what it writes waits until that is stable,
// what its client has already is swallowed after a recovery.
#pragma once

#include <map>
#include <optional>

#include "base/clock.hh"
#include "core/replica.hh"
#include "sim/recovery/stream.hh"

namespace gecko::sim {

class RecoveryWorld;

class Server {
 public:
  Server(RecoveryWorld& world, uint16_t self) : world_(world), self_(self) {}

  // A socket's positions, and bytes that wait in it: what geckod reads from the gate, and what a restored one begins with.
  struct Stands {
    uint64_t received = 0;                           // in order, by its kernel; ...
    bool fin = false;                                // ... and the FIN
    uint64_t told = 0;                               // acknowledged to the client; a FIN counts
    uint64_t sent = 0, acked = 0;                    // written into it, acknowledged by the client
    wire::Bytes unread, unacked;
    GECKO_FIELDS(received, fin, told, sent, acked, wire::limited<1u << 20>(unread), wire::limited<1u << 20>(unacked))
  };
  // --- a client's new connection
  void open(ConnNo conn);
  // --- geckod's orders
  void restore(ConnNo conn, const Stands& at, uint64_t watermark);   // a silent socket
  void activate(ConnNo conn);
  void destroy(ConnNo conn);                         // silently
  Stands freeze(ConnNo conn);                        // a live one becomes silent
  void thaw(ConnNo conn);
  void stable(ConnNo conn, uint64_t offset);         // the gate's watermark; a FIN counts. Moves on only
  void unclamp(ConnNo conn);
  // The program gets the socket, with its state at the output that it had produced. Output below what its client has is swallowed.
  void deliver(ConnNo conn, const Program& program);
  std::optional<Program> let_go(ConnNo conn);        // the library gives it back; nothing: its program is in the middle of a call
  bool has(ConnNo conn) const { return sockets_.contains(conn); }
  bool is_live(ConnNo conn) const;
  Stands stands(ConnNo conn) const;
  std::vector<ConnNo> all() const;
  // --- the network, fate
  bool receive(const Packet& packet);                // false: no such socket
  void machine_died();

 private:
  struct Socket {
    bool live = false;
    Stands at;                                       // unread and unacked: the two queues
    std::optional<uint64_t> watermark;               // clamped: nothing beyond it is acknowledged
    bool timer = false;
    Time resend_at{};
    Duration timeout{};
  };
  struct App {
    Program program;
    uint64_t skip_to = 0;                            // output before that has reached the client
    bool in_call = false;
    wire::Bytes output;                              // waits to be written
  };
  void say(ConnNo conn, Socket& socket, uint64_t from, bool even_nothing);
  void arm(ConnNo conn, Socket& socket);
  void on_timer(ConnNo conn);
  void wake(ConnNo conn);
  void read(ConnNo conn);
  void write(ConnNo conn);
  uint64_t acknowledgement(const Socket& socket) const;

  RecoveryWorld& world_;
  const uint16_t self_;
  std::map<ConnNo, Socket> sockets_;
  std::map<ConnNo, App> apps_;
};

}  // namespace gecko::sim
