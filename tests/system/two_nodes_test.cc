// A group of two nodes that recovers (docs/guarantees.md): `safe`, nothing changes hands without both; `available`, one goes on alone with everything.
#include <algorithm>
#include <thread>

#include "protected_scene.hh"

namespace gecko::system_test {
namespace {

class TwoNodesServe : public ProtectedScene {
 protected:
  void serve_at_both() {
    ASSERT_NO_FATAL_FAILURE(serve("n2", 8, 4));
    judge_speakers();
    for (size_t i = 0; i < 4; ++i) ASSERT_NO_FATAL_FAILURE(move(local(*talking_[i]), "n1"));
    for (size_t i = 0; i < 2; ++i) ASSERT_NO_FATAL_FAILURE(move(local(*resting_[i]), "n1"));
    ASSERT_NO_FATAL_FAILURE(all_protected("n1"));
    ASSERT_NO_FATAL_FAILURE(all_protected("n2"));
    ASSERT_EQ(contact("n1"), "n1");
    ASSERT_NO_FATAL_FAILURE(listen());
    for (auto* client : talking_) ASSERT_TRUE(progresses(*client)) << "INVALID: " << local(*client).str() << " does not talk";
    owner_ = "n1";
    life_ = life("n1");
  }
  // n1 is dead, and nobody may know for certain: what n2 had goes on there, what n1 had waits.
  void the_other_waits() {
    EXPECT_TRUE(eventually([&] { return contact("n2") == "n2"; }));
    for (size_t i = 4; i < talking_.size(); ++i) EXPECT_TRUE(progresses(*talking_[i])) << "the living node's own: " << local(*talking_[i]).str();
    const Time until = monotonic_now() + 1s;   // ten times what `available` waits
    while (monotonic_now() < until) {
      EXPECT_TRUE(leases("n2"));
      EXPECT_EQ(recovered({"n2"}), 0u) << "it has changed hands without its owner's vote";
      if (HasFailure()) return;
      std::this_thread::sleep_for(50ms);
    }
    EXPECT_EQ(members("n2"), (Names{"n1", "n2"}));
    for (size_t i = 0; i < 4; ++i) EXPECT_FALSE(done(*talking_[i])) << "given up although its owner may come back: " << totals(*talking_[i]).first_failure;
  }
};

TEST_F(TwoNodesServe, SafeADeadNodesConnectionsWaitForItAndGoOn) {
  begin("fast", 2);
  ASSERT_NO_FATAL_FAILURE(serve_at_both());
  ASSERT_TRUE(faults().kill("n1"));
  the_other_waits();
  ASSERT_NO_FATAL_FAILURE(start_geckod("n1"));
  EXPECT_TRUE(eventually([&] { return recovered({"n2"}) >= 6; }, 20s)) << recoveries("n2") << membership("n2");
  EXPECT_LE(settle(), 1u);
  whole();
  say("safe: one of two nodes dies and comes back");
}

TEST_F(TwoNodesServe, SafeADeadNodesConnectionsGoOnWhenTheOperatorSaysThatItIs) {
  begin("fast", 2);
  ASSERT_NO_FATAL_FAILURE(serve_at_both());
  ASSERT_TRUE(faults().kill("n1"));
  the_other_waits();
  ASSERT_TRUE(ask().ask("n2", {{"op", "member"}, {"action", "dead"}, {"nodes", {"n1"}}}));
  EXPECT_TRUE(eventually([&] { return members("n2") == Names{"n2"} && recovered({"n2"}) >= 6; }, 10s)) << recoveries("n2") << membership("n2");
  EXPECT_LE(settle(), 1u);
  say("safe: the operator says that one of two nodes is dead");
}

// They reach the client, and not each other.
TEST_F(TwoNodesServe, SafeACutBetweenTheTwoLosesNothing) {
  begin("fast", 2);
  ASSERT_NO_FATAL_FAILURE(serve_at_both());
  const std::string other = life("n2");
  ASSERT_TRUE(faults().link("n1", "n2", {.loss_ppm = 1'000'000}));
  EXPECT_TRUE(eventually([&] {
    return std::ranges::any_of(events("n2", "suspicion"), [](const auto& event) { return event.value("peer", "") == "n1"; });
  })) << "INVALID: nobody has noticed";
  std::this_thread::sleep_for(2s);   // the fault's length
  ASSERT_TRUE(faults().unlink_all());
  EXPECT_EQ(settle(20s), 0u) << "both owners have lived all the time";
  whole();
  EXPECT_EQ(life("n1"), life_);
  EXPECT_EQ(life("n2"), other);
  EXPECT_EQ(recovered({"n1", "n2"}), 0u);
  say("safe: a cut between two living nodes");
}

class TwoNodesAvailableServe : public TwoNodesServe, public ::testing::WithParamInterface<const char*> {};
std::string victim(const ::testing::TestParamInfo<const char*>& p) { return p.param; }
INSTANTIATE_TEST_SUITE_P(, TwoNodesAvailableServe, ::testing::Values("n1", "n2"), victim);   // the contact, the other one

TEST_P(TwoNodesAvailableServe, TheLivingOneTakesEverything) {
  begin("fast", 2, true);
  ASSERT_NO_FATAL_FAILURE(serve(GetParam()));
  const std::string alone = others(GetParam()).front();
  ASSERT_TRUE(faults().kill(GetParam()));
  recovered_elsewhere();
  EXPECT_EQ(members(alone), (Names{alone}));
  EXPECT_EQ(contact(alone), alone);
  ASSERT_NO_FATAL_FAILURE(start_geckod(GetParam()));
  whole();
  say(std::string("available: ") + GetParam() + " of two nodes dies");
}

}  // namespace
}  // namespace gecko::system_test
