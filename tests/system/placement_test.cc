// Where real connections end up by each policy: expected and seen shares, printed (docs/measurements.md quotes them).
#include <sys/socket.h>

#include <cmath>
#include <map>

#include "base/client_hash.hh"
#include "core/placement_hash.hh"
#include "core/policy.hh"
#include "fault_scene.hh"
#include "kit/far_line.hh"

namespace gecko::system_test {
namespace {

using Shares = std::map<std::string, size_t>;

class Placement : public FaultTest {
 protected:
  void SetUp() override {}
  void make(const std::string& policy, std::vector<uint32_t> weights = {}, int addresses = 1, bool rebalance = false) {
    kit::SceneOptions options;
    options.name = "plc";
    options.policy = policy;
    options.weights = std::move(weights);
    options.client_addresses = addresses;
    options.rebalance = rebalance;
    ASSERT_NO_FATAL_FAILURE(set_up(options));
  }
  kit::PingClient& client(const Address& from = {}) {
    kit::PingOptions options;
    options.server = scene().echo();
    options.from = from;
    options.pause = 200ms;
    return swarm_->add<kit::PingClient>(options);
  }
  void clients(size_t count) {
    for (size_t i = 0; i < count; ++i) (void)client();
    connected();
  }
  std::map<Endpoint, std::string> owners() {
    std::map<Endpoint, std::string> out;
    for (const auto& node : scene().nodes()) {
      const auto rows = ask().ask(node, {{"op", "connections"}});
      if (!rows) continue;
      for (const auto& row : (*rows)["connections"])
        if (const auto endpoint = Endpoint::parse(row.value("client", ""))) out[*endpoint] = node;
    }
    return out;
  }
  Shares shares() {
    Shares out;
    for (const auto& node : scene().nodes()) out[node] = 0;
    for (const auto& [endpoint, node] : owners()) ++out[node];
    return out;
  }
  static void print(const char* policy, const Shares& expected, const Shares& seen) {
    std::printf("placement %-18s", policy);
    for (const auto& [node, n] : expected) std::printf("  %s: expected %zu, seen %zu", node.c_str(), n, seen.at(node));
    std::printf("\n");
    std::fflush(stdout);
  }
  // The contact counts what the others have told it, five times a second.
  void loads_known(size_t total) {
    EXPECT_TRUE(eventually([&] {
      size_t known = 0;
      const auto seen = status("n1");
      for (const auto& node : seen["groups"][0]["nodes"]) known += node.value("connections", size_t{0});
      return known == total;
    }));
  }
  uint64_t moves() {
    uint64_t all = 0;
    for (const auto& node : scene().nodes()) all += status(node)["groups"][0]["handoffs"].value("out_ok", uint64_t{0});
    return all;
  }
};

TEST_F(Placement, RoundRobinIsExact) {
  ASSERT_NO_FATAL_FAILURE(make("round-robin"));
  clients(300);
  const Shares expected{{"n1", 100}, {"n2", 100}, {"n3", 100}}, seen = shares();
  print("round-robin", expected, seen);
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(moves(), 0u) << "placed at the SYN, yet something was moved";
}

TEST_F(Placement, WeightsAreExact) {
  ASSERT_NO_FATAL_FAILURE(make("weighted", {3, 1, 2}));
  clients(300);
  const Shares expected{{"n1", 150}, {"n2", 50}, {"n3", 100}}, seen = shares();
  print("weighted 3:1:2", expected, seen);
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(moves(), 0u);
  ASSERT_TRUE(ask().ask("n1", {{"op", "drain"}, {"node", "n1"}, {"action", "start"}}));   // what it has is spread by weight, too
  ASSERT_TRUE(eventually([&] { return shares()["n1"] == 0; }));
  const Shares after{{"n1", 0}, {"n2", 100}, {"n3", 200}};
  print("weighted, n1 drained", after, shares());
  EXPECT_EQ(shares(), after);
}

TEST_F(Placement, RandomAndLeastConnectionsAreEven) {
  ASSERT_NO_FATAL_FAILURE(make("random"));
  clients(600);
  auto seen = shares();
  print("random", {{"n1", 200}, {"n2", 200}, {"n3", 200}}, seen);
  for (const auto& [node, n] : seen) EXPECT_NEAR(double(n), 200, 58) << node;   // five sigma
  TearDown();

  ASSERT_NO_FATAL_FAILURE(make("least-connections"));
  for (size_t wave = 1; wave <= 6; ++wave) {
    clients(50);
    loads_known(50 * wave);
  }
  seen = shares();
  print("least-connections", {{"n1", 100}, {"n2", 100}, {"n3", 100}}, seen);
  for (const auto& [node, n] : seen) EXPECT_NEAR(double(n), 100, 35) << node;
}

TEST_F(Placement, AClientHasItsNodeOnEveryContact) {
  constexpr int kAddresses = 100, kEach = 3;
  ASSERT_NO_FATAL_FAILURE(make("hash-client", {}, kAddresses));
  std::vector<core::Load> loads;
  for (core::NodeIndex i = 0; i < 3; ++i)
    loads.push_back({.node = i, .up = true, .applications = 1, .name_hash = core::hash_of("n" + std::to_string(i + 1))});
  const auto expected_of = [&](const Address& address) {
    core::PolicyState state;
    return "n" + std::to_string(*core::choose(core::PolicyKind::hash_client, loads, state, {}, client_hash(address)) + 1);
  };
  const auto wave = [&](const char* what, int each) {
    std::map<Endpoint, std::string> before = owners();
    for (const auto& address : scene().clients())
      for (int i = 0; i < each; ++i) (void)client(address);
    connected();
    Shares expected, seen;
    for (const auto& node : scene().nodes()) expected[node] = seen[node] = 0;
    for (const auto& [endpoint, node] : owners()) {
      if (before.contains(endpoint)) continue;
      ++expected[expected_of(endpoint.address)];
      ++seen[node];
      EXPECT_EQ(node, expected_of(endpoint.address)) << endpoint.str();
    }
    print(what, expected, seen);
  };
  wave("hash-client", kEach);
  ASSERT_TRUE(ask().ask("n1", {{"op", "contact"}, {"node", "n2"}}));
  ASSERT_TRUE(eventually([&] { return status("n2")["groups"][0].value("contact", "") == "n2" && status("n3")["groups"][0].value("contact", "") == "n2"; }));
  wave("hash-client via n2", 1);
  EXPECT_EQ(moves(), 0u);
  // Only the clients of the node that leaves change theirs; those it has go where their next ones would.
  size_t changed = 0;
  std::map<Address, std::string> before;
  for (const auto& address : scene().clients()) before[address] = expected_of(address);
  ASSERT_TRUE(ask().ask("n1", {{"op", "drain"}, {"node", "n3"}, {"action", "start"}}));
  loads[2].draining = true;
  ASSERT_TRUE(eventually([&] { return shares()["n3"] == 0; }));
  wave("hash-client, n3 out", 1);
  for (const auto& address : scene().clients()) changed += before[address] != expected_of(address);
  for (const auto& [endpoint, node] : owners()) EXPECT_EQ(node, expected_of(endpoint.address)) << "moved elsewhere than its hash says";
  std::printf("hash-client: n3 leaves, %zu of %d clients change their node (1/3 is %d)\n", changed, kAddresses, kAddresses / 3);
  EXPECT_NEAR(double(changed), kAddresses / 3.0, 20);
}

TEST_F(Placement, OnlyNodesThatServeThePort) {
  ASSERT_NO_FATAL_FAILURE(make("round-robin"));
  kill_process(process_named(lab(), "n2", "gecko-echo"));   // gecko-stream still serves the other port there
  ASSERT_TRUE(eventually([&] { return status("n1")["groups"][0]["nodes"][1].value("applications", 9) == 1; }));
  clients(100);
  const auto seen = shares();
  print("n2 serves another", {{"n1", 50}, {"n2", 0}, {"n3", 50}}, seen);
  EXPECT_EQ(seen, (Shares{{"n1", 50}, {"n2", 0}, {"n3", 50}}));
  // Neither a drain nor a handoff without a target goes there.
  ASSERT_TRUE(ask().ask("n1", {{"op", "drain"}, {"node", "n3"}, {"action", "start"}}));
  ASSERT_TRUE(eventually([&] { return shares()["n3"] == 0; }));
  EXPECT_EQ(shares(), (Shares{{"n1", 100}, {"n2", 0}, {"n3", 0}}));
  EXPECT_EQ(status("n3")["groups"][0]["handoffs"].value("out_failed", 99), 0) << "somebody was asked who does not serve it";
}

// Where a node does not serve the port, its clients have the node that a handoff would name, too: nothing moves afterwards.
TEST_F(Placement, AClientHasItsNodeAmongThoseThatServeThePort) {
  constexpr int kAddresses = 60;
  ASSERT_NO_FATAL_FAILURE(make("hash-client", {2, 3, 1}, kAddresses));
  std::vector<core::Load> loads;
  const std::vector<uint32_t> weights{2, 3, 1};
  for (core::NodeIndex i = 0; i < 3; ++i)
    loads.push_back({.node = i, .up = true, .applications = 1, .weight = weights[i], .name_hash = core::hash_of("n" + std::to_string(i + 1))});
  const auto expected_of = [&](const Address& address) {
    core::PolicyState state;
    return "n" + std::to_string(*core::choose(core::PolicyKind::hash_client, loads, state, {}, client_hash(address)) + 1);
  };
  kill_process(process_named(lab(), "n2", "gecko-echo"));   // gecko-stream still serves the other port there
  loads[1].applications = 0;
  ASSERT_TRUE(eventually([&] { return status("n1")["groups"][0]["nodes"][1].value("applications", 9) == 1; }));
  for (const auto& address : scene().clients()) (void)client(address);
  connected();
  Shares expected{{"n1", 0}, {"n2", 0}, {"n3", 0}}, seen = expected;
  const auto placed = owners();
  for (const auto& [endpoint, node] : placed) {
    ++expected[expected_of(endpoint.address)];
    ++seen[node];
    EXPECT_EQ(node, expected_of(endpoint.address)) << endpoint.str();
  }
  print("hash-client, n2 out", expected, seen);
  EXPECT_EQ(moves(), 0u);
  // Who is balanced finds everybody at home; who is drained finds them the next home.
  ASSERT_TRUE(ask().ask("n1", {{"op", "drain"}, {"node", "n3"}, {"action", "start"}}));
  ASSERT_TRUE(eventually([&] { return shares()["n3"] == 0; }));
  ASSERT_TRUE(ask().ask("n1", {{"op", "drain"}, {"node", "n3"}, {"action", "stop"}}));
  for (const auto& [endpoint, node] : owners()) EXPECT_EQ(node, "n1");
}

TEST_F(Placement, AHandoffWithoutATargetTriesAnotherNodeWhenOneRefuses) {
  ASSERT_NO_FATAL_FAILURE(make("none"));
  kill_process(process_named(lab(), "n2", "gecko-echo"));
  restart_application("n2", "none", 24);   // room for a few
  ASSERT_TRUE(eventually([&] { return status("n1")["groups"][0]["nodes"][1].value("applications", 0) == 2; }));
  constexpr size_t kClients = 40;
  std::vector<Fd> sockets;
  const auto opened = lab().inside("client", [&]() -> Status {
    for (size_t i = 0; i < kClients; ++i) {
      sockaddr_storage to{};
      const socklen_t size = scene().echo().to_sockaddr(to);
      Fd fd(::socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const timeval limit{5, 0};
      (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
      if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), size) != 0) return os_error("connect");
      sockets.push_back(std::move(fd));
    }
    return {};
  });
  ASSERT_TRUE(opened) << opened.error().message;
  const auto echoes = [](const Fd& fd, char byte) {
    char back = 0;
    return ::send(fd.get(), &byte, 1, MSG_NOSIGNAL) == 1 && ::recv(fd.get(), &back, 1, 0) == 1 && back == byte;
  };
  for (const auto& fd : sockets) EXPECT_TRUE(echoes(fd, 'H'));   // gecko-echo lets go of it, to whom geckod likes
  EXPECT_TRUE(eventually([&] { return shares()["n1"] == 0; })) << shares()["n1"] << " stayed";
  for (const auto& fd : sockets) EXPECT_TRUE(echoes(fd, 'x'));
  const auto handoffs = status("n1")["groups"][0]["handoffs"];
  EXPECT_EQ(handoffs["out_ok"], kClients);
  EXPECT_GT(handoffs["out_failed"], 0) << "INVALID: nobody refused";
  std::printf("without a target: %zu moved, n2 %zu, n3 %zu; %d refusals on the way\n", kClients, shares()["n2"], shares()["n3"],
              handoffs["out_failed"].get<int>());
}

TEST_F(Placement, LiveConnectionsGoToANodeThatHasJoinedAndStayed) {
  ASSERT_NO_FATAL_FAILURE(make("weighted", {1, 1, 2}, 1, true));
  const auto drain = [&](const char* action) { ASSERT_TRUE(ask().ask("n1", {{"op", "drain"}, {"node", "n3"}, {"action", action}})); };
  drain("start");
  clients(100);
  EXPECT_EQ(shares(), (Shares{{"n1", 50}, {"n2", 50}, {"n3", 0}}));
  // It comes and goes: nothing moves.
  for (int i = 0; i < 5; ++i) {
    drain("stop");
    drain("start");
  }
  EXPECT_EQ(moves(), 0u);
  drain("stop");
  EXPECT_EQ(shares()["n3"], 0u) << "at once is too soon";
  // Five joins before this one: 5 s, doubled five times, is more than a test can wait; another node has a clean record.
  ASSERT_TRUE(ask().ask("n1", {{"op", "drain"}, {"node", "n2"}, {"action", "start"}}));
  ASSERT_TRUE(eventually([&] { return shares()["n2"] == 0; }));
  const auto before = shares();
  ASSERT_TRUE(ask().ask("n1", {{"op", "drain"}, {"node", "n2"}, {"action", "stop"}}));
  const Time joined = monotonic_now();
  const Shares expected{{"n1", 25}, {"n2", 25}, {"n3", 50}};
  EXPECT_TRUE(eventually([&] { return shares() == expected; }, 15s));
  EXPECT_GE(monotonic_now() - joined, 4s) << "a node has to stay first";
  print("weighted, n2 joins", expected, shares());
  std::printf("rebalance: n2 had 0, n1 %zu, n3 %zu; even %.1f s after the join\n", before.at("n1"), before.at("n3"),
              std::chrono::duration<double>(monotonic_now() - joined).count());
}

TEST_F(Placement, HashedClientsGoHomeWhenTheirNodeIsBack) {
  ASSERT_NO_FATAL_FAILURE(make("hash-client", {}, 60, true));
  for (const auto& address : scene().clients()) (void)client(address);
  connected();
  const auto before = owners();
  ASSERT_TRUE(ask().ask("n1", {{"op", "drain"}, {"node", "n2"}, {"action", "start"}}));
  ASSERT_TRUE(eventually([&] { return shares()["n2"] == 0; }));
  EXPECT_NE(owners(), before);
  ASSERT_TRUE(ask().ask("n1", {{"op", "drain"}, {"node", "n2"}, {"action", "stop"}}));
  EXPECT_TRUE(eventually([&] { return owners() == before; }, 15s));
  EXPECT_EQ(moves(), 2 * shares()["n2"]) << "somebody else's clients moved";
}

TEST_F(Placement, LocalityMeasuresAndInOneRoomSpreadsByLoad) {
  ASSERT_NO_FATAL_FAILURE(make("locality"));
  clients(60);
  ASSERT_TRUE(eventually([&] {   // one network, measured by all, told to all
    for (const auto& node : scene().nodes()) {
      const auto networks = status(node)["groups"][0].value("measured_networks", nlohmann::json::array());
      if (networks.size() != 1 || networks[0].value("near", nlohmann::json::array()).size() != 3) return false;
    }
    return true;
  })) << status("n1")["groups"][0].dump();
  for (size_t wave = 1; wave <= 8; ++wave) {
    clients(30);
    loads_known(60 + 30 * wave);
  }
  const auto seen = shares();
  print("locality, one room", {{"n1", 100}, {"n2", 100}, {"n3", 100}}, seen);
  for (const auto& [node, n] : seen) EXPECT_NEAR(double(n), 100, 40) << node;
}

// Two networks of clients: n1 is near the one, n2 near the other, n3 far from both (30 ms more).
class FarAndNear : public Placement {
 protected:
  static constexpr Duration kFar = 30ms;
  const Address left_ = *Address::parse("2001:db8:2::"), right_ = *Address::parse("2001:db8:3::");
  const Address left_client_ = *Address::parse("2001:db8:2::2"), right_client_ = *Address::parse("2001:db8:3::2");
  std::vector<std::unique_ptr<kit::FarLine>> lines_;

