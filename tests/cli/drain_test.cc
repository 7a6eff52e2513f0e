// Taking a node out of service and back: gecko drain, undrain and balance.
#include <gmock/gmock.h>

#include <algorithm>

#include "command.hh"
#include "fake_geckod.hh"

namespace gecko::tests {
namespace {

using Json = nlohmann::json;
using Manner = FakeGeckod::Manner;
using testing::HasSubstr;

// What geckod says of a drain; the tests change what matters to them.
Json drain_report(bool draining, bool done, unsigned connections, unsigned moved, Json stays) {
  const auto stayed = stays.size();
  return {{"schema", "gecko.drain/1"},
          {"group", "web"},
          {"node", "n2"},
          {"draining", draining},
          {"done", done},
          {"connections", connections},
          {"movable", connections - stayed},
          {"moving", 0},
          {"moved", moved},
          {"stayed", stayed},
          {"unaccepted", 0},
          {"held_packets", 0},
          {"seconds", 1.5},
          {"confirmed", done ? Json{"n1"} : Json::array()},
          {"not_confirmed", done ? Json{"n3"} : Json::array()},
          {"stays", std::move(stays)}};
}
const Json kStays = {{{"client", "[2001:db8::7]:51234"}, {"age_s", 75}, {"why", "a raw stream"}},
                     {{"client", "[2001:db8::8]:2"}, {"age_s", 5}, {"why", "a WebSocket\u001b[2J"}}};

TEST(Drain, PlanSaysWhatWouldStayAndWhy) {
  const FakeGeckod geckod(Manner::answers, [](const std::string&) { return drain_report(false, false, 14, 0, kStays).dump(); });
  const auto output = gecko({"drain", "n2", "--dry-run", "--socket", geckod.socket()});
  EXPECT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(Json::parse(geckod.last_question()), Json::parse(R"({"op":"drain","node":"n2","action":"look","force":false})"));
  EXPECT_EQ(output.out, R"(n2: 12 connections would move now or at their next boundary, 2 would stay
CLIENT                AGE  STAYS BECAUSE
[2001:db8::7]:51234  75 s  a raw stream
[2001:db8::8]:2       5 s  a WebSocket?[2J
'gecko drain n2 --close' would end those that stay
)");
}

TEST(Drain, StartsAndSaysHowToFollowIt) {
  const FakeGeckod geckod(Manner::answers, [](const std::string& question) {
    EXPECT_EQ(Json::parse(question), Json::parse(R"({"op":"drain","node":"n2","action":"start","force":true,"group":"web"})"));
    return drain_report(true, false, 1, 0, Json::array()).dump();
  });
  const auto output = gecko({"drain", "n2", "--force", "--group", "web", "--socket", geckod.socket()});
  EXPECT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(output.out, "n2 is being drained: it gets no new connections, 1 connection moves now or at its next boundary\n"
                        "'gecko drain n2 --wait' follows it, 'gecko undrain n2' stops it\n");
}

TEST(Drain, WaitEndsWhenGeckodSaysDoneAndNamesWhoConfirmed) {
  for (const bool json : {false, true}) {
    int asked = 0;
    const FakeGeckod geckod(Manner::answers, [&](const std::string& question) {
      EXPECT_EQ(Json::parse(question)["action"], asked == 0 ? "start" : "look");
      return ++asked < 4 ? drain_report(true, false, 12u / asked, 0, Json::array()).dump() : drain_report(true, true, 0, 12, Json::array()).dump();
    });
    std::vector<std::string> words = {"drain", "n2", "--wait", "--socket", geckod.socket()};
    if (json) words.emplace_back("--json");
    const auto output = gecko(words);
    EXPECT_EQ(output.code, 0) << output.err;
    EXPECT_EQ(output.err, "");
    if (json) EXPECT_EQ(Json::parse(output.out), drain_report(true, true, 0, 12, Json::array()));
    else EXPECT_EQ(output.out, "n2 is drained: 12 connections moved away in 1.50 s; confirmed by n1, not by n3\n");
  }
}

TEST(Drain, ADeadlineIs124AndListsWhatStays) {
  const FakeGeckod geckod(Manner::answers, [](const std::string&) { return drain_report(true, false, 2, 10, kStays).dump(); });
  const auto output = gecko({"drain", "n2", "--deadline", "120ms", "--socket", geckod.socket()});
  EXPECT_EQ(output.code, 124);
  EXPECT_EQ(output.out, "");
  EXPECT_EQ(output.err, R"(gecko: the deadline has passed: n2 still has 2 connections; the drain goes on
CLIENT                AGE  STAYS BECAUSE
[2001:db8::7]:51234  75 s  a raw stream
[2001:db8::8]:2       5 s  a WebSocket?[2J
gecko: 'gecko drain n2 --wait' follows it, 'gecko drain n2 --close' ends what stays, 'gecko undrain n2' stops it
)");
  const auto json = gecko({"drain", "n2", "--deadline", "120ms", "--json", "--socket", geckod.socket()});
  EXPECT_EQ(json.code, 124);
  EXPECT_EQ(Json::parse(json.out), drain_report(true, false, 2, 10, kStays));
}

TEST(Drain, CloseEndsWhatStaysOnceNothingElseIsLeft) {
  std::vector<std::string> actions;
  lab::Output output;
  {
    const FakeGeckod geckod(Manner::answers, [&](const std::string& question) {
      actions.push_back(Json::parse(question)["action"]);
      if (actions.size() < 3) return drain_report(true, false, 9, 3, kStays).dump();   // others still move
      const bool told = std::find(actions.begin(), actions.end(), "evict") != actions.end();
      return told ? drain_report(true, true, 0, 10, Json::array()).dump() : drain_report(true, false, 2, 10, kStays).dump();
    });
    output = gecko({"drain", "n2", "--close", "--socket", geckod.socket()});
  }
  EXPECT_EQ(output.code, 0) << output.err;
  EXPECT_THAT(output.out, testing::StartsWith("n2 is drained: 10 connections"));
  EXPECT_EQ(actions, (std::vector<std::string>{"start", "look", "look", "evict", "look"}));
}

TEST(Drain, RefusalsAndInterferenceHaveTheirExitCodes) {
  {
    const FakeGeckod geckod(
        Manner::answers, [](const std::string&) { return R"({"schema":"gecko.error/1","code":"refused","message":"no other node; use --force"})"; });
    const auto output = gecko({"drain", "n2", "--socket", geckod.socket()});
    EXPECT_EQ(output.code, 107);
    EXPECT_EQ(output.err, "gecko: no other node; use --force\n");
  }
  int asked = 0;
  const FakeGeckod geckod(Manner::answers, [&](const std::string&) { return drain_report(asked++ == 0, false, 3, 0, Json::array()).dump(); });
  const auto undrained = gecko({"drain", "n2", "--wait", "--socket", geckod.socket()});
  EXPECT_EQ(undrained.code, 1);
  EXPECT_THAT(undrained.err, HasSubstr("somebody has undrained node 'n2' meanwhile"));
  for (const std::string bad : {"0", "-1s", "soon", "3parsecs"}) EXPECT_EQ(gecko({"drain", "n2", "--deadline", bad}).code, 64) << bad;
  const FakeGeckod strange(Manner::answers, [](const std::string&) { return R"({"schema":"gecko.drain/1","node":"n2"})"; });
  EXPECT_EQ(gecko({"drain", "n2", "--wait", "--socket", strange.socket()}).code, 4);
}

TEST(Undrain, SaysHowConnectionsComeBack) {
  const FakeGeckod geckod(Manner::answers, [](const std::string& question) {
    EXPECT_EQ(Json::parse(question), Json::parse(R"({"op":"drain","node":"n2","action":"stop"})"));
    return drain_report(false, false, 0, 0, Json::array()).dump();
  });
  const auto output = gecko({"undrain", "n2", "--socket", geckod.socket()});
  EXPECT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(output.out, "n2 serves again; 'gecko balance' gives it its share of the live connections\n");
}

TEST(Balance, SaysWhatMovesWhere) {
  const std::string moves =
      R"({"schema":"gecko.balance/1","group":"web","moves":[{"from":"n1","to":"n2","connections":7},{"from":"n3","to":"n2","connections":1}]})";
  const FakeGeckod geckod(Manner::answers, [&](const std::string&) { return moves; });
  const auto plan = gecko({"balance", "--dry-run", "--socket", geckod.socket()});
  EXPECT_EQ(Json::parse(geckod.last_question()), Json::parse(R"({"op":"balance","dry_run":true})"));
  EXPECT_EQ(plan.out, "would move 7 connections from n1 to n2\nwould move 1 connection from n3 to n2\n");
  EXPECT_EQ(gecko({"balance", "--socket", geckod.socket()}).out, "moving 7 connections from n1 to n2\nmoving 1 connection from n3 to n2\n");
  EXPECT_EQ(Json::parse(gecko({"balance", "--json", "--socket", geckod.socket()}).out), Json::parse(moves));
  const FakeGeckod even(Manner::answers, [](const std::string&) { return R"({"schema":"gecko.balance/1","group":"web","moves":[]})"; });
  EXPECT_EQ(gecko({"balance", "--socket", even.socket()}).out, "group web is even already\n");
}

}  // namespace
}  // namespace gecko::tests
