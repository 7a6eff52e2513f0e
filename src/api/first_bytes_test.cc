// Policies that look at a client's first bytes, and what the group's policy changes for those of applications.
#include <gmock/gmock.h>
#include <sys/resource.h>

#include "api/test_group.hh"

namespace gecko::test {
namespace {

using testing::ElementsAre;
using namespace std::chrono_literals;

// "n2:hello" goes to n2.
struct ByName : Policy {
  std::chrono::milliseconds most{500};
  std::mutex lock;
  std::vector<std::string> seen;
  When when() const override { return When::first_bytes; }
  uint32_t first_bytes() const override { return 16; }
  std::chrono::milliseconds patience() const override { return most; }
  bool enough(std::string_view bytes) override { return bytes.find(':') != bytes.npos; }
  std::optional<std::string> select_target(const Socket& socket, const std::vector<Member>&) override {
    char buffer[64];
    const auto n = socket.peek(buffer, sizeof buffer);
    const std::string bytes(buffer, n ? *n : 0);
    const std::lock_guard guard(lock);
    seen.push_back(bytes);
    return bytes.substr(0, bytes.find(':'));
  }
};

class FirstBytes : public testing::Test {
 protected:
  Group group;
  FakeGeckod& n1 = group.node("n1");
  FakeGeckod& n2 = group.node("n2");
  Framework one = group.join("n1"), two = group.join("n2");
  ServerSocket server = group.listen(one), other = group.listen(two);
  void SetUp() override {
    ASSERT_TRUE(eventually([&] { return one.members() && one.members()->size() == 2 && one.members()->back().applications == 1; }));
  }
};

TEST_F(FirstBytes, DecideWithoutBeingConsumedAndSilentClientsHoldNobodyUp) {
  auto policy = std::make_shared<ByName>();
  one.set_policy(policy);
  Client silent(server.port()), to_two(server.port()), stays(server.port());
  to_two.send("n2:hello");
  stays.send("n1:hi");
  auto here = server.accept(Timeout(5000));
  ASSERT_TRUE(here);
  EXPECT_EQ(here->peer_name(), stays.name());
  EXPECT_EQ(read_some(*here), "n1:hi");
  auto there = other.accept(Timeout(5000));
  ASSERT_TRUE(there);
  EXPECT_EQ(there->peer_name(), to_two.name());
  EXPECT_EQ(read_some(*there), "n2:hello");
  const Time asked = monotonic_now();
  auto late = server.accept(Timeout(5000));   // the silent one, when the policy's patience is over
  ASSERT_TRUE(late);
  EXPECT_EQ(late->peer_name(), silent.name());
  EXPECT_LT(monotonic_now() - asked, 2s);
  silent.send("late");
  EXPECT_EQ(read_some(*late), "late");
  const std::lock_guard guard(policy->lock);
  EXPECT_EQ(policy->seen.size(), 3u);
  EXPECT_EQ(policy->seen.back(), "");
}

TEST_F(FirstBytes, AreWaitedForUntilThereAreEnough) {
  auto policy = std::make_shared<ByName>();
  policy->most = 30s;
  one.set_policy(policy);
  Client slow(server.port()), full(server.port()), ended(server.port());
  slow.send("n");
  full.send("0123456789abcdef");   // the limit
  ended.send("n1");
  ::shutdown(ended.fd(), SHUT_WR);
  EXPECT_TRUE(server.accept(Timeout(5000)));
  EXPECT_TRUE(server.accept(Timeout(5000)));
  EXPECT_EQ(server.accept(Timeout(100)).error().code, Errc::timeout);
  slow.send("2");
  EXPECT_EQ(server.accept(Timeout(50)).error().code, Errc::timeout);
  slow.send(":x");
  auto there = other.accept(Timeout(5000));
  ASSERT_TRUE(there);
  EXPECT_EQ(read_some(*there), "n2:x");
}

TEST_F(FirstBytes, AreLookedAtByWhoeverHasAcceptedTheClient) {
  n1.contact = false;
  n1.tell_members();
  ASSERT_TRUE(eventually([&] { return !one.members()->front().contact; }));
  one.set_policy(std::make_shared<ByName>());
  Client client(server.port());
  client.send("n2:x");
  EXPECT_TRUE(!server.accept(Timeout(100)));
  EXPECT_TRUE(other.accept(Timeout(5000)));
}

TEST_F(FirstBytes, InAnEventLoop) {
  Framework loop = group.join("n3", true);
  ServerSocket listening = group.listen(loop);
  listening.set_blocking(false);
  auto policy = std::make_shared<ByName>();
  policy->most = 200ms;
  loop.set_policy(policy);
  Client quick(listening.port()), silent(listening.port());
  EXPECT_EQ(listening.accept().error().code, Errc::again);
  quick.send("n2:x");
  size_t here = 0;
  EXPECT_TRUE(eventually([&] {
    pollfd fds[2] = {{loop.fd(), POLLIN, 0}, {listening.fd(), POLLIN, 0}};
    poll(fds, 2, 1000);
    if (fds[0].revents != 0) (void)loop.dispatch();
    while (listening.accept()) ++here;
    return here == 1;   // the silent one
  }));
  EXPECT_TRUE(other.accept(Timeout(5000)));
}

TEST_F(FirstBytes, ManySilentClientsAndOneThatSpeaks) {
  auto policy = std::make_shared<ByName>();
  policy->most = 30s;
  one.set_policy(policy);
  std::vector<std::unique_ptr<Client>> silent;
  for (int i = 0; i < 200; ++i) silent.push_back(std::make_unique<Client>(server.port()));
  EXPECT_EQ(server.accept(Timeout(50)).error().code, Errc::timeout);
  const Time before = monotonic_now();
  Client client(server.port());
  client.send("n1:x");
  EXPECT_TRUE(server.accept(Timeout(5000)));
  EXPECT_LT(monotonic_now() - before, 1s);
  for (auto& s : silent) s->send("n1:");
  for (size_t i = 0; i < silent.size(); ++i) EXPECT_TRUE(server.accept(Timeout(5000))) << i;
}

// Whoever says nothing must not use up what those that speak need: a quarter of the descriptors at most.
TEST_F(FirstBytes, OfTooManySilentClientsAreNotWaitedFor) {
  auto policy = std::make_shared<ByName>();
  policy->most = 30s;
  one.set_policy(policy);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit low{256, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  std::vector<std::unique_ptr<Client>> silent;
  for (int i = 0; i < 70; ++i) silent.push_back(std::make_unique<Client>(server.port()));
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(server.accept(Timeout(5000))) << i;
  EXPECT_EQ(server.accept(Timeout(50)).error().code, Errc::timeout);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST_F(FirstBytes, AreNotWaitedForWhenTheApplicationLeaves) {
  auto policy = std::make_shared<ByName>();
  policy->most = 30s;
  one.set_policy(policy);
  Client silent(server.port());
  EXPECT_EQ(server.accept(Timeout(50)).error().code, Errc::timeout);
  ASSERT_TRUE(one.leave());
  EXPECT_TRUE(server.accept(Timeout(5000)));
  EXPECT_EQ(one.unaccepted(), 0u);
}

// Whoever leaves is no candidate, and may end when the library has nobody in hand any more.
TEST_F(FirstBytes, SilentClientsOfWhoLeavesGoElsewhere) {
  struct First : ByName {
    std::vector<std::string> among;
    std::optional<std::string> select_target(const Socket&, const std::vector<Member>& nodes) override {
      const std::lock_guard guard(lock);
      for (const auto& node : nodes) among.push_back(node.name);
      return nodes.front().name;   // n1, as long as it is one
    }
  };
  auto policy = std::make_shared<First>();
  policy->most = 30s;
  one.set_policy(policy);
  EXPECT_EQ(one.unaccepted(), 0u);
  std::vector<std::unique_ptr<Client>> silent;
  for (int i = 0; i < 3; ++i) silent.push_back(std::make_unique<Client>(server.port()));
  EXPECT_EQ(server.accept(Timeout(50)).error().code, Errc::timeout);
  EXPECT_EQ(one.unaccepted(), 3u);
  ASSERT_TRUE(one.leave());
  for (int i = 0; i < 3; ++i) {
    auto there = other.accept(Timeout(5000));
    ASSERT_TRUE(there) << i;
  }
  EXPECT_TRUE(eventually([&] { return one.unaccepted() == 0; }));
  const std::lock_guard guard(policy->lock);
  EXPECT_THAT(policy->among, ElementsAre("n2", "n2", "n2"));
}

TEST_F(FirstBytes, OfARequestHaveTheirNode) {
  ASSERT_TRUE(one.set_builtin_policy("hash-bytes"));
  std::map<std::string, std::string> node_of;
  size_t here = 0, there = 0;
  for (int i = 0; i < 40; ++i) {
    const std::string path = "/object/" + std::to_string(i % 20);
    Client client(server.port());
    client.send("GET " + path + "?x=" + std::to_string(i) + " HTTP/1.1\r\n");
    std::optional<Socket> got;
    std::string at;
    ASSERT_TRUE(eventually([&] {
      if (auto s = server.accept(Timeout(5))) got = std::move(*s), at = "n1";
      else if (auto t = other.accept(Timeout(5))) got = std::move(*t), at = "n2";
      return got.has_value();
    }));
    EXPECT_TRUE(read_some(*got).starts_with("GET " + path));
    (at == "n1" ? here : there) += 1;
    if (node_of.contains(path)) {
      EXPECT_EQ(node_of[path], at) << path;
    }
    node_of[path] = at;
  }
  EXPECT_GE(here, 6u);
  EXPECT_GE(there, 6u);
}

// What the group file's policy means for applications.
class Placed : public testing::Test {
 protected:
  void start(const std::string& policy, bool at_syn, bool n2_serves = true) {
    wire::Placement placement{policy, at_syn, 64, 300, {{3, true, {80}}, {1, true, n2_serves ? std::vector<uint16_t>{80} : std::vector<uint16_t>{}}}};
    group.node("n1").placement = placement;
    (void)group.node("n2");
    one = group.join("n1");
    two = group.join("n2");
    ASSERT_TRUE(eventually([&] { return one.members() && one.members()->size() == 2 && one.members()->back().applications == 1; }));
    server = group.listen(one);
    other = group.listen(two);
  }
  Group group;
  Framework one, two;
  ServerSocket server, other;
};

TEST_F(Placed, BuiltInPoliciesDoNotPlaceAgainWhatTheSynHasPlaced) {
  start("round-robin", true);
  one.set_policy(std::make_shared<RoundRobin>());
  for (int i = 0; i < 4; ++i) {
    Client client(server.port());
    EXPECT_TRUE(server.accept(Timeout(5000)));
  }
  ASSERT_TRUE(one.set_builtin_policy("random"));
  for (int i = 0; i < 8; ++i) {
    Client client(server.port());
    EXPECT_TRUE(server.accept(Timeout(5000)));
  }
  EXPECT_EQ(group.node("n1").recorded(ApiType::handoff), 0u);
  // One that looks at bytes knows more than the SYN did.
  one.set_policy(std::make_shared<ByName>());
  Client client(server.port());
  client.send("n2:x");
  EXPECT_FALSE(server.accept(Timeout(100)));
  EXPECT_TRUE(other.accept(Timeout(5000)));
}

TEST_F(Placed, TheGroupsHashBytesIsCarriedOutByTheLibrary) {
  start("hash-bytes", true);
  size_t there = 0;
  for (int i = 0; i < 12; ++i) {
    Client client(server.port());
    client.send("key " + std::to_string(i) + "\n");
    EXPECT_TRUE(eventually([&] {
      if (server.accept(Timeout(5))) return true;
      if (!other.accept(Timeout(5))) return false;
      ++there;
      return true;
    }));
  }
  EXPECT_GE(there, 1u);
  EXPECT_LE(there, 9u) << "its weight is a quarter";
  Client silent(server.port());   // stays where the SYN has put it
  EXPECT_TRUE(server.accept(Timeout(5000)));
}

TEST_F(Placed, WeightsAndPortsAreKnown) {
  start("none", false, false);
  const auto members = one.members();
  ASSERT_TRUE(members);
  EXPECT_EQ(members->front().weight, 3u);
  EXPECT_EQ(members->back().weight, 1u);
  const auto on = one.members_on(80);
  ASSERT_TRUE(on);
  EXPECT_EQ(on->front().applications, 1u);
  EXPECT_EQ(on->back().applications, 0u) << "it serves another port";
  EXPECT_EQ(one.members_on(12345)->back().applications, 1u) << "not a port of the group: any application";
}

TEST(Policies, WeightedIsExactAndOldProgramsWeighOne) {
  std::vector<Member> members(2);
  members[0].name = "a";
  members[0].weight = 3;
  members[1].name = "b";
  Weighted weighted;
  Socket none(nullptr);
  std::string order;
  for (int i = 0; i < 8; ++i) order += *weighted.select_target(none, members);
  EXPECT_EQ(std::count(order.begin(), order.end(), 'a'), 6) << order;
  members[0].weight = members[1].weight = 0;
  order.clear();
  for (int i = 0; i < 8; ++i) order += *weighted.select_target(none, members);
  EXPECT_EQ(std::count(order.begin(), order.end(), 'a'), 4) << order;
}

}  // namespace
}  // namespace gecko::test
