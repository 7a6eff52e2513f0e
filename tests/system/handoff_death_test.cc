// Who takes a connection dies before it comes to life there, or before anybody has a mirror of it there, and after its donor has let it go for good: the
// donor takes it up again (docs/adr/0032). Where the dead one was the contact nobody else has heard where it went; two tables that send it to each other
// would leave its client hanging.
#include <algorithm>
#include <thread>

#include "recovery_scene.hh"

namespace gecko::system_test {
namespace {

struct How {
  const char *name, *recovery, *contact;
  bool hears = false;   // it takes the connection, and nobody hears a word of it
};

class HandoffIntoADeath : public RecoveryTest, public ::testing::WithParamInterface<How> {
 protected:
  // One connection, which n2 had once, from n3 to n1, whose cable is pulled `after` so long. It speaks, or has ended: how many have.
  size_t hand_off(kit::PingClient& client, Duration after) {
    kit::Operator other(lab());
    EXPECT_TRUE(other.ask("n3", {{"op", "status"}}));   // connected
    const Time asked = monotonic_now();
    std::thread operating([&] { (void)other.handoff("n3", local(client).str(), "n1", 5s); });
    std::this_thread::sleep_until(asked + after);
    if (!GetParam().hears) {
      EXPECT_TRUE(faults().cut("n1"));
    } else {
      for (const char* host : {"n2", "n3", "client"}) EXPECT_TRUE(faults().link("n1", host, {.loss_ppm = lab::kMillion}, true));
    }
    operating.join();
    return all_speak({&client}, 15s);
  }
  bool has_event(const std::string& node, const char* kind, const std::string& client, const char* to) {
    const auto answer = ask().ask(node, {{"op", "events"}, {"since", 0}});
    return answer && std::ranges::any_of((*answer)["events"], [&](const auto& e) {
      return e.value("client", "") == client && e.value("kind", "") == kind && (to == nullptr || (e.value("to", "") == to && e.value("result", "") == "moved"));
    });
  }
};

TEST_P(HandoffIntoADeath, ItsConnectionGoesOn) {
  begin({.name = "hid", .recovery = GetParam().recovery});
  size_t met = 0;
  for (int round = 0; round < 6 && met < 1; ++round) {
    ASSERT_TRUE(begins_with_contact(GetParam().contact));
    ASSERT_TRUE(ask().wait_applications(2, 5s));
    auto& client = ping(2ms);
    ASSERT_TRUE(progresses(client));
    const std::string from = local(client).str();
    for (const char* node : {"n2", "n3"}) ASSERT_NO_FATAL_FAILURE(move(local(client), node));
    ASSERT_TRUE(faults().link("n3", "n1", {.delay_us = 10'000}, true));   // of prepare, state and commit: the last one is under way from 20 to 30 ms
    ASSERT_TRUE(everybody_is_member()) << membership("n1");
    ASSERT_NO_FATAL_FAILURE(all_protected("n3"));
    const size_t ended = hand_off(client, 26ms);
    const bool never_came = has_event("n3", "handoff", from, "n1") && (GetParam().hears || !has_event("n1", "arrival", from, nullptr));
    met += never_came;
    if (never_came || GetParam().recovery == std::string("replicated")) {
      EXPECT_EQ(ended, 0u) << "its donor knew all of it";
    } else {
      may_be_lost += ended;
    }
    if (!GetParam().hears) {
      ASSERT_TRUE(faults().heal("n1"));
    }
    ASSERT_TRUE(faults().unlink_all());
    ASSERT_TRUE(everybody_is_member()) << membership("n1");
    swarm_->call([&] { client.wind_down(); });
  }
  EXPECT_GE(met, 1u) << "INVALID: no commit was under way";
}

INSTANTIATE_TEST_SUITE_P(, HandoffIntoADeath,
                         ::testing::Values(How{"FastFromTheDonorToTheContact", "fast", "n1"}, How{"ReplicatedFromTheDonorToTheContact", "replicated", "n1"},
                                           How{"ReplicatedBesideTheContact", "replicated", "n2"}, How{"ReplicatedFromTheContact", "replicated", "n3"},
                                           How{"ReplicatedToOneWhomNobodyHears", "replicated", "n1", true}),
                         [](const auto& how) { return how.param.name; });

}  // namespace
}  // namespace gecko::system_test
