#include "core/nearness.hh"

#include <algorithm>

namespace gecko::core {

namespace {
// Routes change; a smallest round trip is believed for so long, then the next one counts.
constexpr Duration kBelieved = std::chrono::minutes(10);
// About as near: within a quarter and a millisecond of the best. In one room everybody is.
constexpr uint32_t kAlike_us = 1000;
}  // namespace

Address network_of(const Address& client) {
  Address network = client;
  if (client.is_v4()) network.bytes[15] = 0;
  else std::fill(network.bytes.begin() + 6, network.bytes.end(), uint8_t{0});
  return network;
}

Nearness::Change Nearness::hear(NodeIndex node, const Address& network, uint32_t rtt_us, Time now) {
  Change change;
  if (node >= nodes_ || rtt_us == 0) return change;
  auto at = known_.find(network);
  if (at == known_.end()) {
    if (known_.size() >= kMostNetworks) {
      change.displaced = order_.front();
      known_.erase(order_.front());
      order_.pop_front();
    }
    order_.push_back(network);
    at = known_.emplace(network, Network{std::vector<Measured>(nodes_), std::prev(order_.end())}).first;
  } else {
    order_.splice(order_.end(), order_, at->second.place);
  }
  Measured& m = at->second.by_node[node];
  if (m.rtt_us != 0 && rtt_us > m.rtt_us && now - m.at < kBelieved) return change;
  change.changed = m.rtt_us != rtt_us;
  m = {rtt_us, now};
  return change;
}

std::vector<NodeIndex> Nearness::near(const Address& network, Time now) const {
  const auto at = known_.find(network);
  if (at == known_.end()) return {};
  std::vector<std::pair<uint32_t, NodeIndex>> nodes;
  for (size_t n = 0; n < nodes_; ++n) {
    const Measured& m = at->second.by_node[n];
    if (m.rtt_us != 0 && now - m.at < kBelieved) nodes.emplace_back(m.rtt_us, static_cast<NodeIndex>(n));
  }
  if (nodes.empty()) return {};
  std::sort(nodes.begin(), nodes.end());
  const uint64_t alike = uint64_t{nodes.front().first} * 5 / 4 + kAlike_us;
  std::vector<NodeIndex> out;
  for (const auto& [rtt, node] : nodes)
    if (rtt <= alike) out.push_back(node);
  return out;
}

std::vector<std::pair<Address, uint32_t>> Nearness::measured_by(NodeIndex node) const {
  std::vector<std::pair<Address, uint32_t>> out;
  for (const auto& [network, known] : known_)
    if (known.by_node[node].rtt_us != 0) out.emplace_back(network, known.by_node[node].rtt_us);
  return out;
}

std::vector<Address> Nearness::expire(Time now) {
  std::vector<Address> changed;
  for (auto it = known_.begin(); it != known_.end();) {
    bool any = false, some = false;
    for (Measured& m : it->second.by_node) {
      if (m.rtt_us == 0) continue;
      if (now - m.at < kBelieved) {
        any = true;
        continue;
      }
      m = {};
      some = true;
    }
    if (some) changed.push_back(it->first);
    if (any) {
      ++it;
    } else {
      order_.erase(it->second.place);
      it = known_.erase(it);
    }
  }
  return changed;
}

}  // namespace gecko::core
