// Which nodes are near a client? Every node measures the round trips of its own connections and tells the others, by the client's network
// (IPv4 /24, IPv6 /48); this class keeps what was said and compares (policy "locality", docs/adr/0016).
//
// What a node measures includes the detour of the client's packets through the contact: it is the round trip that the client would get there.
// Bounded: kMostNetworks, the one heard of longest ago gives way. No clock, no descriptor.
#pragma once

#include <list>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/address.hh"
#include "base/clock.hh"
#include "core/policy.hh"

namespace gecko::core {

inline constexpr size_t kMostNetworks = 8192;

Address network_of(const Address& client);

class Nearness {
 public:
  explicit Nearness(size_t nodes) : nodes_(nodes) {}

  struct Change {
    bool changed = false;               // near(network) may be another now
    std::optional<Address> displaced;   // nothing is known of this one any more
  };
  Change hear(NodeIndex node, const Address& network, uint32_t rtt_us, Time now);
  // The nearest first, with those that are about as near; empty: nothing is known.
  std::vector<NodeIndex> near(const Address& network, Time now) const;
  // What was said too long ago goes; the networks whose answer may have changed.
  std::vector<Address> expire(Time now);
  std::vector<std::pair<Address, uint32_t>> measured_by(NodeIndex node) const;   // and the round trip in microseconds
  std::vector<Address> networks() const { return {order_.begin(), order_.end()}; }

 private:
  struct Measured {
    uint32_t rtt_us = 0;   // 0: nothing
    Time at{};
  };
  struct Network {
    std::vector<Measured> by_node;
    std::list<Address>::iterator place;
  };
  size_t nodes_;
  std::unordered_map<Address, Network> known_;
  std::list<Address> order_;   // heard of longest ago first
};

}  // namespace gecko::core
