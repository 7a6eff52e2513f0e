// One process, one epoll loop, callbacks (docs/adr/0002: no coroutines on this compiler). A callback may add and remove
// any watch or timer, its own included. Not thread-safe: everything happens on the thread that calls run().
//
// One round: wait, callbacks of ready descriptors, due timers, deferred work. Callbacks must not block. A wake-up can be
// spurious (another callback of the batch has already read the data): descriptors must be non-blocking.
// System calls used after construction (for seccomp): epoll_ctl, epoll_pwait2, epoll_wait, sched_yield, clock_gettime, clock_nanosleep.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.hh"
#include "base/fd.hh"
#include "base/result.hh"

struct epoll_event;

namespace gecko::net {

class Loop {
 public:
  using Callback = std::function<void(uint32_t epoll_events)>;
  using TimerId = uint64_t;  // never 0, never used again

  Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  // The loop borrows `fd`: unwatch before closing it. Errors: exists (watched already), unsupported (a regular file), limit.
  Status watch(int fd, uint32_t epoll_events, Callback callback);
  Status change(int fd, uint32_t epoll_events);            // not_found: not watched
  void unwatch(int fd);                                    // not watched: nothing happens
  TimerId at(Time when, std::function<void()> callback);   // once; in the past: in the next round
  void cancel(TimerId id);                                 // unknown or fired: nothing happens
  // Runs after the current batch of callbacks, before the loop sleeps: for flushing what a batch has written.
  // Work deferred by deferred work runs in the next round, which then does not sleep.
  void defer(std::function<void()> callback);
  // Runs as soon as the callback that is running now returns: before anything else is read, and before what defer() was given.
  void defer_first(std::function<void()> callback);
  // While `until` is in the future the loop polls without sleeping (a handoff in flight: a sleep costs 18 us to wake).
  // It yields the CPU between empty polls, so that a peer on the same CPU gets on. On a crowded machine that gives the CPU away for a
  // whole time slice (3 ms measured, against 18 us for a sleep): a yield that takes long ends polling for a second.
  void spin_until(Time until);
  void run();                                              // until stop()
  // One round: waits at most `timeout` for events (zero or less: not at all), runs what is due.
  void run_once(Duration timeout);
  void stop();
  Time now() const { return now_; }                        // start of the current batch
  size_t watched() const { return watches_.size(); }

 private:
  struct Watch {
    Callback callback;
    uint32_t generation = 0;  // a descriptor number closed and reused within one batch must not get the old one's events
  };
  int wait(Time deadline, bool forever, epoll_event* events, int max_events);
  void fire_timers();
  void run_first();
  void run_deferred();
  Fd epoll_;
  int create_errno_ = 0;  // epoll_create1 failed: said by watch()
  std::unordered_map<int, std::shared_ptr<Watch>> watches_;
  std::map<std::pair<Time, TimerId>, std::function<void()>> timers_;
  std::unordered_map<TimerId, Time> timer_times_;
  std::vector<std::function<void()>> deferred_first_, deferred_;
  TimerId next_timer_ = 1;
  uint32_t next_generation_ = 1;
  Time now_;
  Time spin_until_{}, crowded_until_{};
  bool stopped_ = false;
};

}  // namespace gecko::net
