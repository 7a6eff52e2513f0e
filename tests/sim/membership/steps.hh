// The steps of a scripted run with members, as the machines' hook sees them. Some come all the time, as heartbeats and timers do: of each of these a node's
// first one after something else has happened there counts.
#pragma once

#include <algorithm>
#include <map>
#include <string_view>

#include "sim/engine/kill_points.hh"

namespace gecko::sim {

class Steps {
 public:
  using Names = std::vector<std::string_view>;               // of up to 32
  explicit Steps(Names frequent) : frequent_(std::move(frequent)) {}

  // True: it counts, and is the last of all().
  bool add(uint16_t node, std::string_view what) {
    const auto it = std::ranges::find(frequent_, what);
    uint32_t& seen = seen_[node];
    const uint32_t kind = it == frequent_.end() ? 0 : 1u << (it - frequent_.begin());
    if ((seen & kind) != 0) return false;
    seen = kind == 0 ? 0 : seen | kind;
    all_.push_back({node, std::string(what)});
    return true;
  }
  const std::vector<KillStep>& all() const { return all_; }

 private:
  const Names frequent_;
  std::map<uint16_t, uint32_t> seen_;                        // since something else has happened
  std::vector<KillStep> all_;
};

}  // namespace gecko::sim
