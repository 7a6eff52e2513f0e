// A thread that sleeps inside the library, so that somebody else can wake it: dup2 and close do not wake a thread in poll(), and a
// thread in poll() keeps the old socket alive. One eventfd per thread that ever blocks; closed when the thread ends.
#pragma once

#include <poll.h>

#include <mutex>
#include <optional>
#include <vector>

#include "base/clock.hh"

namespace gecko::api {

class Waiter {
 public:
  static Waiter& mine();           // the calling thread's
  Waiter() = default;
  ~Waiter();
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  // Sleeps until one of `fds` (revents are set), wake(), or the deadline. At most 3 descriptors.
  void sleep(pollfd* fds, size_t count, Time deadline);
  void wake() const;               // any thread, while the waiter is in a WaitList under that list's lock

 private:
  int fd_ = -1;                    // -1: the process had no descriptor left; sleep() then looks around every kBlindStep
};

// Who waits for what; the owner's mutex guards it. A key is the address of the thing that is waited for.
class WaitList {
 public:
  void add(Waiter& waiter, const void* key) { entries_.push_back({&waiter, key}); }
  void remove(Waiter& waiter);
  void wake_all() const;
  void wake_all(const void* key) const;
  void wake_one(const void* key) const;
  void wake_first() const { if (!entries_.empty()) entries_.front().waiter->wake(); }
  bool empty() const { return entries_.empty(); }

 private:
  struct Entry { Waiter* waiter; const void* key; };
  std::vector<Entry> entries_;
};

// A thread that waits, in a list of its own lock for as long as this lives.
class Registered {
 public:
  Registered(std::mutex& lock, WaitList& list, Waiter& waiter) : lock_(lock), list_(list), waiter_(waiter) {
    const std::lock_guard guard(lock_);
    list_.add(waiter_, nullptr);
  }
  ~Registered() {
    const std::lock_guard guard(lock_);
    list_.remove(waiter_);
  }
  Registered(const Registered&) = delete;
  Registered& operator=(const Registered&) = delete;

 private:
  std::mutex& lock_;
  WaitList& list_;
  Waiter& waiter_;
};

// After fork() the child has copies of our descriptors and locks but none of our threads: everything made before the fork is unusable
// there and says so. Grows by one in every child.
unsigned fork_generation();

// C deadlines: milliseconds, negative for ever.
Time deadline_after_ms(int timeout_ms);

// Restores errno when a call of ours ends: applications look at it after their own calls.
class ErrnoKeeper {
 public:
  ErrnoKeeper();
  ~ErrnoKeeper();
  ErrnoKeeper(const ErrnoKeeper&) = delete;
  ErrnoKeeper& operator=(const ErrnoKeeper&) = delete;

 private:
  int saved_;
};

}  // namespace gecko::api
