// A group whose every cable delays, loses and reorders packets (gecko lab link): no client may see more of it than time.
#include "fault_scene.hh"

namespace gecko::system_test {
namespace {

class BadCables : public FaultTest {
 protected:
  void SetUp() override { set_up({.name = "cables", .nodes = 2}); }
};

TEST_F(BadCables, EchoesAreRightWhileConnectionsMove) {
  for (const auto& [one, other] : {std::pair("client", "n1"), std::pair("client", "n2"), std::pair("n1", "n2")}) {
    const auto linked =
        lab().link(one, other, {.delay_us = 1'000, .jitter_us = 500, .loss_ppm = 20'000, .duplicate_ppm = 5'000, .reorder_ppm = 20'000});
    ASSERT_TRUE(linked) << linked.error().message;
  }
  std::vector<kit::EchoClient*> clients;
  for (int i = 0; i < 4; ++i) clients.push_back(&echo());
  connected();
  const auto echoed = [&](kit::Client& client) {
    uint64_t bytes = 0;
    swarm_->call([&] { bytes = client.totals().bytes_received; });
    return bytes;
  };
  int moves = 0;
  for (int round = 0; round < 6; ++round)
    for (auto* client : clients) {
      const std::string from = owner(local(*client)), to = from == "n1" ? "n2" : "n1";
      if (const auto moved = ask().handoff(from, local(*client).str(), to))
        moves += moved->moved == 1;  // on cables like these some are refused in time
      const uint64_t before = echoed(*client);
      EXPECT_TRUE(eventually([&] { return echoed(*client) > before + 100'000; }, 20s)) << "a client hangs after its move to " << to;
    }
  EXPECT_GE(moves, 12) << "INVALID: too few handoffs to prove anything";
  const auto links = lab().links();
  ASSERT_TRUE(links) << links.error().message;
  ASSERT_EQ(links->size(), 6u);
  for (const auto& link : *links) {
    if (link.direction == lab::Direction{"client", "n2"}) continue;  // the contact's cable has them
    EXPECT_GE(link.counters.lost, 10u) << link.direction.from << " to " << link.direction.to;
    EXPECT_GE(link.counters.reordered, 10u) << link.direction.from << " to " << link.direction.to;
  }
  ASSERT_TRUE(lab().unlink_all());  // what is under way ends in time
}

}  // namespace
}  // namespace gecko::system_test
