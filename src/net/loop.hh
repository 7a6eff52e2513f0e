// One process, one epoll loop, callbacks (docs/adr/0002: no coroutines on this compiler). A callback may add and remove
// any watch or timer, its own included. Not thread-safe: everything happens on the thread that calls run().
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/clock.hh"
#include "base/fd.hh"
#include "base/result.hh"

namespace gecko::net {

class Loop {
 public:
  using Callback = std::function<void(uint32_t epoll_events)>;
  using TimerId = uint64_t;

  Loop();
  // The loop borrows `fd`: unwatch before closing it.
  Status watch(int fd, uint32_t epoll_events, Callback callback);
  Status change(int fd, uint32_t epoll_events);
  void unwatch(int fd);
  TimerId at(Time when, std::function<void()> callback);   // once
  void cancel(TimerId id);                                 // unknown or fired: nothing happens
  // Runs after the current batch of callbacks, before the loop sleeps: for flushing what a batch has written.
  void defer(std::function<void()> callback);
  // While `until` is in the future the loop polls without sleeping (a handoff in flight: a sleep costs 18 us to wake).
  void spin_until(Time until);
  void run();                                              // until stop()
  // One round: waits at most `timeout` for events, runs what is due.
  void run_once(Duration timeout);
  void stop();
  Time now() const { return now_; }                        // start of the current batch

 private:
  struct Watch;
  void fire_timers();
  void run_deferred();
  Fd epoll_;
  std::unordered_map<int, std::shared_ptr<Watch>> watches_;
  std::multimap<Time, std::pair<TimerId, std::function<void()>>> timers_;
  std::unordered_map<TimerId, Time> timer_times_;
  std::vector<std::function<void()>> deferred_;
  TimerId next_timer_ = 1;
  Time now_;
  Time spin_until_{};
  bool stopped_ = false;
};

}  // namespace gecko::net
