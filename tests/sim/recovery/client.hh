// All clients of the group: each writes its numbered bytes and a FIN, sends again what is not acknowledged, takes its output in order, and remembers
// what it was told. It answers a segment that brings nothing new with where it stands, as every TCP does (RFC 9293, 3.10.7.4).
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "sim/engine/event_queue.hh"
#include "sim/engine/random.hh"
#include "sim/recovery/checker.hh"

namespace gecko::sim {

class RecoveryClients {
 public:
  RecoveryClients(EventQueue& queue, Random random, RecoveryChecker& checker) : queue_(queue), random_(random), checker_(checker) {}

  std::function<void(const Packet&)> transmit;   // towards the group address

  void open(ConnNo conn);
  void receive(const Packet& packet);            // its network has brought it
  void probed(ConnNo conn, uint64_t acked);      // with the byte before that
  bool done(ConnNo conn) const;                  // all is said, acknowledged and heard
  std::string unfinished(ConnNo conn) const;
  bool all_acked(ConnNo conn) const;             // it only waits, and asks nobody

 private:
  struct Client {
    uint64_t written = 0, acked = 0, got = 0;
    std::map<uint64_t, uint64_t> behind;         // ranges beyond a hole
    bool reports_again = true;                   // RFC 2883: most do
    bool timer = false, over = false;
    Time resend_at{};
    Duration timeout{};
  };
  void write(ConnNo conn);
  void send(ConnNo conn, uint64_t from);
  void arm(ConnNo conn);
  void on_timer(ConnNo conn);
  uint64_t length(ConnNo conn) const { return checker_.connections()[conn].script.length; }
  Packet here(ConnNo conn) const;

  EventQueue& queue_;
  Random random_;
  RecoveryChecker& checker_;
  std::vector<Client> clients_;
};

}  // namespace gecko::sim
