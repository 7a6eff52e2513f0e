#include "node/options.hh"

#include <algorithm>
#include <bit>

namespace gecko::node {

namespace {
constexpr size_t kLeastSlices = 8;
}  // namespace

NodeNumbers::NodeNumbers(const std::vector<config::GroupConfig>& groups) {
  for (const auto& group : groups)
    for (const auto& node : group.nodes)
      if (std::find(addresses_.begin(), addresses_.end(), node.address) == addresses_.end()) addresses_.push_back(node.address);
}

uint16_t NodeNumbers::of(const Address& underlay) const {
  const auto at = std::find(addresses_.begin(), addresses_.end(), underlay);
  GECKO_ASSERT(at != addresses_.end());
  return static_cast<uint16_t>(at - addresses_.begin());
}

PortSlice outbound_slice(const config::GroupConfig& group, size_t index) {
  const size_t ports = static_cast<size_t>(group.outbound_last) - group.outbound_first + 1;
  // As many slices as the next power of two of nodes: one more node leaves the others' where they are.
  const size_t roomy = std::bit_ceil(std::max(group.nodes.size(), kLeastSlices));
  const auto each = static_cast<uint16_t>(ports / (roomy <= ports ? roomy : group.nodes.size()));
  return {static_cast<uint16_t>(group.outbound_first + each * index), each};
}

bool belongs(const config::GroupConfig& group, const Flow& flow) {
  if (flow.local.address != group.address) return false;
  if (std::find(group.ports.begin(), group.ports.end(), flow.local.port) != group.ports.end()) return true;
  return flow.local.port >= group.outbound_first && flow.local.port <= group.outbound_last;
}

}  // namespace gecko::node
