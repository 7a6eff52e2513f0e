// One machine of the group below its daemon: the kernel's sockets and steering table, and the application that serves the connections.
// What the daemon orders (freeze ... retire) is done at once; the daemon's model adds the time it takes.
#pragma once

#include <map>
#include <vector>

#include "base/clock.hh"
#include "sim/handoff/stream.hh"

namespace gecko::sim {

class World;

class Host {
 public:
  Host(World& world, uint16_t self) : world_(world), self_(self) {}

  // --- the daemon's orders
  void hold(ConnNo conn);                                  // its packets wait from now on
  // The journal (docs/adr/0011): outlives the daemon, not the machine.
  struct Given {
    uint64_t xid = 0, epoch = 0;                           // the new owner's
    uint16_t to = 0;
    enum State : uint8_t { frozen, committed, settled } state = frozen;
  };
  void note_given(ConnNo conn, const Given& given) { given_[conn] = given; }
  void mark_given(ConnNo conn, uint64_t xid, Given::State state);
  const std::map<ConnNo, Given>& given() const { return given_; }
  bool may_have_lived(ConnNo conn, uint64_t epoch) const;
  void daemon_starts();                                    // what its predecessor left half made
  std::vector<std::pair<ConnNo, uint64_t>> orphans() const;    // the application has let go of them, and they are frozen
  Result<wire::Bytes> freeze(ConnNo conn);                 // a live socket becomes silent; its positions
  void unhold(ConnNo conn);                                // freeze failed
  Status thaw(ConnNo conn, uint64_t epoch);
  void steer_away(ConnNo conn, uint16_t to, uint64_t epoch);   // held packets go there
  Status restore(ConnNo conn, uint16_t donor, uint64_t epoch, const wire::Bytes& tcp);   // a silent socket
  void unrestore(ConnNo conn, uint16_t donor, bool contact);   // it did not come: held packets go back
  Status activate(ConnNo conn, uint64_t epoch);
  void retire(ConnNo conn);                                // a frozen socket ends silently
  void hint(ConnNo conn, uint16_t owner, uint64_t epoch);
  // --- the application
  void open(ConnNo conn);                                  // a new connection, live here
  bool close(ConnNo conn);                                 // the application ends it; false: not its own now
  bool serves(ConnNo conn) const;                          // has it and has not let go
  AppState let_go(ConnNo conn);
  void give_back(ConnNo conn, uint64_t epoch = 0);         // 0: the epoch it had
  void forget(ConnNo conn) { apps_.erase(conn); }
  void deliver(ConnNo conn, uint64_t epoch, const AppState& state);
  std::vector<std::pair<ConnNo, uint64_t>> serving() const;    // with epochs: what it registers at a new daemon
  // --- the network
  void receive(Segment segment);
  // --- fate
  // The privileged half's rule, unless it died as well; then the application's.
  void daemon_died(bool both_halves);
  void machine_died();

  bool has_socket(ConnNo conn) const { return sockets_.contains(conn); }
  bool is_live(ConnNo conn) const;
  bool is_frozen(ConnNo conn) const;
  uint32_t segments_in(ConnNo conn) const;                 // 0: no socket

 private:
  struct Socket {
    enum State { live, frozen, restored } state = live;
    bool committing = false;                               // frozen, and ownership may have left
    Positions at;
    uint64_t epoch = 0;
    uint32_t segments_in = 0;
    Time frozen_at{};
    bool timer = false;
    Time resend_at{};
    Duration timeout{};
  };
  struct App {
    bool let_go = false, reading = false;
    uint64_t epoch = 0;
    AppState state;
  };
  struct Entry {
    enum State : uint8_t { none, mine, forward, holding } state = none;
    uint16_t node = 0;
    uint64_t epoch = 0;
    std::vector<Segment> held;
  };
  Entry& entry(ConnNo conn);
  void release(ConnNo conn, Entry::State state, uint16_t node, uint64_t epoch);
  void send_on(Segment segment, uint16_t to);
  void ask_for_owner(ConnNo conn);
  void to_socket(const Segment& segment);
  bool is_late(const Socket& socket) const;
  void take(ConnNo conn, Socket& socket, const Segment& segment);
  void transmit(ConnNo conn, Socket& socket, uint64_t from);
  void arm(ConnNo conn, Socket& socket);
  void on_timer(ConnNo conn);
  void wake(ConnNo conn);
  void read(ConnNo conn);
  void end_socket(ConnNo conn, int cause);

  World& world_;
  const uint16_t self_;
  std::map<ConnNo, Socket> sockets_;
  std::map<ConnNo, App> apps_;
  std::vector<Entry> entries_;
  struct Taken {
    uint16_t donor = 0;
    uint64_t epoch = 0;
    bool activated = false;
  };
  std::map<ConnNo, Given> given_;
  std::map<ConnNo, Taken> taken_;
};

}  // namespace gecko::sim
