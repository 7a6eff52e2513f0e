#include "lab/topology.hh"

#include <algorithm>

namespace gecko::lab {
namespace {

constexpr const char* kNodeNet6 = "2001:db8:1::";
constexpr const char* kClientNet6 = "2001:db8:2::";
constexpr const char* kNodeNet4 = "198.51.100.";
constexpr const char* kClientNet4 = "203.0.113.";
constexpr uint8_t kRouterHost = 1, kClientHost = 2, kWitnessHost = 10, kFirstNodeHost = 11, kGroupHost = 80;
uint8_t host_of(int node) { return static_cast<uint8_t>(kFirstNodeHost + node - 1); }  // node: 1..kMaxLabNodes
static_assert(kFirstNodeHost + kMaxLabNodes - 1 < kGroupHost);

// The host number reads the same in both families and in the MAC address: n1 is ...::11, 198.51.100.11, 02:00:00:00:01:0b.
std::string text_of(const char* net, int host) { return net + std::to_string(host); }
Address address_of(const char* net, int host) { return *Address::parse(text_of(net, host)); }

std::string mac(uint8_t segment, uint8_t host) {
  char text[18];
  std::snprintf(text, sizeof text, "02:00:00:00:%02x:%02x", segment, host);
  return text;
}

// The names of the router's ports to them, and their hosts' numbers: n1 to nN, w.
std::vector<std::pair<std::string, uint8_t>> node_hosts(const LabOptions& options) {
  std::vector<std::pair<std::string, uint8_t>> all;
  for (int i = 1; i <= options.nodes; ++i) all.emplace_back("n" + std::to_string(i), host_of(i));
  if (options.witness) all.emplace_back("w", kWitnessHost);
  return all;
}

std::string namespace_of(const LabOptions& options, const std::string& host) { return "gecko-" + options.name + "-" + host; }

}  // namespace

Status check_options(const LabOptions& options) {
  const auto word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  if (options.name.empty() || options.name.size() > 20 || options.name.front() == '-' || !std::all_of(options.name.begin(), options.name.end(), word))
    return make_error(Errc::invalid, "'" + options.name + "' is no name for a lab: 1 to 20 of a-z, 0-9 and -, not beginning with -");
  if (options.nodes < 1 || options.nodes > kMaxLabNodes)
    return make_error(Errc::invalid, std::to_string(options.nodes) + " nodes: a lab has 1 to " + std::to_string(kMaxLabNodes));
  if (options.ports.empty() || options.ports.size() > config::kMaxPorts)
    return make_error(Errc::invalid, "a lab's group has 1 to " + std::to_string(config::kMaxPorts) + " ports");
  for (size_t i = 0; i < options.ports.size(); ++i) {
    if (options.ports[i] == 0) return make_error(Errc::invalid, "port 0: a port is 1 to 65535");
    if (std::count(options.ports.begin(), options.ports.end(), options.ports[i]) > 1)
      return make_error(Errc::invalid, "port " + std::to_string(options.ports[i]) + " is given twice");
  }
  if (options.recovery != "none" && options.recovery != "fast" && options.recovery != "replicated")
    return make_error(Errc::invalid, "'" + options.recovery + "' is no way of recovery: none, fast or replicated");
  if (std::find(std::begin(config::kPolicies), std::end(config::kPolicies), options.policy) == std::end(config::kPolicies)) {
    std::string known;
    for (const char* policy : config::kPolicies) known += (known.empty() ? "" : ", ") + std::string(policy);
    return make_error(Errc::invalid, "'" + options.policy + "' is no policy: " + known);
  }
  if (options.weights.size() > static_cast<size_t>(options.nodes))
    return make_error(Errc::invalid, std::to_string(options.weights.size()) + " weights for " + std::to_string(options.nodes) + " nodes");
  for (const uint32_t weight : options.weights)
    if (weight < 1 || weight > config::kMaxWeight)
      return make_error(Errc::invalid, "weight " + std::to_string(weight) + ": a weight is 1 to " + std::to_string(config::kMaxWeight));
  if (options.witness && options.two_available) return make_error(Errc::invalid, "with a witness no node goes on alone: two_available has no meaning there");
  if (options.owner.find_first_of(" \n") != std::string::npos) return make_error(Errc::invalid, "an owner is one word");
  return {};
}

std::vector<Host> hosts_of(const LabOptions& options) {
  std::vector<Host> hosts = {
      {"client", false, false, namespace_of(options, "client"), address_of(kClientNet6, kClientHost), address_of(kClientNet4, kClientHost)},
      {"router", false, false, namespace_of(options, "router"), address_of(kNodeNet6, kRouterHost), address_of(kNodeNet4, kRouterHost)},
  };
  for (const auto& [name, host] : node_hosts(options))
    hosts.push_back({name, true, host == kWitnessHost, namespace_of(options, name), address_of(kNodeNet6, host), address_of(kNodeNet4, host)});
  return hosts;
}

Address group_address(const LabOptions& options) { return address_of(options.ipv4 ? kNodeNet4 : kNodeNet6, kGroupHost); }

std::string router_commands(const LabOptions& options) {
  // The bridge's MAC address is fixed: left alone it follows its lowest port, and neighbours would have to learn it anew.
  // No snooping: solicited-node multicast must reach a node that has just joined, without waiting for an MLD report.
  std::string batch = "link set lo up\n"
                      "link add br0 address " + mac(1, kRouterHost) + " type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"
                      "addr add " + text_of(kNodeNet6, kRouterHost) + "/64 dev br0 nodad\n"
                      "addr add " + text_of(kNodeNet4, kRouterHost) + "/24 dev br0\n"
                      "link set br0 up\n";
  for (const auto& [node, host] : node_hosts(options)) {
    batch += "link add " + node + " type veth peer name eth0 address " + mac(1, host) + " netns " + namespace_of(options, node) + "\n";
    batch += "link set " + node + " master br0 up\n";
  }
  batch += "link add clients address " + mac(2, kRouterHost) + " type veth peer name eth0 address " + mac(2, kClientHost) + " netns " +
           namespace_of(options, "client") + "\n"
           "addr add " + text_of(kClientNet6, kRouterHost) + "/64 dev clients nodad\n"
           "addr add " + text_of(kClientNet4, kRouterHost) + "/24 dev clients\n"
           "link set clients up\n";
  return batch;
}

std::string host_commands(const LabOptions&, const Host& host) {
  const bool client = host.name == "client";
  const char* net6 = client ? kClientNet6 : kNodeNet6;
  const char* net4 = client ? kClientNet4 : kNodeNet4;
  return "link set lo up\n"
         "link set eth0 up\n"
         "addr add " + host.address.str() + "/64 dev eth0 nodad\n"
         "addr add " + host.address4.str() + "/24 dev eth0\n"
         "route add default via " + text_of(net6, kRouterHost) + " dev eth0\n"
         "route add default via " + text_of(net4, kRouterHost) + " dev eth0\n";
}

std::string shaping_commands(const LabOptions& options) {
  if (options.mbit == 0) return "";
  // Burst: what the rate carries in 4 ms (one tick of a 250 Hz kernel), and at least one 64 KiB GSO segment with its headers, so that
  // the bucket never has to cut one up. Latency 50 ms: about the queue of a small switch.
  const uint64_t burst_bytes = std::max<uint64_t>(static_cast<uint64_t>(options.mbit) * 1'000'000 / 8 / 250, 68 * 1024);
  const std::string shape = " root tbf rate " + std::to_string(options.mbit) + "mbit burst " + std::to_string(burst_bytes) + " latency 50ms\n";
  std::string batch = "qdisc add dev clients" + shape;
  for (const auto& [node, host] : node_hosts(options)) batch += "qdisc add dev " + node + shape;
  return batch;
}

std::string group_file(const LabOptions& options) {
  std::string text = "# The group of the lab '" + options.name + "'; made by gecko lab up.\n"
                     "[group]\n"
                     "name = \"lab\"\n"
                     "address = \"" + group_address(options).str() + "\"\n"
                     "ports = [";
  for (const uint16_t port : options.ports) text += (text.back() == '[' ? "" : ", ") + std::to_string(port);
  text += "]\n"
          "policy = \"" + options.policy + "\"\n" +
          (options.rebalance ? "rebalance = \"on-join\"\n" : "") + (options.recovery == "none" ? "" : "recovery = \"" + options.recovery + "\"\n") +
          (options.backups == 1 ? "" : "backups = " + std::to_string(options.backups) + "\n") +
          "return = \"" + std::string(options.return_path == config::ReturnPath::home ? "home" : "direct") + "\"\n"
          "interface = \"eth0\"\n";
  size_t node = 0;
  for (const auto& host : hosts_of(options)) {
    if (!host.is_node) continue;
    text += "\n[[node]]\nname = \"" + host.name + "\"\naddress = \"" + host.address.str() + "\"\n";
    if (host.is_witness) text += "witness = true\n";
    else if (node < options.weights.size()) text += "weight = " + std::to_string(options.weights[node]) + "\n";
    ++node;
  }
  if (options.two_available || options.lease_ms != 0) text += "\n[membership]\n";
  if (options.two_available) text += "two_nodes = \"available\"\n";
  if (options.lease_ms != 0) text += "lease = \"" + std::to_string(options.lease_ms) + "ms\"\n";
  return text;
}

}  // namespace gecko::lab
