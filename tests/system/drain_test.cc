// Nodes are emptied of live connections under load: nobody notices, new ones go elsewhere, the others confirm that it is done.
#include <signal.h>

#include "fault_scene.hh"

namespace gecko::system_test {
namespace {

class DrainTest : public FaultTest {
 protected:
  void load(size_t count) {
    for (size_t i = 0; i < count; ++i) clients_.push_back(i % 2 == 0 ? static_cast<kit::Client*>(&ping(1ms)) : &echo(1ms));
    connected();
  }
  // An operation of `gecko drain` at `via`. The answer, or an object with "message" and "code".
  nlohmann::json drain(const std::string& via, const std::string& node, const char* action, bool force = false) {
    auto answer = ask().ask(via, {{"op", "drain"}, {"node", node}, {"action", action}, {"force", force}});
    return answer ? *answer : nlohmann::json{{"error", answer.error().message}};
  }
  bool drained(const std::string& via, const std::string& node, Duration at_most = 5s) {
    return eventually([&] { return drain(via, node, "look").value("done", false); }, at_most);
  }
  size_t at(const std::string& node) {
    const auto rows = ask().ask(node, {{"op", "connections"}});
    return rows ? (*rows)["connections"].size() : 0;
  }
  void all_speak() {
    for (auto* client : clients_) EXPECT_TRUE(progresses(*client)) << local(*client).str();
  }
  std::string contact(const std::string& via) { return status(via)["groups"][0].value("contact", ""); }

