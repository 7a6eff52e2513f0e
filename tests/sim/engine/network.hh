// The network of a simulated group. Between two daemons a link: a stream in order, over which sessions come and go; each end learns of a
// session's end by itself and maybe late. Between two kernels datagrams: lost when the path is cut.
//
// A cut holds what is under way. Heal it before an end has noticed and everything arrives late (TCP sent it again); after that the session
// is over and what it carried is lost.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <vector>

#include "sim/engine/machines.hh"
#include "sim/engine/random.hh"

namespace gecko::sim {

struct NetworkShape {
  Duration delay_min = std::chrono::microseconds(50), delay_max = std::chrono::microseconds(200);
  Duration detect_min = std::chrono::milliseconds(50), detect_max = std::chrono::milliseconds(1000);   // until an end notices a dead session
  Duration connect_min = std::chrono::milliseconds(1), connect_max = std::chrono::milliseconds(50);    // until a new one stands
};

class Network {
 public:
  Network(EventQueue& queue, Machines& machines, Random random, NetworkShape shape);

  std::function<void(uint16_t node, uint16_t peer)> on_up, on_down;   // in the node's daemon

  void start();                                               // first sessions
  void send(uint16_t from, uint16_t to, const char* what, Task deliver);   // on the session `from` knows; runs in `to`'s daemon
  void packet(uint16_t from, uint16_t to, Task deliver);      // runs in `to`'s kernel
  bool link_up(uint16_t node, uint16_t peer) const { return pair(node, peer).known[node > peer] != 0; }  // as `node` sees it

  void cut(uint16_t a, uint16_t b);
  void heal(uint16_t a, uint16_t b);
  bool is_cut(uint16_t a, uint16_t b) const { return pair(a, b).cut; }
  void reset(uint16_t a, uint16_t b);                         // the session breaks, the path is fine
  void daemon_died(uint16_t node, bool with_its_kernel);      // a living kernel says so for it
  void daemon_started(uint16_t node);

 private:
  struct Message {
    const char* what = "";
    Task deliver;
  };
  struct Pair {
    uint16_t low = 0, high = 0;
    bool cut = false, connecting = false;
    uint64_t session = 0, cuts = 0;          // 0: none
    uint64_t known[2] = {0, 0};              // the session each end believes in; [0]: low
    Time floor[2] = {};                      // order: nothing to that end arrives before
    std::array<std::deque<Message>, 2> line;   // to low, to high: sent and not arrived
    std::array<size_t, 2> stalled{};           // of these, how many would have arrived while it was cut
  };
  Pair& pair(uint16_t a, uint16_t b) { return pairs_[index(a, b)]; }
  const Pair& pair(uint16_t a, uint16_t b) const { return pairs_[index(a, b)]; }
  size_t index(uint16_t a, uint16_t b) const { return size_t{std::min(a, b)} * machines_.count() + std::max(a, b); }
  Duration delay() { return random_.between(shape_.delay_min, shape_.delay_max); }
  void carry(Pair& pair, bool to_high, uint64_t session, const char* what, Task deliver);
  void arrive_later(Pair& pair, bool to_high, uint64_t session);
  void end_session(Pair& pair);
  void notice(Pair& pair, bool high, uint64_t session, Duration after);
  void connect(Pair& pair);

  EventQueue& queue_;
  Machines& machines_;
  Random random_;
  const NetworkShape shape_;
  std::vector<Pair> pairs_;
  uint64_t next_session_ = 1;
};

}  // namespace gecko::sim
