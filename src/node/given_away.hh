// What this node has handed off lately, as a backup would have it that was told everything: if its new owner dies before anybody has a mirror of it
// there, this node reclaims it (docs/adr/0032). Bounded in time and bytes; what is forgotten is only lost if that owner dies in this very moment.
//
// O(1) per handoff. One thread.
#pragma once

#include <deque>
#include <unordered_map>
#include <vector>

#include "base/clock.hh"
#include "core/mirror_store.hh"
#include "core/view.hh"

namespace gecko::node {

class GivenAway {
 public:
  static constexpr size_t kMostBytes = 64u << 20;   // of checkpoints and logs

  explicit GivenAway(Duration kept) : kept_(kept) {}

  void add(const core::Owner& to, core::MirroredConnection connection, Time now);   // the same flow again: only the last time counts
  std::vector<core::MirroredConnection> take(const core::Owner& dead, Time now);
  void expire(Time now);
  void clear();
  size_t size() const { return all_.size(); }
  size_t bytes() const { return bytes_; }

 private:
  struct Given {
    core::Owner to;
    core::MirroredConnection connection;
    uint64_t number = 0;   // its place in the order
    size_t bytes = 0;
  };
  struct Turn {
    Time when;
    uint64_t number;
    Flow flow;
  };
  void forget(std::unordered_map<Flow, Given>::iterator at);

  const Duration kept_;
  std::unordered_map<Flow, Given> all_;
  std::deque<Turn> order_;   // some may be gone
  uint64_t next_ = 1;
  size_t bytes_ = 0;
};

}  // namespace gecko::node
