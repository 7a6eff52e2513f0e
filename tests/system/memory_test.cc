// A node whose processes get no more memory and die of it: its clients go on somewhere, once, or are told, and it comes back.
#include <algorithm>

#include "memory_squeeze.hh"
#include "recovery_scene.hh"

namespace gecko::system_test {
namespace {

constexpr uint64_t kRoom = 16u << 20;   // for what the node allocates from then on, and the neighbour

class Memory : public RecoveryTest {
 protected:
  void begin() {
    RecoveryTest::begin({.name = "mem", .recovery = "replicated"});
    for (int i = 0; i < 4; ++i) clients_.push_back(&ping(2ms));
    for (int i = 0; i < 3; ++i) clients_.push_back(&echo(2ms));
    ASSERT_NO_FATAL_FAILURE(connected());
    ASSERT_TRUE(eventually([&] {
      const auto moved = ask().handoff("n1", client_address(), "n2");
      return moved && moved->refused == 0;
    }));
    ASSERT_NO_FATAL_FAILURE(all_protected("n2"));
  }
  std::unique_ptr<MemorySqueeze> squeeze() {
    auto made = MemorySqueeze::begin(scene().processes("n2"), kRoom);
    if (made) return std::move(*made);
    why_not_ = made.error();
    return nullptr;
  }
  // By how many nodes each connection is claimed at the same time: never two. One node after the other is asked, so a move between is looked at twice.
  bool owned_twice() {
    for (int look = 0; look < 3; ++look) {
      std::set<std::string> seen;
      bool twice = false;
      for (const auto& node : scene().nodes())
        if (const auto rows = ask().ask(node, {{"op", "connections"}}, 1s))
          for (const auto& row : (*rows)["connections"]) twice = !seen.insert(row.value("client", "")).second || twice;
      if (!twice) return false;
    }
    return true;
  }
  std::vector<kit::Client*> clients_;
  Error why_not_{};
};

TEST_F(Memory, ANodeThatDiesOfItEndsLikeAnyOther) {
  ASSERT_NO_FATAL_FAILURE(begin());
  EXPECT_GT(std::stoul("0" + status_line(lease_keeper(lab(), "n2"), "VmLck")), 0u) << "the lease keeper can be swapped out";
  may_be_lost = clients_.size();   // of a program that dies alone the clients are told
  auto pressure = squeeze();
  if (!pressure && why_not_.code == Errc::unsupported) GTEST_SKIP() << why_not_.message;
  ASSERT_TRUE(pressure) << why_not_.message;
  const auto killed = [&] {
    const auto now = scene().processes("n2");
    return now.size() < 5;   // two halves, lease keeper, two programs
  };
  ASSERT_TRUE(eventually(killed, 20s)) << "INVALID: nobody died";
  for (auto* client : clients_) EXPECT_TRUE(eventually([&] { return done(*client) || progresses(*client, 1s); }, 25s)) << local(*client).str() << " hangs";
  EXPECT_FALSE(owned_twice());
  pressure.reset();
  // What is left of the node ends, and it comes back.
  kill_at_once(scene().processes("n2"));
  ASSERT_NO_FATAL_FAILURE(start_geckod("n2"));
  EXPECT_TRUE(eventually([&] { return is_member("n2") && leases("n2"); }, 20s)) << status("n2");
  for (const auto& node : scene().nodes()) EXPECT_EQ(members(node), (Names{"n1", "n2", "n3"})) << node;
}

}  // namespace
}  // namespace gecko::system_test
