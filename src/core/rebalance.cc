#include "core/rebalance.hh"

#include <algorithm>

namespace gecko::core {

void Rebalance::see(std::span<const Load> members, Time now) {
  for (const Load& load : members) {
    if (load.node >= nodes_.size()) continue;
    Node& node = nodes_[load.node];
    const bool came = load.eligible() && !node.there;
    node.there = load.eligible();
    if (!node.there) node.due = Time::max();
    if (!came || !begun_) continue;
    node.wait = node.joined && now - *node.joined < limits_.memory ? std::min(node.wait * 2, limits_.most) : limits_.settle;
    node.joined = now;
    node.due = now + node.wait;
  }
  begun_ = true;
}

Time Rebalance::next_due() const {
  Time next = Time::max();
  for (const Node& node : nodes_) next = std::min(next, node.due);
  return next;
}

std::vector<NodeIndex> Rebalance::take_joined(Time now) {
  std::vector<NodeIndex> joined;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].due > now) continue;
    nodes_[i].due = Time::max();
    joined.push_back(static_cast<NodeIndex>(i));
  }
  return joined;
}

}  // namespace gecko::core
