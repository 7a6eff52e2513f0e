// A whole simulated group with its clients: the parts, and what can be done to them from outside (workload, faults, kill points).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sim/engine/machines.hh"
#include "sim/engine/network.hh"
#include "sim/engine/random.hh"
#include "sim/engine/trace.hh"
#include "sim/handoff/checker.hh"
#include "sim/handoff/client.hh"
#include "sim/handoff/host.hh"
#include "sim/handoff/node.hh"
#include "sim/handoff/settings.hh"

namespace gecko::sim {

class World {
 public:
  World(uint64_t seed, const Settings& settings, bool print_trace);

  // --- workload
  ConnNo open(uint16_t node);                              // a client's new connection, accepted there
  std::vector<ConnNo> open_connections() const;
  bool hand_off(ConnNo conn, uint16_t target, bool by_application);   // from where it is; false: not possible now
  bool close(ConnNo conn);
  size_t in_flight() const;                                // handoffs
  bool takes_part(uint16_t node) const;                    // in a handoff
  // --- faults
  void kill_machine(uint16_t node);
  void start_machine(uint16_t node);                       // and its daemon
  void kill_daemon(uint16_t node, bool both_halves = false);
  void start_daemon(uint16_t node);
  void stop(uint16_t node, Part part);
  void resume(uint16_t node, Part part) { machines.resume(node, part); }
  void cut(uint16_t a, uint16_t b);
  void heal_everything();
  // --- the end: no more handoffs and faults; what is left must come to rest
  void settle();

  Time now() const { return queue.now(); }
  void run_for(Duration time) { queue.run_until(queue.now() + time); }
  uint16_t contact() const { return contact_; }
  Host& host(uint16_t n) { return *hosts_[n]; }
  Node& node(uint16_t n) { return *nodes_[n]; }
  void send(uint16_t from, uint16_t to, core::LinkMessage message);
  void to_client(uint16_t node, const Segment& segment);

  const Settings settings;
  std::string fails_once = settings.fails_once;   // emptied when it has
  EventQueue queue;
  Random random;
  Trace trace;
  Machines machines;
  Network network;
  Checker checker;
  Clients clients;
  struct Counts {
    uint64_t started = 0, moved = 0, stayed = 0, reported_lost = 0;
    uint64_t spoiled = 0;  // moves whose donor took a segment after its state had been read
    uint64_t strays = 0;   // packets of living connections, forwarded to a node that knows nothing of them
  } counts;
  // Kill points: every message that was sent, in order.
  struct Sent {
    uint16_t from, to;
    core::LinkMessage message;
  };
  bool record = false;
  std::vector<Sent> sent;

 private:
  void to_group(const Segment& segment);
  void choose_contact();

  std::vector<std::unique_ptr<Host>> hosts_;
  std::vector<std::unique_ptr<Node>> nodes_;
  uint16_t contact_ = 0;
  uint64_t next_incarnation_;
  ConnNo next_conn_ = 0;
};

}  // namespace gecko::sim
