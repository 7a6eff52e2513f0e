// All clients of the group: each sends numbered requests on its connection and takes the answers, and knows nothing of nodes.
#pragma once

#include <functional>
#include <vector>

#include "sim/engine/event_queue.hh"
#include "sim/engine/random.hh"
#include "sim/handoff/checker.hh"

namespace gecko::sim {

class Clients {
 public:
  Clients(EventQueue& queue, Random random, Checker& checker, Duration pause_between_requests)
      : queue_(queue), random_(random), checker_(checker), pause_(pause_between_requests) {}

  std::function<void(const Segment&)> transmit;   // towards the group address

  void open(ConnNo conn);
  void receive(const Segment& segment);
  void set_pause(Duration between_requests) { pause_ = between_requests; }
  void stop_asking() { asking_ = false; }
  // Empty: everything sent is acknowledged, and everything acknowledged to the server was received.
  std::string unfinished(ConnNo conn) const;

 private:
  struct Client {
    bool open = false;
    uint64_t sent = 0, acked = 0, received = 0;
    Time resend_at = Time::max();
    bool timer = false;
    Duration timeout{};
  };
  void ask(ConnNo conn);
  void arm(ConnNo conn);
  void on_timer(ConnNo conn);

  EventQueue& queue_;
  Random random_;
  Checker& checker_;
  Duration pause_;
  bool asking_ = true;
  std::vector<Client> clients_;
};

}  // namespace gecko::sim