  std::vector<kit::Client*> clients_;
};

TEST_F(DrainTest, EmptiesTheContactOfItsLiveConnectionsAndTheOthersConfirm) {
  load(40);
  ASSERT_EQ(at("n1"), 40u) << "policy none: all are at the contact";
  const auto plan = drain("n2", "n1", "look");
  EXPECT_EQ(plan.value("connections", 0), 40) << plan.dump();
  EXPECT_EQ(plan.value("movable", 0), 40);
  EXPECT_FALSE(plan.value("draining", true));
  EXPECT_EQ(at("n1"), 40u) << "looking moved something";

  const auto begun = drain("n2", "n1", "start");   // from another node
  ASSERT_TRUE(begun.value("draining", false)) << begun.dump();
  ASSERT_TRUE(drained("n2", "n1")) << drain("n2", "n1", "look").dump();
  const auto end = drain("n3", "n1", "look");
  EXPECT_EQ(end["moved"], 40) << end.dump();
  EXPECT_EQ(end["connections"], 0);
  EXPECT_EQ(end["confirmed"], (nlohmann::json{"n2", "n3"}));
  EXPECT_EQ(at("n1"), 0u);
  EXPECT_EQ(at("n2") + at("n3"), 40u);
  EXPECT_NE(contact("n2"), "n1");
  all_speak();

  load(10);   // new ones
  EXPECT_EQ(at("n1"), 0u);
  EXPECT_EQ(at("n2") + at("n3"), 50u);
  EXPECT_TRUE(drain("n1", "n1", "look").value("done", false)) << "stays done";
  EXPECT_NE(refusal("n2", client_address(), "n1").find("being drained"), std::string::npos);
}

TEST_F(DrainTest, UndrainLetsItServeAgainAndBalanceGivesItItsShare) {
  load(30);
  (void)drain("n1", "n1", "start");
  ASSERT_TRUE(drained("n1", "n1"));
  const auto again = drain("n1", "n1", "stop");
  EXPECT_FALSE(again.value("draining", true)) << again.dump();
  EXPECT_EQ(at("n1"), 0u) << "nothing comes back by itself";
  ASSERT_TRUE(eventually([&] { return status("n2")["groups"][0]["nodes"][0].value("draining", true) == false; }));
  ASSERT_TRUE(eventually([&] {   // every node has heard of the others' loads
    const auto nodes = status("n1")["groups"][0]["nodes"];
    return nodes[1].value("connections", 0) + nodes[2].value("connections", 0) == 30;
  }));
  const auto plan = ask().ask("n1", {{"op", "balance"}, {"dry_run", true}});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(at("n1"), 0u) << "a dry run moved something";
  const auto done = ask().ask("n1", {{"op", "balance"}});
  ASSERT_TRUE(done);
  EXPECT_EQ((*done)["moves"], (*plan)["moves"]);
  EXPECT_TRUE(eventually([&] { return at("n1") == 10 && at("n2") == 10 && at("n3") == 10; })) << at("n1") << " " << at("n2") << " " << at("n3");
  all_speak();
}

TEST_F(DrainTest, OfTheLastServingNodeIsRefusedUnlessForced) {
  load(6);
  (void)drain("n1", "n2", "start");
  (void)drain("n1", "n3", "start");
  const auto refused = drain("n1", "n1", "start");
  EXPECT_NE(refused.value("error", "").find("--force"), std::string::npos) << refused.dump();
  EXPECT_EQ(at("n1"), 6u);
  ASSERT_TRUE(drain("n1", "n1", "start", true).value("draining", false));
  ASSERT_TRUE(eventually([&] { return drain("n1", "n1", "look").value("stayed", 0) == 6; })) << drain("n1", "n1", "look").dump();
  const auto stays = drain("n1", "n1", "look")["stays"];
  EXPECT_NE(stays[0].value("why", "").find("no other node"), std::string::npos) << stays.dump();
  all_speak();
  (void)drain("n1", "n2", "stop");   // somebody to go to
  EXPECT_TRUE(drained("n1", "n1"));
  EXPECT_EQ(at("n2"), 6u);
  all_speak();
}

TEST_F(DrainTest, TwoAtOnceMeetInTheThird) {
  load(20);
  (void)ask().handoff("n1", client_address(), "n2");
  load(20);
  (void)drain("n3", "n1", "start");
  (void)drain("n3", "n2", "start");
  EXPECT_TRUE(drained("n3", "n1") && drained("n3", "n2")) << drain("n3", "n1", "look").dump() << drain("n3", "n2", "look").dump();
  EXPECT_EQ(at("n3"), 40u);
  all_speak();
}

TEST_F(DrainTest, SurvivesTheRestartOfTheDrainedGeckod) {
  load(8);
  (void)drain("n2", "n2", "start");
  ASSERT_TRUE(drained("n1", "n2"));
  kill_geckod("n2");
  EXPECT_NE(drain("n1", "n2", "look").value("error", "").find("not connected"), std::string::npos);
  ASSERT_NO_FATAL_FAILURE(start_geckod("n2"));
  EXPECT_TRUE(eventually([&] { return drain("n2", "n2", "look").value("draining", false); })) << "the others have not told it";
  EXPECT_TRUE(drained("n1", "n2"));
  (void)drain("n3", "n2", "stop");
  EXPECT_TRUE(eventually([&] { return !drain("n2", "n2", "look").value("draining", true); }));
  all_speak();
}

TEST_F(DrainTest, ANodeThatDiesMeanwhileLosesOnlyWhatItOwned) {
  load(30);
  (void)drain("n1", "n1", "start");
  ASSERT_TRUE(eventually([&] { return at("n1") < 25; }));
  ASSERT_TRUE(const_cast<lab::Lab&>(lab()).kill("n2"));
  EXPECT_TRUE(drained("n1", "n1", 20s)) << drain("n1", "n1", "look").dump();
  EXPECT_EQ(drain("n1", "n1", "look")["not_confirmed"], nlohmann::json{"n2"});
  size_t ended = 0;
  // One that had just been given away, and whose arrival n2 has not confirmed, is told when n2 has been silent for 15 s.
  for (auto* client : clients_) {
    if (!done(*client) && progresses(*client, 1s)) continue;
    EXPECT_TRUE(is_told(*client, 40s)) << "a connection hangs: " << local(*client).str();
    ++ended;
  }
  EXPECT_GE(at("n3") + ended, 30u);
  may_be_lost = ended;
}

TEST_F(DrainTest, TheDrainedNodeItselfDiesMeanwhile) {
  load(40);
  (void)drain("n2", "n1", "start");
  ASSERT_TRUE(eventually([&] { return at("n1") < 35; }));
  ASSERT_TRUE(const_cast<lab::Lab&>(lab()).kill("n1"));
  const auto error = [&] { return drain("n2", "n1", "look").value("error", ""); };
  ASSERT_TRUE(eventually([&] { return error().find("not connected") != std::string::npos; })) << error();
  EXPECT_NE(error().find("marked as drained"), std::string::npos);
  EXPECT_TRUE(eventually([&] { return contact("n2") != "n1" && contact("n2") == contact("n3"); }));
  size_t ended = 0;
  // Who had left goes on; who had not is told, one that was frozen at that moment when n1 has been silent for 15 s.
  for (auto* client : clients_) {
    if (!done(*client) && progresses(*client, 1s)) continue;
    ASSERT_TRUE(is_told(*client, 40s)) << "a connection hangs: " << local(*client).str();
    ++ended;
  }
  EXPECT_EQ(at("n2") + at("n3") + ended, 40u);
  EXPECT_GE(at("n2") + at("n3"), 5u) << "those that had left";
  may_be_lost = ended;
}

TEST_F(DrainTest, ConnectionsThatWaitToBeAcceptedCountAsLeft) {
  // The application is stopped: clients connect, nobody accepts.
  const pid_t application = process_named(lab(), "n1", "gecko-echo");
  ASSERT_GT(application, 0);
  ASSERT_EQ(::kill(application, SIGSTOP), 0);
  for (int i = 0; i < 3; ++i) clients_.push_back(&ping(1ms));
  ASSERT_TRUE(swarm_->wait_connected(5s));
  EXPECT_EQ(drain("n1", "n1", "start").value("unaccepted", 0), 3);
  EXPECT_FALSE(drained("n1", "n1", 300ms));
  ASSERT_EQ(::kill(application, SIGCONT), 0);
  EXPECT_TRUE(drained("n1", "n1")) << drain("n1", "n1", "look").dump();
  EXPECT_EQ(at("n2") + at("n3"), 3u);
  all_speak();
}

TEST_F(DrainTest, NonsenseIsRefusedWithTheRemedy) {
  EXPECT_NE(drain("n1", "n9", "start").value("error", "").find("its nodes are n1, n2, n3"), std::string::npos);
  EXPECT_NE(drain("n1", "n2", "explode").value("error", "").find("start, stop, look or evict"), std::string::npos);
  EXPECT_NE(drain("n1", "n2", "evict").value("error", "").find("gecko drain n2"), std::string::npos);
}

}  // namespace
}  // namespace gecko::system_test
