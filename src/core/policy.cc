#include "core/policy.hh"

#include <algorithm>
#include <numeric>

#include "base/client_hash.hh"
#include "core/placement_hash.hh"

namespace gecko::core {

namespace {

// SplitMix64: one addition and a finaliser, any seed is good.
uint64_t next_random(uint64_t& state) { return mix64(state += 0x9e3779b97f4a7c15u); }

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
  for (size_t s = 0; s < slots; ++s) keyed.emplace_back(mix64(uint64_t{node} << 32 | (s + 1)), static_cast<uint16_t>(s));
  std::sort(keyed.begin(), keyed.end());
  std::vector<uint16_t> out;
  out.reserve(slots);
  for (const auto& k : keyed) out.push_back(k.second);
  return out;
}

uint64_t identity(const Load& node) { return node.name_hash != 0 ? node.name_hash : mix64(uint64_t{node.node} + 1); }

size_t most_desiring(const std::vector<Load>& nodes, uint64_t key) {
  size_t best = 0;
  double most = -1;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const double d = desire(identity(nodes[i]), nodes[i].weight, key);
    if (d <= most) continue;
    best = i;
    most = d;
  }
  return best;
}

size_t least_loaded(const std::vector<Load>& nodes, PolicyState& state) {
  // Among equals a random one: the nodes of a group decide at the same time from the same numbers.
  size_t chosen = 0, ties = 0;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].connections < nodes[chosen].connections) ties = 0;
    if (nodes[i].connections <= nodes[chosen].connections && next_random(state.random) % ++ties == 0) chosen = i;
  }
  return chosen;
}

// Everybody is owed its weight, who is owed most gets one and owes the total: over any total many choices each has its exact share, and no
// node gets its share in a row.
size_t next_by_weight(const std::vector<Load>& nodes, std::map<NodeIndex, int64_t>& credit) {
  std::erase_if(credit, [&](const auto& c) { return std::none_of(nodes.begin(), nodes.end(), [&](const Load& n) { return n.node == c.first; }); });
  int64_t total = 0;
  size_t chosen = 0;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const int64_t weight = std::max(nodes[i].weight, 1u);
    total += weight;
    credit[nodes[i].node] += weight;
    if (credit[nodes[i].node] > credit[nodes[chosen].node]) chosen = i;
  }
  credit[nodes[chosen].node] -= total;
  return chosen;
}

// One round of turns: as short as the weights' ratios allow, rounded where that would be too long.
std::vector<NodeIndex> turns(std::vector<Load> nodes, bool equal) {
  uint64_t divisor = 0, total = 0;
  for (Load& n : nodes) {
    n.weight = equal ? 1 : std::max(n.weight, 1u);
    divisor = std::gcd(divisor, uint64_t{n.weight});
    total += n.weight;
  }
  if (total / divisor > kMostSlots) {
    std::vector<double> weight;
    for (const Load& n : nodes) weight.push_back(double(n.weight));
    const auto share = shares(weight, kMostSlots);
    for (size_t i = 0; i < nodes.size(); ++i) nodes[i].weight = static_cast<uint32_t>(share[i]);
    divisor = 1;
    total = kMostSlots;
  }
  std::vector<NodeIndex> out;
  std::map<NodeIndex, int64_t> credit;
  for (uint64_t i = 0; i < total / divisor; ++i) out.push_back(nodes[next_by_weight(nodes, credit)].node);
  return out;
}

constexpr std::pair<std::string_view, PolicyKind> kNames[] = {
    {"none", PolicyKind::none},
    {"random", PolicyKind::random},
    {"round-robin", PolicyKind::round_robin},
    {"least-connections", PolicyKind::least_connections},
    {"weighted", PolicyKind::weighted},
    {"hash-client", PolicyKind::hash_client},
    {"hash-bytes", PolicyKind::hash_bytes},
    {"locality", PolicyKind::locality},
};

// Slots of a table that is picked from at random: enough for shares of half a percent.
constexpr size_t kRandomSlots = 256;

}  // namespace

