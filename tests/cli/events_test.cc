// What has happened: gecko events and gecko why.
#include <gmock/gmock.h>

#include <atomic>
#include <sstream>

#include "command.hh"
#include "fake_geckod.hh"

namespace gecko::tests {
namespace {

using Json = nlohmann::json;
using Manner = FakeGeckod::Manner;
using testing::HasSubstr;

// One of every kind, as geckod says it (gecko.event/1).
const char* const kEvents[] = {
    R"({"kind":"view","view":9,"epoch":9,"members":["n1","n2"],"joined":["n2"],"left":["n3"],"member":true})",
    R"({"kind":"contact","contact":"n1","term":5})",
    R"({"kind":"lease","state":"got","term":4})",
    R"({"kind":"suspicion","peer":"n3","state":"begin"})",
    R"({"kind":"link","peer":"n3","state":"down","why":"nothing heard\u001b[2J"})",
    R"({"kind":"expelled"})",
    R"({"kind":"handoff","connection":"00","client":"[2001:db8::7]:51234","local":"[2001:db8::80]:80","from":"n1","to":"n2","cause":"operator",
      "decided_by":"n3","result":"moved","epoch":2,"view":9,"phases_ms":{"prepare":0.25,"restore":0.1},"gap_ms":0.8125})",
    R"({"kind":"handoff","connection":"00","client":"[2001:db8::7]:51234","local":"[2001:db8::80]:80","from":"n1","to":"n2","cause":"drain",
      "decided_by":null,"result":"stayed","epoch":2,"view":9,"phases_ms":{},"gap_ms":null,"why":"to n2: no application"})",
    R"({"kind":"arrival","connection":"00","client":"[2001:db8::7]:51234","local":"[2001:db8::80]:80","from":"n2","epoch":3,"view":9})",
    R"({"kind":"recovered","connection":null,"client":"[2001:db8::7]:51234","local":"[2001:db8::80]:80","from":"n3","owner":"n1","result":"recovered","epoch":3,
      "view":9,"ms":120})",
    R"({"kind":"recovery","life":{"node":"n3","incarnation":"0000000000000abc"},"heir":"n1","recovered":4,"elsewhere":1,"lost":{"failed":1},"ms":80})",
    R"({"kind":"connection_lost","connection":"00","client":"[2001:db8::7]:51234","local":"[2001:db8::80]:80","reason":"client_reset","why":"n3 has died"})",
    R"({"kind":"drain","of":"n2","state":"done","moved":7,"ms":50})",
    R"({"kind":"application","state":"joined","program":"gecko-echo","pid":12,"uid":33})",
    R"({"kind":"of the future","size":7})"};

Json all_events() {
  Json all = Json::array();
  for (const char* text : kEvents) {
    Json event = Json::parse(text);
    event.update({{"schema", "gecko.event/1"}, {"seq", all.size() + 3}, {"time", "2026-11-22T05:10:03.123456Z"}, {"node", "n1"}, {"group", "web"}});
    all.push_back(event);
  }
  return all;
}

Json events_answer(uint64_t since, uint64_t lost, bool more, Json events) {
  const uint64_t seq = since + lost + events.size();
  return {{"schema", "gecko.events/1"}, {"life", "00"}, {"since", since}, {"lost", lost}, {"seq", seq}, {"more", more}, {"events", std::move(events)}};
}

TEST(Events, OneLineEachForPeople) {
  const FakeGeckod geckod(Manner::answers, [](const std::string& question) {
    EXPECT_EQ(Json::parse(question), Json::parse(R"({"op":"events","snapshot":true,"since":0})"));
    Json answer = events_answer(0, 2, false, all_events());
    answer["snapshot"] = {{"schema", "gecko.events.snapshot/1"}, {"seq", 17}};
    return answer.dump();
  });
  const auto output = gecko({"events", "--socket", geckod.socket()});
  EXPECT_EQ(output.code, 0) << output.err;
  const std::string at = "2026-11-22 05:10:03.123Z  web  ";
  EXPECT_EQ(output.out, "(2 events after number 0 are not here any more)\n" +
                            at + "view 9: n1, n2; joined: n2; left: n3\n" +
                            at + "the contact is n1 (term 5)\n" +
                            at + "has a lease (term 4)\n" +
                            at + "n3 does not answer heartbeats\n" +
                            at + "link to n3 is down: nothing heard?[2J\n" +
                            at + "the others went on without this node: what it owned is theirs to recover\n" +
                            at + "[2001:db8::7]:51234 n1 -> n2: moved (operator at n3), gap 0.81 ms\n" +
                            at + "[2001:db8::7]:51234 n1 -> n2: stayed (drain): to n2: no application\n" +
                            at + "[2001:db8::7]:51234 has arrived from n2\n" +
                            at + "[2001:db8::7]:51234 of n3 goes on here, 120 ms after the view without n3\n" +
                            at + "of n3's connections 4 go on here, 1 elsewhere, 1 lost (failed); after 80 ms\n" +
                            at + "[2001:db8::7]:51234 is lost (client_reset): n3 has died\n" +
                            at + "n2 is drained: 7 moved away in 50 ms\n" +
                            at + "'gecko-echo' (pid 12, user #33) has joined\n" +
                            at + "of the future\n");
}