  void command(const std::string& host, const std::vector<std::string>& words) {
    const auto out = lab().output(host, words);
    ASSERT_TRUE(out) << out.error().message;
    ASSERT_EQ(out->code, 0) << out->err;
  }
  void lay_lines() {
    command("client", {"ip", "addr", "add", right_client_.str() + "/64", "dev", "eth0", "nodad"});
    command("router", {"ip", "-6", "route", "add", right_.str() + "/48", "via", left_client_.str(), "dev", "clients"});
    for (const auto& [node, network] : {std::pair{"n1", right_}, {"n2", left_}, {"n3", left_}, {"n3", right_}}) {
      auto line = kit::FarLine::lay(lab(), node, network, kFar);
      ASSERT_TRUE(line) << line.error().message;
      lines_.push_back(std::move(*line));
    }
  }
  // So many from each network; where those of this wave are.
  std::pair<Shares, Shares> wave(size_t each) {
    const auto before = owners();
    for (size_t i = 0; i < each; ++i) {
      (void)client(left_client_);
      (void)client(right_client_);
    }
    connected();
    Shares left{{"n1", 0}, {"n2", 0}, {"n3", 0}}, right = left;
    for (const auto& [endpoint, node] : owners())
      if (!before.contains(endpoint)) ++(endpoint.address == left_client_ ? left : right)[node];
    return {left, right};
  }
  nlohmann::json near(const std::string& node, const Address& network) {
    const auto measured = status(node)["groups"][0].value("measured_networks", nlohmann::json::array());
    for (const auto& row : measured)
      if (row["network"] == network.str()) return row["near"];
    return nullptr;
  }
  bool known(const std::string& node) { return near(node, left_) == nlohmann::json{"n1"} && near(node, right_) == nlohmann::json{"n2"}; }
};

TEST_F(FarAndNear, ClientsLandOnTheNodeThatIsNear) {
  ASSERT_NO_FATAL_FAILURE(make("locality"));
  ASSERT_NO_FATAL_FAILURE(lay_lines());
  const auto first = wave(30);   // nothing is known: by load
  print("locality, unknown, A", {{"n1", 10}, {"n2", 10}, {"n3", 10}}, first.first);
  print("locality, unknown, B", {{"n1", 10}, {"n2", 10}, {"n3", 10}}, first.second);
  EXPECT_LT(first.first.at("n1"), 25u) << "INVALID: they are there already";
  ASSERT_TRUE(eventually([&] { return known("n1") && known("n2") && known("n3"); }, 10s))
      << status("n1")["groups"][0]["measured_networks"] << status("n2")["groups"][0]["measured_networks"] << status("n3")["groups"][0]["measured_networks"];
  for (const auto& line : lines_) EXPECT_GT(line->packets(), 0u) << "INVALID: a line that nobody takes is far from nothing";
  const auto expect_near = [&](const char* what, size_t each) {
    const auto [left, right] = wave(each);
    // Fifteen in sixteen go to the near node, the others by load: 96 in 100; six standard deviations below.
    const double mean = double(each) * (15.0 / 16 + 1.0 / 48), least = mean - 6 * std::sqrt(double(each) * 0.96 * 0.04);
    const auto expected = static_cast<size_t>(std::lround(mean));
    std::printf("placement locality, %s: of %zu each, A on n1 %zu, B on n2 %zu; expected %zu\n", what, each, left.at("n1"), right.at("n2"), expected);
    EXPECT_GE(double(left.at("n1")), least);
    EXPECT_GE(double(right.at("n2")), least);
  };
  expect_near("contact n1", 90);
  ASSERT_TRUE(ask().ask("n1", {{"op", "contact"}, {"node", "n3"}}));
  ASSERT_TRUE(eventually([&] { return status("n3")["groups"][0].value("contact", "") == "n3" && status("n1")["groups"][0].value("contact", "") == "n3"; }));
  expect_near("contact n3", 90);
  EXPECT_EQ(moves(), 0u) << "placed at the SYN, yet something was moved";
}

}  // namespace
}  // namespace gecko::system_test
