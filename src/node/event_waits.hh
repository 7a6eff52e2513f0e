// Followers of the event stream (docs/adr/0024): each asks for what came after the last event it knows, and the answer waits until there is something.
// Nothing is queued for anybody: who is slow asks late, and finds in the numbers what it has missed. Runs on geckod's loop.
#pragma once

#include <memory>

#include "net/loop.hh"
#include "node/events.hh"

namespace gecko::node {

class EventWaits {
 public:
  static constexpr size_t kMost = 64, kMostOfOne = 16;   // of one user that is not root

  EventWaits(net::Loop& loop, Events& events) : loop_(loop), events_(events) {}
  ~EventWaits() { *alive_ = false; }

  // `then`, once and later: soon after there is an event, or when `at_most` has passed. Errors: busy (too many wait already).
  Status wait(uint32_t uid, Duration at_most, std::function<void()> then);

 private:
  struct Waiting {
    uint32_t uid;
    std::function<void()> then;
  };
  void tell_all();
  net::Loop& loop_;
  Events& events_;
  std::map<net::Loop::TimerId, Waiting> waiting_;   // by the timer that ends its patience
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gecko::node