std::optional<PolicyKind> policy_named(std::string_view name) {
  for (const auto& [known, kind] : kNames)
    if (known == name) return kind;
  return std::nullopt;
}

std::optional<NodeIndex> choose(PolicyKind kind, std::span<const Load> members, PolicyState& state, std::span<const NodeIndex> except,
                                std::optional<uint64_t> key) {
  std::vector<Load> nodes = eligible(members, except);
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
    case PolicyKind::weighted:
      chosen = next_by_weight(nodes, state.credit);
      break;
    case PolicyKind::hash_client:
      chosen = key ? most_desiring(nodes, *key % kMostSlots) : least_loaded(nodes, state);
      break;
    case PolicyKind::hash_bytes:
      chosen = key ? most_desiring(nodes, *key) : least_loaded(nodes, state);
      break;
    case PolicyKind::locality:
      if (std::any_of(nodes.begin(), nodes.end(), [](const Load& n) { return n.near; })) std::erase_if(nodes, [](const Load& n) { return !n.near; });
      chosen = least_loaded(nodes, state);
      break;
    case PolicyKind::none:
    case PolicyKind::least_connections:
      chosen = least_loaded(nodes, state);
      break;
  }
  state.last = nodes[chosen].node;
  return nodes[chosen].node;
}

SynTable syn_table(PolicyKind kind, std::span<const Load> members) {
  const std::vector<Load> nodes = eligible(members, {});
  if (nodes.empty()) return {};
  switch (kind) {
    case PolicyKind::none: return {};
    case PolicyKind::random: return {SynTable::Pick::random, syn_slots(kind, members, kRandomSlots)};
    case PolicyKind::least_connections:
    case PolicyKind::locality: return {SynTable::Pick::random, syn_slots(PolicyKind::least_connections, members, kRandomSlots)};
    case PolicyKind::round_robin: return {SynTable::Pick::turns, turns(nodes, true)};
    case PolicyKind::weighted:
    case PolicyKind::hash_bytes: return {SynTable::Pick::turns, turns(nodes, false)};
    case PolicyKind::hash_client: {
      SynTable table{SynTable::Pick::client, std::vector<NodeIndex>(kMostSlots)};
      for (size_t slot = 0; slot < kMostSlots; ++slot) table.slots[slot] = nodes[most_desiring(nodes, slot)].node;
      return table;
    }
  }
  return {};
}

SynPlan syn_plan(PolicyKind kind, std::span<const Load> members, std::span<const uint16_t> ports, const Serves& serves) {
  SynPlan plan{syn_table(kind, members), {}};
  if (plan.table.slots.empty()) return plan;
  const std::vector<Load> nodes = eligible(members, {});
  std::map<std::vector<NodeIndex>, std::vector<NodeIndex>> slots_among;   // ports that the same nodes serve have the same
  for (const uint16_t port : ports) {
    SynPlan::Port of{port, {}, {}};
    for (const Load& n : nodes)
      if (serves(n.node, port)) of.serving.push_back(n.node);
    if (kind == PolicyKind::hash_client && !of.serving.empty() && of.serving.size() < nodes.size()) slots_among[of.serving].resize(kMostSlots);
    plan.ports.push_back(std::move(of));
  }
  if (slots_among.empty()) return plan;
  // What each node would give for a slot is computed once, not once for every set: a logarithm each.
  std::map<NodeIndex, double> wish;
  for (size_t slot = 0; slot < kMostSlots; ++slot) {
    for (const Load& n : nodes) wish[n.node] = desire(identity(n), n.weight, slot);
    for (auto& [among, slots] : slots_among)
      slots[slot] = *std::max_element(among.begin(), among.end(), [&](NodeIndex a, NodeIndex b) { return wish[a] < wish[b]; });
  }
  for (auto& of : plan.ports)
    if (const auto own = slots_among.find(of.serving); own != slots_among.end()) of.slots = own->second;
  return plan;
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
