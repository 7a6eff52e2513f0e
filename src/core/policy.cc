#include "core/policy.hh"

#include <algorithm>
#include <numeric>

namespace gecko::core {

namespace {

// SplitMix64 (Steele, Lea, Flood 2014): one addition and a finaliser, any seed is good.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
uint64_t next_random(uint64_t& state) { return mix(state += 0x9e3779b97f4a7c15u); }

std::vector<Load> eligible(std::span<const Load> members, std::span<const NodeIndex> except) {
  std::vector<Load> out;
  out.reserve(members.size());
  for (const Load& m : members)
    if (m.eligible() && std::find(except.begin(), except.end(), m.node) == except.end()) out.push_back(m);
  std::sort(out.begin(), out.end(), [](const Load& a, const Load& b) { return a.node < b.node; });
  return out;
}

// A node's weight falls with its connections, but an idle newcomer gets at most about nine times the share of an average node: it fills
// quickly and is not drowned by every new client at once.
std::vector<double> weights(PolicyKind kind, const std::vector<Load>& nodes) {
  if (kind != PolicyKind::least_connections) return std::vector<double>(nodes.size(), 1.0);
  double mean = 0;
  for (const Load& n : nodes) mean += double(n.connections) / double(nodes.size());
  std::vector<double> out;
  out.reserve(nodes.size());
  for (const Load& n : nodes) out.push_back(1.0 / (double(n.connections) + 1 + mean / 8));
  return out;
}

// Whole numbers of slots in proportion to the weights, by largest remainder, after one for each.
std::vector<size_t> shares(const std::vector<double>& weight, size_t slots) {
  const size_t n = weight.size();
  std::vector<size_t> share(n, slots >= n ? 1 : 0);
  const size_t rest = slots >= n ? slots - n : slots;
  const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  std::vector<std::pair<double, size_t>> remainder;
  size_t given = 0;
  for (size_t i = 0; i < n; ++i) {
    const double ideal = double(rest) * weight[i] / total;
    const auto whole = std::min(static_cast<size_t>(ideal), rest - given);
    share[i] += whole;
    given += whole;
    remainder.emplace_back(double(whole) - ideal, i);  // ascending: the largest remainder first, then the lower node
  }
  std::sort(remainder.begin(), remainder.end());
  for (size_t k = 0; given < rest; k = (k + 1) % n, ++given) ++share[remainder[k].second];
  return share;
}

// The order in which a node would like to have the slots: its own, and the same whoever else is there.
std::vector<uint16_t> preference(NodeIndex node, size_t slots) {
  std::vector<std::pair<uint64_t, uint16_t>> keyed;
  for (size_t s = 0; s < slots; ++s) keyed.emplace_back(mix(uint64_t{node} << 32 | (s + 1)), static_cast<uint16_t>(s));
  std::sort(keyed.begin(), keyed.end());
  std::vector<uint16_t> out;
  out.reserve(slots);
  for (const auto& k : keyed) out.push_back(k.second);
  return out;
}

}  // namespace

std::optional<PolicyKind> policy_named(std::string_view name) {
  if (name == "none") return PolicyKind::none;
  if (name == "random") return PolicyKind::random;
  if (name == "round-robin") return PolicyKind::round_robin;
  if (name == "least-connections") return PolicyKind::least_connections;
  return std::nullopt;
}

std::optional<NodeIndex> choose(PolicyKind kind, std::span<const Load> members, PolicyState& state, std::span<const NodeIndex> except) {
  const std::vector<Load> nodes = eligible(members, except);
  if (nodes.empty()) return std::nullopt;
  size_t chosen = 0;
  switch (kind) {
    case PolicyKind::random:
      chosen = next_random(state.random) % nodes.size();
      break;
    case PolicyKind::round_robin:
      while (state.last && chosen < nodes.size() && nodes[chosen].node <= *state.last) ++chosen;
      chosen %= nodes.size();
      break;
    case PolicyKind::none:
    case PolicyKind::least_connections: {
      // Among equals a random one: the nodes of a group decide at the same time from the same numbers.
      size_t ties = 0;
      for (size_t i = 0; i < nodes.size(); ++i) {
        if (nodes[i].connections < nodes[chosen].connections) ties = 0;
        if (nodes[i].connections <= nodes[chosen].connections && next_random(state.random) % ++ties == 0) chosen = i;
      }
      break;
    }
  }
  state.last = nodes[chosen].node;
  return nodes[chosen].node;
}

// Nodes take turns, each in proportion to its share, and each takes the slot it likes best of those left.
std::vector<NodeIndex> syn_slots(PolicyKind kind, std::span<const Load> members, size_t slots) {
  const std::vector<Load> nodes = kind == PolicyKind::none ? std::vector<Load>{} : eligible(members, {});
  if (nodes.empty() || slots == 0) return {};
  const std::vector<size_t> share = shares(weights(kind, nodes), slots);
  std::vector<std::vector<uint16_t>> wish;
  wish.reserve(nodes.size());
  for (const Load& n : nodes) wish.push_back(preference(n.node, slots));

  std::vector<NodeIndex> table(slots);
  std::vector<bool> taken(slots);
  std::vector<size_t> at(nodes.size()), has(nodes.size());
  for (size_t turn = 0; turn < slots; ++turn) {
    size_t who = nodes.size();
    for (size_t i = 0; i < nodes.size(); ++i) {  // whose part of its share is smallest; equal: the lower node
      if (has[i] == share[i]) continue;
      if (who == nodes.size() || has[i] * share[who] < has[who] * share[i]) who = i;
    }
    while (taken[wish[who][at[who]]]) ++at[who];
    const uint16_t slot = wish[who][at[who]];
    taken[slot] = true;
    table[slot] = nodes[who].node;
    ++has[who];
  }
  return table;
}

}  // namespace gecko::core
