// The steering programs in a real network: real interfaces, real TCP, segmentation offload, routers, the hold device.
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <functional>
#include <future>
#include <map>

#include <gtest/gtest.h>

#include "bpf/steering.hh"
#include "bpf/test_config.hh"
#include "bpf/test_packet.hh"
#include "held_packet.hh"
#include "net_lab.hh"
#include "traffic.hh"

namespace gecko::lab_test {
namespace {

using bpf::Counters;
using bpf::GroupSteering;
using bpf::Steering;
using Bytes = std::vector<uint8_t>;
using namespace std::chrono_literals;

#define ASSERT_OK(expression) \
  if (const auto ok_ = (expression); !ok_) FAIL() << ok_.error().message
#define EXPECT_OK(expression) \
  if (const auto ok_ = (expression); !ok_) ADD_FAILURE() << ok_.error().message

template <class T>
T must(Result<T> r) {
  if (!r) {
    ADD_FAILURE() << r.error().message;
    std::abort();
  }
  return std::move(*r);
}

// Polls until the condition holds; false at the deadline.
bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds patience = 5000ms) {
  const Time end = monotonic_now() + patience;
  while (!condition()) {
    if (monotonic_now() > end) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

// A node: its programs and its end of the hold device.
struct Node {
  std::string ns;
  int index = 0;
  int nic = 0, hold_index = 0;
  Fd hold;
  std::optional<Steering> steering;

  uint64_t count(gecko_counter c) const { return must(steering->counters())[c]; }
};

class SteeringNet : public testing::TestWithParam<bool> {
 public:
  static void SetUpTestSuite() {
    if (geteuid() != 0) return;
    lab_ = must(NetLab::build("gkt-bpf-"));
  }
  static void TearDownTestSuite() { lab_.reset(); }

 protected:
  void SetUp() override {
    if (!lab_) GTEST_SKIP() << "network namespaces need root";
    for (int i = 0; i < NetLab::kNodes; ++i) {
      Node& n = nodes_[i];
      n.index = i, n.ns = lab_->node(i);
      n.hold = must(NetLab::open_hold(n.ns));
      n.nic = NetLab::ifindex(n.ns, NetLab::kNic), n.hold_index = NetLab::ifindex(n.ns, NetLab::kHold);
      n.steering.emplace(must(Steering::load()));
      configure(n);
      NetLab::in(n.ns, [&] { EXPECT_OK(n.steering->attach(n.nic, n.hold_index)); });
    }
  }
  void TearDown() override {
    for (Node& n : nodes_)
      if (n.steering) NetLab::in(n.ns, [&] { EXPECT_OK(n.steering->detach()); });
  }

  void configure(Node& n, const std::function<void(GroupSteering&)>& change = {}) {
    for (int i = 0; i < NetLab::kNodes; ++i) EXPECT_OK(n.steering->set_node(static_cast<uint16_t>(i), NetLab::underlay(i)));
    GroupSteering g;
    g.address = NetLab::group(v4());
    g.ports = {80};
    g.self = static_cast<uint16_t>(n.index), g.contact = 0, g.is_contact = n.index == 0;
    g.encap_mtu = 1460;
    g.mss_max = v4() ? 1420 : 1400;
    if (change) change(g);
    EXPECT_OK(n.steering->set_group(g));
  }
  void configure_all(const std::function<void(GroupSteering&)>& change) {
    for (Node& n : nodes_) configure(n, change);
  }

  // What a test taught the kernels must not reach the next.
  void forget_path_mtu() {
    for (const std::string& ns : {lab_->client(), n0().ns, n1().ns, n2().ns}) EXPECT_OK(NetLab::run(ns, "ip -4 route flush cache; ip -6 route flush cache"));
  }

  bool v4() const { return GetParam(); }
  Endpoint service() const { return {NetLab::group(v4()), 80}; }
  Flow flow(uint16_t client_port) const { return {service(), {NetLab::client_address(v4()), client_port}}; }
  Node& n0() { return nodes_[0]; }
  Node& n1() { return nodes_[1]; }
  Node& n2() { return nodes_[2]; }
  static bool is_group(const Address& a) { return a == NetLab::group(false) || a == NetLab::group(true); }

  // A connection of client port `port` that lives on `server`; n0 forwards to it.
  std::pair<Fd, Fd> connection(Node& server, uint16_t port) {
    if (server.index != 0) {
      EXPECT_OK(n0().steering->flows().set(flow(port), GECKO_FLOW_FORWARD, static_cast<uint16_t>(server.index), 1));
    }
    const Fd listener = must(listen_on(server.ns, service()));
    Fd client = must(connect_from(lab_->client(), service(), port));
    return {std::move(client), must(accept_from(listener))};
  }

  // Both ways at once, every byte checked.
  void transfer(const Fd& client, const Fd& server, uint64_t up, uint64_t down) {
    auto sent_up = std::async(std::launch::async, [&] { return send_pattern(client, 0, up); });
    auto got_up = std::async(std::launch::async, [&] { return receive_pattern(server, 0, up); });
    auto sent_down = std::async(std::launch::async, [&] { return send_pattern(server, 7, down); });
    EXPECT_OK(receive_pattern(client, 7, down));
    EXPECT_OK(sent_up.get());
    EXPECT_OK(got_up.get());
    EXPECT_OK(sent_down.get());
  }

  static std::unique_ptr<NetLab> lab_;
  Node nodes_[NetLab::kNodes];
};
std::unique_ptr<NetLab> SteeringNet::lab_;
INSTANTIATE_TEST_SUITE_P(Families, SteeringNet, testing::Bool(), [](const auto& i) { return i.param ? "IPv4" : "IPv6"; });

// One packet from the hold device that belongs to a group; the kernel's own chatter is skipped. Empty at the deadline.
Bytes read_hold(const Node& n, std::chrono::milliseconds patience = 5000ms) {
  const Time end = monotonic_now() + patience;
  Bytes buffer(kHeldPacketMax);
  for (;;) {
    const ssize_t got = read(n.hold.get(), buffer.data(), buffer.size());
    if (got > 0) {
      const std::span<const uint8_t> packet(buffer.data(), static_cast<size_t>(got));
      const auto group = [](const Address& a) { return a == NetLab::group(false) || a == NetLab::group(true); };
      if (!parse_held(packet, group)) continue;
      return Bytes(packet.begin(), packet.end());
    }
    if (monotonic_now() > end) return {};
    pollfd p{n.hold.get(), POLLIN, 0};
    poll(&p, 1, 5);
  }
}
void write_hold(const Node& n, const Bytes& packet) {
  ASSERT_EQ(write(n.hold.get(), packet.data(), packet.size()), static_cast<ssize_t>(packet.size())) << strerror(errno);
}

constexpr uint64_t kBulk = 64 << 20;

TEST_P(SteeringNet, ForwardedBulkBothWaysDirectReturn) {
  auto [client, server] = connection(n1(), 40001);
  transfer(client, server, kBulk, kBulk);
  shutdown(client.get(), SHUT_WR);
  EXPECT_OK(expect_end(server));
  server.reset();
  EXPECT_OK(expect_end(client));
  EXPECT_GT(n0().count(GECKO_C_FORWARDED), 100u);
  EXPECT_GT(n1().count(GECKO_C_DECAPSULATED), 100u);
  EXPECT_EQ(n1().count(GECKO_C_RETURNED_HOME), 0u);
  EXPECT_EQ(n0().count(GECKO_C_TOO_BIG) + n0().count(GECKO_C_ENCAP_FAILED) + n0().count(GECKO_C_MALFORMED), 0u);
  EXPECT_GT(n1().count(GECKO_C_MSS_CLAMPED), 0u);
}

TEST_P(SteeringNet, BulkOnAKernelWithoutDecapFlags) {
  for (const Node& n : nodes_) bpf::test::exchange_config_flags(*n.steering, 0);
  auto [client, server] = connection(n1(), 40011);
  transfer(client, server, kBulk, 1 << 20);
  EXPECT_GT(n1().count(GECKO_C_DECAPSULATED), 100u);
  EXPECT_EQ(n1().count(GECKO_C_ENCAP_FAILED), 0u);
}

TEST_P(SteeringNet, ReturnHome) {
  configure_all([](GroupSteering& g) { g.return_home = true; });
  auto [client, server] = connection(n1(), 40002);
  transfer(client, server, kBulk, kBulk);
  EXPECT_GT(n1().count(GECKO_C_RETURNED_HOME), 100u);
  EXPECT_GT(n0().count(GECKO_C_RETURNED_HOME), 100u);
  EXPECT_EQ(n0().count(GECKO_C_TOO_BIG) + n1().count(GECKO_C_TOO_BIG), 0u);  // the clamp on both SYNs sees to it
}

// What geckod injects (a nudge, an error) takes the way of the group's other packets.
TEST_P(SteeringNet, InjectedPacketsGoHomeToo) {
  configure_all([](GroupSteering& g) { g.return_home = true; });
  auto [client, server] = connection(n1(), 40012);
  const uint64_t before0 = n0().count(GECKO_C_RETURNED_HOME), before1 = n1().count(GECKO_C_RETURNED_HOME);
  // As if the client had sent something too big: the answer goes from the group to the client.
  Bytes pretended(kVnetHeader + 60);
  uint8_t* ip = pretended.data() + kVnetHeader;
  const auto from = NetLab::client_address(v4()), to = NetLab::group(v4());
  ip[0] = v4() ? 0x45 : 0x60;
  std::copy(from.bytes.begin() + (v4() ? 12 : 0), from.bytes.end(), ip + (v4() ? 12 : 8));
  std::copy(to.bytes.begin() + (v4() ? 12 : 0), to.bytes.end(), ip + (v4() ? 16 : 24));
  write_hold(n1(), packet_too_big(pretended, 1400));
  EXPECT_TRUE(eventually([&] { return n0().count(GECKO_C_RETURNED_HOME) == before0 + 1; }));
  EXPECT_EQ(n1().count(GECKO_C_RETURNED_HOME), before1 + 1);
  transfer(client, server, 1000, 1000);
}

TEST_P(SteeringNet, SynSpread) {
  configure_all([](GroupSteering& g) { g.syn_slots = {0, 1, 2}, g.syn_mode = GECKO_SLOTS_ROUND_ROBIN; });
  std::vector<Fd> listeners, clients;
  for (const Node& n : nodes_) listeners.push_back(must(listen_on(n.ns, service())));
  constexpr int kConnections = 30;
  for (int i = 0; i < kConnections; ++i) clients.push_back(must(connect_from(lab_->client(), service())));
  std::vector<Fd> accepted;
  for (const Fd& listener : listeners)
    for (int i = 0; i < kConnections / 3; ++i) accepted.push_back(must(accept_from(listener)));  // ten each
  EXPECT_EQ(n0().count(GECKO_C_SYN_STEERED), 20u);
  std::map<uint16_t, const Fd*> by_port;
  for (const Fd& s : accepted) by_port[must(flow_of(s)).local.port] = &s;  // the peer's port, seen from the server
  for (const Fd& c : clients) {
    const Fd& server = *by_port.at(must(flow_of(c)).peer.port);
    transfer(c, server, 5000, 5000);
  }
  size_t entries = 0;
  EXPECT_OK(n0().steering->flows().for_each([&](const Flow&, const gecko_flow&) { ++entries; }));
  EXPECT_EQ(entries, 0u) << "until their owners have spoken, new connections are no entries";
}

TEST_P(SteeringNet, PathMtuErrorsFindTheOwner) {
  auto [client, server] = connection(n1(), 40003);
  const std::string narrow = "dev eth0 mtu lock 1300", to = NetLab::client_address(v4()).str();
  ASSERT_OK(NetLab::run(lab_->router(), "ip route add " + to + " " + narrow));
  transfer(client, server, 100000, 4 << 20);  // stalls for ever unless the errors reach n1
  EXPECT_OK(NetLab::run(lab_->router(), "ip route del " + to + " " + narrow));
  forget_path_mtu();
  EXPECT_GT(n0().count(GECKO_C_ICMP_STEERED), 0u);
}

TEST_P(SteeringNet, TooBigIsAnsweredByUserSpace) {
  configure_all([](GroupSteering& g) { g.mss_max = 0; });  // nobody keeps the client from sending 1500 bytes
  auto [client, server] = connection(n1(), 40004);
  std::atomic<bool> done = false;
  std::atomic<int> answered = 0;
  std::thread daemon([&] {
    while (!done) {
      const Bytes packet = read_hold(n0(), 20ms);
      if (packet.empty()) continue;
      const auto held = parse_held(packet, is_group);
      ASSERT_OK(held);
      EXPECT_EQ(held->flow, flow(40004));
      EXPECT_FALSE(held->from_group);
      EXPECT_GT(held->largest, 1460u);
      write_hold(n0(), packet_too_big(packet, 1460));
      ++answered;
    }
  });
  transfer(client, server, 8 << 20, 100000);
  done = true;
  daemon.join();
  forget_path_mtu();
  EXPECT_GT(answered, 0);
  EXPECT_GE(n0().count(GECKO_C_TOO_BIG), static_cast<uint64_t>(answered));
}

TEST_P(SteeringNet, HoldReleaseToAnotherNodeKeepsOrder) {
  auto [client, server] = connection(n1(), 40005);
  transfer(client, server, 1000, 1000);
  auto& flows = n0().steering->flows();
  ASSERT_OK(flows.set(flow(40005), GECKO_FLOW_HOLD, 1, 2));
  ASSERT_OK(send_pattern(client, 1000, 500));
  std::vector<Bytes> held;
  held.push_back(read_hold(n0()));
  ASSERT_FALSE(held.back().empty());
  ASSERT_OK(send_pattern(client, 1500, 500));
  held.push_back(read_hold(n0()));
  ASSERT_FALSE(held.back().empty());
  const auto first = parse_held(held[0], is_group), second = parse_held(held[1], is_group);
  ASSERT_OK(first);
  ASSERT_OK(second);
  EXPECT_EQ(first->flow, flow(40005));
  EXPECT_EQ(first->end_seq - first->seq, 500u);
  EXPECT_EQ(second->seq, first->end_seq);
  char byte;
  EXPECT_EQ(recv(server.get(), &byte, 1, MSG_DONTWAIT), -1);  // nothing leaked past the hold
  EXPECT_EQ(errno, EAGAIN);
  for (const Bytes& packet : held) write_hold(n0(), packet);
  ASSERT_OK(receive_pattern(server, 1000, 1000));
  ASSERT_OK(flows.set(flow(40005), GECKO_FLOW_FORWARD, 1, 2));
  ASSERT_OK(send_pattern(client, 2000, 500));
  ASSERT_OK(receive_pattern(server, 2000, 500));
  EXPECT_GE(n0().count(GECKO_C_HELD), 2u);
  EXPECT_GE(n0().count(GECKO_C_RELEASED), 2u);
}

TEST_P(SteeringNet, HoldReleaseAtTheOwner) {
  auto [client, server] = connection(n0(), 40006);
  auto& flows = n0().steering->flows();
  ASSERT_OK(flows.set(flow(40006), GECKO_FLOW_MINE, 0, 1));
  transfer(client, server, 1000, 1000);
  ASSERT_OK(flows.set(flow(40006), GECKO_FLOW_HOLD, 0, 1));
  const gecko_flow before = *must(flows.get(flow(40006)));
  EXPECT_NE(before.last_passed_ns, 0u);
  ASSERT_OK(send_pattern(client, 1000, 500));
  const Bytes packet = read_hold(n0());
  ASSERT_FALSE(packet.empty());
  EXPECT_EQ((*must(flows.get(flow(40006)))).last_passed_ns, before.last_passed_ns);
  const auto held = parse_held(packet, is_group);
  ASSERT_OK(held);
  EXPECT_EQ(held->seq, before.max_end_seq);
  write_hold(n0(), packet);
  ASSERT_OK(receive_pattern(server, 1000, 500));
  const gecko_flow after = *must(flows.get(flow(40006)));
  EXPECT_EQ(after.max_end_seq, held->end_seq);
  EXPECT_GT(after.last_passed_ns, before.last_passed_ns);
}

TEST_P(SteeringNet, FlipsAndHoldsUnderLoadLoseNothing) {
  auto [client, server] = connection(n1(), 40007);
  ASSERT_OK(n2().steering->flows().set(flow(40007), GECKO_FLOW_FORWARD, 1, 1));  // the detour: n0 -> n2 -> n1
  constexpr uint64_t kTotal = 256 << 20;
  auto sent = std::async(std::launch::async, [&, &client = client] { return send_pattern(client, 0, kTotal); });
  auto got = std::async(std::launch::async, [&, &server = server] { return receive_pattern(server, 0, kTotal); });
  auto& flows = n0().steering->flows();
  int rounds = 0, released = 0;
  for (uint64_t epoch = 2; sent.wait_for(0ms) != std::future_status::ready; ++epoch, ++rounds) {
    const uint16_t next = epoch % 2 == 0 ? 2 : 1;
    ASSERT_OK(flows.set(flow(40007), GECKO_FLOW_HOLD, next, epoch));
    std::vector<Bytes> queue;
    for (Bytes p = read_hold(n0(), 2ms); !p.empty() && queue.size() < 64; p = read_hold(n0(), 0ms)) queue.push_back(p);
    for (const Bytes& p : queue) write_hold(n0(), p), ++released;
    ASSERT_OK(flows.set(flow(40007), GECKO_FLOW_FORWARD, next, epoch));
    for (Bytes p = read_hold(n0(), 0ms); !p.empty(); p = read_hold(n0(), 0ms)) write_hold(n0(), p), ++released;
    std::this_thread::sleep_for(2ms);
  }
  EXPECT_OK(sent.get());
  EXPECT_OK(got.get());
  EXPECT_GE(rounds, 5);
  EXPECT_GT(released, 0);
  EXPECT_GT(n2().count(GECKO_C_FORWARDED), 0u);
  std::printf("           %d flips, %d packets held and released\n", rounds, released);
}

TEST_P(SteeringNet, UnknownFlowIsHeldAndTheKernelAnswersWhenTold) {
  Fd client = NetLab::socket_in(lab_->client(), v4() ? AF_INET : AF_INET6, SOCK_STREAM);
  // A connection whose owner is not known any more: established on n0, then its socket silently vanishes.
  auto [c, s] = connection(n0(), 40008);
  const int on = 1;
  ASSERT_EQ(setsockopt(s.get(), IPPROTO_TCP, 19 /* TCP_REPAIR */, &on, sizeof on), 0);
  s.reset();
  ASSERT_OK(send_pattern(c, 0, 100));
  const Bytes packet = read_hold(n0());
  ASSERT_FALSE(packet.empty());
  const auto held = parse_held(packet, is_group);
  ASSERT_OK(held);
  EXPECT_EQ(held->flow, flow(40008));
  EXPECT_TRUE(held->tcp);
  EXPECT_EQ(n0().count(GECKO_C_UNKNOWN_HELD), 1u);
  ASSERT_OK(n0().steering->flows().set(flow(40008), GECKO_FLOW_KERNEL, 0, 0));
  write_hold(n0(), packet);
  char byte;
  EXPECT_EQ(recv(c.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

TEST_P(SteeringNet, SynCookiesStillWorkAtTheContact) {
  ASSERT_OK(NetLab::run(n0().ns, "sysctl -qw net.ipv4.tcp_syncookies=2"));  // always
  auto [client, server] = connection(n0(), 40009);
  transfer(client, server, 10000, 10000);
  EXPECT_EQ(n0().count(GECKO_C_UNKNOWN_HELD), 0u);
  ASSERT_OK(NetLab::run(n0().ns, "sysctl -qw net.ipv4.tcp_syncookies=1"));
}

TEST_P(SteeringNet, ANewDaemonTakesOverUnderLoad) {
  auto [client, server] = connection(n1(), 40010);
  auto sent = std::async(std::launch::async, [&, &client = client] { return send_pattern(client, 0, kBulk * 2); });
  auto got = std::async(std::launch::async, [&, &server = server] { return receive_pattern(server, 0, kBulk * 2); });
  for (int i = 0; i < 5; ++i) {
    Node& n = n0();
    n.steering.emplace(must(Steering::load()));  // the previous one is gone, its programs are not
    configure(n);
    NetLab::in(n.ns, [&] { EXPECT_OK(n.steering->attach(n.nic, n.hold_index)); });
    EXPECT_EQ(n.steering->adopted(), 1u);
    EXPECT_EQ((*must(n.steering->flows().get(flow(40010)))).node, 1);
  }
  EXPECT_OK(sent.get());
  EXPECT_OK(got.get());
}

TEST_P(SteeringNet, DetachLeavesTheMachineAsItWas) {
  Node& n = n2();
  const auto filters = [&] {
    return NetLab::run(n.ns,
                       "test -z \"$(tc filter show dev eth0 ingress; tc filter show dev eth0 egress; tc qdisc show dev eth0 clsact; tc qdisc show "
                       "dev gkhold clsact)\"");
  };
  EXPECT_FALSE(filters());
  NetLab::in(n.ns, [&] { EXPECT_OK(n.steering->detach()); });
  EXPECT_OK(filters());
  // Somebody else's filter stays, and so does the qdisc it hangs on.
  ASSERT_OK(NetLab::run(n.ns, "tc qdisc add dev eth0 clsact && tc filter add dev eth0 ingress pref 7 bpf da bytecode '1,6 0 0 4294967295'"));
  NetLab::in(n.ns, [&] {
    EXPECT_OK(n.steering->attach(n.nic, n.hold_index));
    EXPECT_OK(n.steering->detach());
    EXPECT_OK(n.steering->detach());  // twice is fine
  });
  EXPECT_OK(NetLab::run(n.ns, "tc filter show dev eth0 ingress | grep -q 'pref 7' && ! tc filter show dev eth0 ingress | grep -q gecko"));
  // At our own place: refused, not replaced.
  ASSERT_OK(NetLab::run(n.ns, "tc filter add dev eth0 egress pref 500 handle 0x67 bpf da bytecode '1,6 0 0 0'"));
  NetLab::in(n.ns, [&] {
    const Status refused = n.steering->attach(n.nic, n.hold_index);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::exists) << refused.error().message;
    EXPECT_OK(n.steering->detach());
    const Status tun = n.steering->attach(n.hold_index, 0);  // no link layer
    ASSERT_FALSE(tun);
    EXPECT_EQ(tun.error().code, Errc::unsupported) << tun.error().message;
  });
  EXPECT_OK(NetLab::run(n.ns, "tc filter show dev eth0 egress | grep -q 'pref 500'"));
  ASSERT_OK(NetLab::run(n.ns, "tc qdisc del dev eth0 clsact"));
  // A killed daemon's filters are found without it.
  n.steering.emplace(must(Steering::load()));
  NetLab::in(n.ns, [&] { EXPECT_OK(n.steering->attach(n.nic, n.hold_index)); });
  n.steering.reset();
  EXPECT_FALSE(filters());
  NetLab::in(n.ns, [&] {
    EXPECT_OK(Steering::detach_from(n.nic));
    EXPECT_OK(Steering::detach_from(n.hold_index));
  });
  EXPECT_OK(filters());
}

TEST_P(SteeringNet, EchoInFragmentsIsAnsweredByTheContact) {
  EXPECT_OK(NetLab::run(lab_->client(), "ping -c 2 -i 0.2 -W 5 -s 4000 " + NetLab::group(v4()).str()));
}

// Sends frames of its own making from n1's NIC to n0's.
class FrameSender {
 public:
  FrameSender(const Node& from, const Node& to) : raw_(NetLab::socket_in(from.ns, AF_PACKET, SOCK_RAW, htons(ETH_P_ALL))) {
    to_.sll_family = AF_PACKET, to_.sll_ifindex = from.nic, to_.sll_halen = 6;
    NetLab::in(to.ns, [&] {
      FILE* f = popen("ip -o link show eth0 | sed 's/.*ether //;s/ .*//'", "re");
      char line[64] = {};
      EXPECT_NE(fgets(line, sizeof line, f), nullptr);
      pclose(f);
      EXPECT_EQ(std::sscanf(line, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac_[0], &mac_[1], &mac_[2], &mac_[3], &mac_[4], &mac_[5]), 6);
    });
  }
  void send(const Bytes& rest) {  // what follows the two addresses
    Bytes b(mac_.begin(), mac_.end());
    b.insert(b.end(), {2, 0, 0, 0, 0, 1});
    b.insert(b.end(), rest.begin(), rest.end());
    ASSERT_EQ(sendto(raw_.get(), b.data(), b.size(), 0, reinterpret_cast<const sockaddr*>(&to_), sizeof to_), static_cast<ssize_t>(b.size()))
        << strerror(errno);
  }

 private:
  Fd raw_;
  sockaddr_ll to_{};
  std::array<uint8_t, 6> mac_{};
};

TEST_P(SteeringNet, RuntFramesOnARealInterface) {
  // Shorter than BPF_PROG_RUN allows.
  FrameSender sender(n1(), n0());
  uint64_t expected = n0().count(GECKO_C_MALFORMED);
  const Bytes type = v4() ? Bytes{0x08, 0x00} : Bytes{0x86, 0xdd};
  for (size_t size = 0; size < (v4() ? 20 : 40); ++size, ++expected) {
    Bytes frame = type;
    frame.resize(type.size() + size, v4() ? 0x45 : 0x60);
    sender.send(frame);
  }
  EXPECT_TRUE(eventually([&] { return n0().count(GECKO_C_MALFORMED) >= expected; })) << n0().count(GECKO_C_MALFORMED) << " of " << expected;
}

TEST_P(SteeringNet, TaggedFramesAreAnotherInterfacesBusiness) {
  FrameSender sender(n1(), n0());
  const Flow f = flow(40013);
  ASSERT_OK(n0().steering->flows().set(f, GECKO_FLOW_FORWARD, 1, 1));
  Bytes packet = bpf::test::tcp(f);
  Bytes tagged = {0x81, 0x00, 0x00, 0x05}, plain = v4() ? Bytes{0x08, 0x00} : Bytes{0x86, 0xdd};
  tagged.insert(tagged.end(), plain.begin(), plain.end());
  tagged.insert(tagged.end(), packet.begin(), packet.end());
  plain.insert(plain.end(), packet.begin(), packet.end());
  sender.send(tagged);
  sender.send(plain);
  EXPECT_TRUE(eventually([&] { return n0().count(GECKO_C_FORWARDED) != 0; }));
  EXPECT_EQ(n0().count(GECKO_C_FORWARDED), 1u);
}

}  // namespace
}  // namespace gecko::lab_test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int failed = RUN_ALL_TESTS();
  const auto* unit = testing::UnitTest::GetInstance();
  return failed != 0 ? failed : unit->skipped_test_count() > 0 && unit->successful_test_count() == 0 ? 77 : 0;
}