TEST(Events, JsonIsALineEachWithWhatWasLost) {
  int asked = 0;
  const FakeGeckod geckod(Manner::answers, [&](const std::string& question) {
    const Json events = all_events();
    if (++asked == 1) {   // not all fit into one answer
      EXPECT_EQ(Json::parse(question), Json::parse(R"({"op":"events","snapshot":true,"since":1})"));
      Json answer = events_answer(1, 1, true, Json::array({events[0], events[1]}));
      answer["snapshot"] = {{"schema", "gecko.events.snapshot/1"}, {"seq", 5}};
      return answer.dump();
    }
    EXPECT_EQ(Json::parse(question), Json::parse(R"({"op":"events","since":4})"));
    return events_answer(4, 0, false, Json::array({events[2]})).dump();
  });
  const auto output = gecko({"events", "--since", "1", "--json", "--socket", geckod.socket()});
  EXPECT_EQ(output.code, 0) << output.err;
  std::vector<Json> lines;
  std::istringstream text(output.out);
  for (std::string line; std::getline(text, line);) lines.push_back(Json::parse(line));
  ASSERT_EQ(lines.size(), 5u) << output.out;
  EXPECT_EQ(lines[0], Json::parse(R"({"schema":"gecko.events.snapshot/1","seq":5})"));
  EXPECT_EQ(lines[1], Json::parse(R"({"schema":"gecko.events.lost/1","after":1,"lost":1})"));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(lines[2 + i], all_events()[i]);
}

TEST(Events, FollowsFromNowOnUntilGeckodEnds) {
  std::atomic<int> asked = 0;
  const FakeGeckod geckod(Manner::answers, [&](const std::string& question) -> std::string {
    const Json asks = Json::parse(question);
    switch (++asked) {
      case 1: {
        EXPECT_EQ(asks, Json::parse(R"({"op":"events","snapshot":true})"));
        Json answer = events_answer(2, 0, false, Json::array());
        answer["snapshot"] = {{"schema", "gecko.events.snapshot/1"}, {"seq", 2}};
        return answer.dump();
      }
      case 2:
        EXPECT_EQ(asks, Json::parse(R"({"op":"events","since":2,"wait_ms":5000})"));
        return events_answer(2, 0, false, Json::array({all_events()[0]})).dump();
      case 3:   // nothing has happened
        EXPECT_EQ(asks["since"], 3);
        return events_answer(3, 0, false, Json::array()).dump();
      default: return R"({"schema":"gecko.error/1","code":"unavailable","message":"ending"})";
    }
  });
  const auto output = gecko({"events", "--follow", "--socket", geckod.socket()});
  EXPECT_EQ(output.code, 69) << output.err;
  EXPECT_EQ(asked, 4);
  EXPECT_EQ(output.out, "2026-11-22 05:10:03.123Z  web  view 9: n1, n2; joined: n2; left: n3\n");
}

TEST(Why, TellsTheStoryOfAConnection) {
  const auto why = [](Json events, Json here) {
    return Json{{"schema", "gecko.why/1"}, {"node", "n1"}, {"of", "2001:db8::7"}, {"since", "2026-11-22T05:00:00.000000Z"}, {"connections", std::move(here)},
                {"omitted", 0}, {"events", std::move(events)}, {"omitted_events", 3}}.dump();
  };
  const FakeGeckod geckod(Manner::answers, [&](const std::string& question) {
    EXPECT_EQ(Json::parse(question), Json::parse(R"({"op":"why","of":"2001:db8::7"})"));
    return why(Json::array({all_events()[6], all_events()[8]}), Json::array({{{"id", "00"}, {"client", "[2001:db8::7]:51234"}, {"epoch", 3}}}));
  });
  const auto output = gecko({"why", "2001:db8::7", "--socket", geckod.socket()});
  EXPECT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(output.out, R"((3 older events are not shown)
2026-11-22 05:10:03.123Z  [2001:db8::7]:51234 n1 -> n2: moved (operator at n3), gap 0.81 ms
    connection 00, view 9; prepare 0.25 ms, restore 0.10 ms
2026-11-22 05:10:03.123Z  [2001:db8::7]:51234 has arrived from n2
    connection 00, view 9
now at n1: [2001:db8::7]:51234, connection 00, epoch 3
n2 knows the other half: 'gecko why' there
)");
  const FakeGeckod nothing(Manner::answers, [&](const std::string&) { return why(Json::array(), Json::array()); });
  const auto unknown = gecko({"why", "2001:db8::7", "--socket", nothing.socket()});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_THAT(unknown.err, HasSubstr("knows nothing of 2001:db8::7"));
}

}  // namespace
}  // namespace gecko::tests
