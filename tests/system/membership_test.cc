// Who is a member, with real geckods: views, leases and the contact role under deaths, stops, cuts, restarts and a full disk. The decisions are
// simulated far wider in tests/sim/membership; here it is what carries them out.
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "fault_scene.hh"
#include "lab/net_namespace.hh"

namespace gecko::system_test {
namespace {

class MembershipScene : public FaultTest {
 protected:
  void SetUp() override { begin({.name = "mbr"}); }
  void begin(const kit::SceneOptions& options) {
    ASSERT_NO_FATAL_FAILURE(set_up(options));
    Names all;
    for (const auto& node : scene().nodes()) all.insert(node);
    for (const auto& node : all)
      ASSERT_TRUE(eventually([&] { return members(node) == all && is_member(node) && leases(node); }, 20s)) << membership(node);
  }
  uint64_t epoch(const std::string& via) {
    const auto m = membership(via);
    return m.contains("view") && !m["view"].is_null() ? m["view"]["epoch"].get<uint64_t>() : 0;
  }
  // All processes of geckod: the node is dead, its applications and its kernel live.
  void kill_all(const std::string& node) {
    auto pids = geckods(node);
    pids.push_back(lease_keeper(lab(), node));
    kill_at_once(pids);
  }
  static double ms(Duration d) { return std::chrono::duration<double, std::milli>(d).count(); }
};

TEST_F(MembershipScene, ThreeNodesFormOneView) {
  for (const std::string node : {"n1", "n2", "n3"}) {
    EXPECT_EQ(members(node), (Names{"n1", "n2", "n3"})) << node;
    EXPECT_EQ(epoch(node), epoch("n1"));
    EXPECT_EQ(contact(node), "n1");
    EXPECT_EQ(status(node)["verdict"], "ok") << status(node).dump();
  }
}

TEST_F(MembershipScene, AKilledNodeIsRemovedAndComesBackWithANewLife) {
  std::vector<double> took;
  for (int round = 0; round < 5; ++round) {
    const std::string before = life("n3");
    const Time begun = monotonic_now();
    kill_all("n3");
    ASSERT_TRUE(eventually([&] { return members("n1") == Names{"n1", "n2"}; })) << membership("n1");
    took.push_back(ms(monotonic_now() - begun));
    ASSERT_TRUE(eventually([&] { return members("n2") == Names{"n1", "n2"}; }));
    ASSERT_NO_FATAL_FAILURE(start_geckod("n3"));
    ASSERT_TRUE(everybody_is_member()) << membership("n3");
    EXPECT_NE(life("n3"), before);
  }
  std::sort(took.begin(), took.end());
  std::printf("kill -9 of all of geckod until the others' view is without it: median %.0f ms, worst %.0f ms\n", took[took.size() / 2], took.back());
  EXPECT_LT(took[took.size() / 2], 200);
}

TEST_F(MembershipScene, AnotherActsWhenTheContactDies) {
  auto& client = ping(2ms, true);
  connected();
  move(local(client), "n3");   // what the contact owned dies with it
  ASSERT_EQ(contact("n2"), "n1");
  const Time begun = monotonic_now();
  ASSERT_TRUE(faults().cut("n1"));
  kill_all("n1");
  ASSERT_TRUE(eventually([&] { return contact("n2") == "n2"; }));
  std::printf("contact dead until another acts: %.0f ms\n", ms(monotonic_now() - begun));
  EXPECT_TRUE(progresses(client)) << "the new contact does not answer for the address";
  std::printf("contact dead until a client of another node goes on: %.0f ms\n", ms(monotonic_now() - begun));
  ASSERT_TRUE(faults().heal("n1"));
  ASSERT_NO_FATAL_FAILURE(start_geckod("n1"));
  ASSERT_TRUE(everybody_is_member());
  EXPECT_EQ(contact("n1"), "n2") << "the role does not flap back";
  // An operator's wish.
  ASSERT_TRUE(ask().ask("n3", {{"op", "contact"}, {"node", "n3"}}));
  for (const std::string node : {"n1", "n2", "n3"}) EXPECT_TRUE(eventually([&] { return contact(node) == "n3"; })) << node;
  EXPECT_TRUE(progresses(client));
}

TEST_F(MembershipScene, ARestartedGeckodGoesOnWithItsLife) {
  const std::string before = life("n2");
  const uint64_t view = epoch("n1");
  const pid_t keeper = lease_keeper(lab(), "n2");
  for (int round = 0; round < 3; ++round) {
    kill_geckod("n2");
    ASSERT_NO_FATAL_FAILURE(start_geckod("n2"));
    ASSERT_TRUE(eventually([&] { return is_member("n2") && leases("n2"); })) << membership("n2");
    EXPECT_EQ(life("n2"), before);
  }
  EXPECT_EQ(lease_keeper(lab(), "n2"), keeper);
  EXPECT_EQ(epoch("n1"), view) << "it was removed";
  EXPECT_EQ(logged("n2", "the lease of this node has ended"), 0u);
}

TEST_F(MembershipScene, AGeckodThatStaysAwayEndsTheLife) {
  kill_geckod("n3");
  const pid_t keeper = lease_keeper(lab(), "n3");
  ASSERT_GT(keeper, 0);
  // restart_grace is 5 s.
  EXPECT_TRUE(eventually([&] { return lease_keeper(lab(), "n3") < 0; }, 8s));
  EXPECT_TRUE(eventually([&] { return members("n1") == Names{"n1", "n2"}; }, 2s)) << membership("n1");
  ASSERT_NO_FATAL_FAILURE(start_geckod("n3"));
  EXPECT_TRUE(everybody_is_member());
}

// Its keeper was made for another group file.
TEST_F(MembershipScene, AGeckodWithOtherHeartbeatsReplacesTheKeeper) {
  const std::string before = life("n3");
  const pid_t keeper = lease_keeper(lab(), "n3");
  {
    std::ofstream file(lab().group_file(), std::ios::app);
    file << "\n[membership]\nheartbeat = \"9ms\"\n";
  }
  kill_geckod("n3");
  ASSERT_NO_FATAL_FAILURE(start_geckod("n3"));
  ASSERT_TRUE(everybody_is_member()) << membership("n3");
  EXPECT_NE(life("n3"), before);
  EXPECT_NE(lease_keeper(lab(), "n3"), keeper);
}

TEST_F(MembershipScene, TheKeepersDeathIsANewLife) {
  const std::string before = life("n2");
  kill_process(lease_keeper(lab(), "n2"));
  ASSERT_TRUE(eventually([&] { return is_member("n2") && leases("n2") && life("n2") != before; })) << membership("n2");
  EXPECT_EQ(before.substr(0, 11), life("n2").substr(0, 11)) << "the disk is the same";
  EXPECT_TRUE(everybody_is_member());
}

TEST_F(MembershipScene, AStoppedNodeIsExpelledAndJoinsAgain) {
  const std::string before = life("n3");
  ASSERT_TRUE(faults().pause("n3"));
  EXPECT_TRUE(eventually([&] { return members("n1") == Names{"n1", "n2"}; })) << membership("n1");
  std::this_thread::sleep_for(3s);   // longer than anything that is waited for
  ASSERT_TRUE(faults().resume("n3"));
  ASSERT_TRUE(everybody_is_member()) << membership("n3");
  EXPECT_NE(life("n3"), before);
  EXPECT_GE(logged("n3", "have gone on without this node"), 1u);
}

TEST_F(MembershipScene, ACutNodeHasNoLeaseAndJoinsAgainWhenItIsHealed) {
  ASSERT_TRUE(faults().cut("n3"));
  EXPECT_TRUE(eventually([&] { return members("n1") == Names{"n1", "n2"}; })) << membership("n1");
  EXPECT_TRUE(eventually([&] { return !leases("n3"); })) << "a node that nobody answers believes that it owns";
  EXPECT_EQ(status("n3")["verdict"], "down");
  const uint64_t old = epoch("n3");
  EXPECT_LT(old, epoch("n1"));
  ASSERT_TRUE(faults().heal("n3"));
  ASSERT_TRUE(everybody_is_member()) << membership("n3");
  EXPECT_GT(epoch("n3"), old);
}

TEST_F(MembershipScene, AForgedHeartbeatIsRefused) {
  const std::string before = life("n1");
  const uint64_t view = epoch("n1");
  const auto forged = lab().inside("n2", [&]() -> Status {
    const Fd socket(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage to{};
    const auto* n1 = lab().find("n1");
    const socklen_t size = Endpoint{n1->address, 7470}.to_sockaddr(to);
    std::array<uint8_t, 128> datagram{'G', 'H', 'B', 1, 1, 2, 3, 4, 1};
    for (int i = 0; i < 50; ++i)
      if (::sendto(socket.get(), datagram.data(), datagram.size() - (i % 2), 0, reinterpret_cast<const sockaddr*>(&to), size) < 0) return os_error("send");
    return {};
  });
  ASSERT_TRUE(forged) << forged.error().message;
  EXPECT_TRUE(eventually([&] { return logged("n1", "refused (") >= 1; }));
  EXPECT_EQ(life("n1"), before);
  EXPECT_EQ(epoch("n1"), view);
}

// Who records a node's heartbeats cannot keep its life going with them.
TEST_F(MembershipScene, ADeadNodesHeartbeatsSentAgainDoNotKeepItAlive) {
  using Datagram = std::array<uint8_t, 128>;
  std::vector<Datagram> recorded;
  const auto* n1 = lab().find("n1");
  const auto* n2 = lab().find("n2");
  ASSERT_TRUE(lab().inside("n1", [&]() -> Status {
    const Fd socket(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_UDP));
    if (!socket) return os_error("listen");
    const Time until = monotonic_now() + 5s;
    while (recorded.size() < 200 && monotonic_now() < until) {
      std::array<uint8_t, 8 + 128> packet{};   // with its UDP header
      sockaddr_in6 from{};
      socklen_t size = sizeof from;
      const ssize_t n = ::recvfrom(socket.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (n != static_cast<ssize_t>(packet.size()) || std::memcmp(&from.sin6_addr, n2->address.bytes.data(), 16) != 0) continue;
      std::copy(packet.begin() + 8, packet.end(), recorded.emplace_back().begin());
    }
    return {};
  }));
  ASSERT_EQ(recorded.size(), 200u);
  kill_all("n2");
  const Time begun = monotonic_now();
  ASSERT_TRUE(lab().inside("n2", [&]() -> Status {
    const Fd socket(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage to{};
    const socklen_t size = Endpoint{n1->address, 7470}.to_sockaddr(to);
    for (int i = 0; i < 20; ++i)
      for (const auto& datagram : recorded)
        if (::sendto(socket.get(), datagram.data(), datagram.size(), 0, reinterpret_cast<const sockaddr*>(&to), size) < 0) return os_error("send");
    return {};
  }));
  EXPECT_TRUE(eventually([&] { return members("n1") == Names{"n1", "n3"}; })) << membership("n1");
  EXPECT_LT(monotonic_now() - begun, 1s);
  EXPECT_TRUE(eventually([&] { return logged("n1", "a heartbeat that has come before") >= 1; }));
}

TEST_F(MembershipScene, ARemovedNodeStaysAwayUntilItIsAskedToJoin) {
  ASSERT_EQ(contact("n1"), "n1");
  ASSERT_TRUE(ask().ask("n3", {{"op", "member"}, {"action", "remove"}, {"nodes", {"n1"}}}));
  ASSERT_TRUE(eventually([&] { return members("n1") == Names{"n2", "n3"} && members("n3") == Names{"n2", "n3"}; }, 1s)) << membership("n1");
  // Longer than a node waits before it asks again, and than one without a lease follows the view's contact if it does not reach the members.
  std::this_thread::sleep_for(1600ms);
  EXPECT_EQ(members("n3"), (Names{"n2", "n3"}));
  for (const std::string node : {"n1", "n2", "n3"}) EXPECT_EQ(contact(node), "n2");
  // A node that is no member hears who the contact is.
  ASSERT_TRUE(ask().ask("n2", {{"op", "contact"}, {"node", "n3"}}));
  EXPECT_TRUE(eventually([&] { return contact("n1") == "n3"; })) << contact("n1");
  ASSERT_TRUE(ask().ask("n1", {{"op", "member"}, {"action", "join"}}));
  EXPECT_TRUE(everybody_is_member()) << membership("n1");
}

TEST_F(MembershipScene, AnOperatorSaysThatTheMajorityIsDead) {
  may_be_lost = 1;
  auto& client = ping();
  connected();
  std::vector<pid_t> both{lease_keeper(lab(), "n2"), lease_keeper(lab(), "n3")};
  for (const char* node : {"n2", "n3"})
    for (const pid_t pid : geckods(node)) both.push_back(pid);
  kill_at_once(both);   // one after the other would leave a view of two
  ASSERT_TRUE(eventually([&] { return !leases("n1"); }));
  EXPECT_EQ(members("n1").size(), 3u) << "one of three decides nothing";
  EXPECT_TRUE(progresses(client)) << "a group that recovers nothing serves on";
  EXPECT_TRUE(eventually([&] { return contact("n1") == "n1"; }));
  ASSERT_TRUE(ask().ask("n1", {{"op", "member"}, {"action", "dead"}, {"nodes", {"n2", "n3"}}}));
  EXPECT_TRUE(eventually([&] { return members("n1") == Names{"n1"} && leases("n1"); })) << membership("n1");
  for (const char* node : {"n2", "n3"}) ASSERT_TRUE(faults().start(node));
  EXPECT_TRUE(everybody_is_member()) << membership("n2");
}

// The state file's disk is full: whoever cannot store a promise makes none, and the others do not need it.
TEST_F(MembershipScene, AFullDiskTakesANodesVoteAndSaysSo) {
  kill_all("n3");
  ASSERT_TRUE(eventually([&] { return members("n1") == Names{"n1", "n2"}; }));
  const std::string directory = lab().directory() + "/n3/state";
  ASSERT_EQ(::mount("gecko-test", directory.c_str(), "tmpfs", 0, "size=4k"), 0) << std::strerror(errno);   // one page: the second write finds no room
  ASSERT_TRUE(faults().start("n3"));
  EXPECT_TRUE(eventually([&] { return membership("n3").value("trouble", "").find("No space left") != std::string::npos; })) << membership("n3");
  EXPECT_FALSE(membership("n3").value("voting", true));
  EXPECT_EQ(status("n3")["verdict"], "degraded");
  // The two others decide without it.
  kill_process(lease_keeper(lab(), "n2"));
  EXPECT_TRUE(eventually([&] { return is_member("n2") && leases("n2"); })) << membership("n2");
  ASSERT_EQ(::mount("gecko-test", directory.c_str(), "tmpfs", MS_REMOUNT, "size=1m"), 0) << std::strerror(errno);
  EXPECT_TRUE(everybody_is_member()) << membership("n3");
  kill_all("n3");
  EXPECT_EQ(::umount2(directory.c_str(), MNT_DETACH), 0);
}

class TwoNodes : public MembershipScene {
 protected:
  void SetUp() override { begin({.name = "mb2", .nodes = 2}); }
};

TEST_F(TwoNodes, SafeGoesOnWithWhatItHasAndChangesNothing) {
  kill_all("n1");
  EXPECT_TRUE(eventually([&] { return contact("n2") == "n2"; })) << "the role needs nobody else's vote";
  std::this_thread::sleep_for(500ms);
  EXPECT_EQ(members("n2"), (Names{"n1", "n2"}));
  EXPECT_TRUE(leases("n2"));
  ASSERT_NO_FATAL_FAILURE(start_geckod("n1"));
  EXPECT_TRUE(everybody_is_member()) << membership("n1");
}

class TwoNodesAvailable : public MembershipScene {
 protected:
  void SetUp() override { begin({.name = "mba", .nodes = 2, .two_available = true}); }
};

TEST_F(TwoNodesAvailable, AvailableGoesOnAlone) {
  const Time begun = monotonic_now();
  kill_all("n1");
  ASSERT_TRUE(eventually([&] { return members("n2") == Names{"n2"} && leases("n2"); })) << membership("n2");
  std::printf("one of two dead until the other goes on alone: %.0f ms\n", ms(monotonic_now() - begun));
  EXPECT_EQ(contact("n2"), "n2");
  ASSERT_NO_FATAL_FAILURE(start_geckod("n1"));
  EXPECT_TRUE(everybody_is_member()) << membership("n1");
}

}  // namespace
}  // namespace gecko::system_test
