#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "fake_geckod.hh"
#include "lab/process.hh"

namespace gecko::tests {
namespace {

using Json = nlohmann::json;
using Manner = FakeGeckod::Manner;
using testing::HasSubstr;
using testing::Not;

lab::Output gecko(std::vector<std::string> arguments) {
  char self[4096] = {};
  EXPECT_GT(readlink("/proc/self/exe", self, sizeof self - 1), 0);
  arguments.insert(arguments.begin(), std::filesystem::path(self).parent_path() / "gecko");
  auto output = lab::run(arguments, {});
  EXPECT_TRUE(output) << output.error().message;
  return output ? *output : lab::Output{-1, "", ""};
}

const char* const kStatus =
    R"({"schema":"gecko.status/1","node":"n1","version":"0.1.0","verdict":"degraded","reasons":["group web: node n3 is not connected: \u001b[31mno route"],
  "groups":[{"name":"web","address":"2001:db8::80","ports":[80,443],"contact":"n1","contact_term":4,"policy":"none","return":"direct",
  "connections":12,"applications":1,
  "handoffs":{"out_ok":3,"out_failed":1,"in_ok":2,"in_failed":0},"held_packets":1,"nodes":[
  {"name":"n1","address":"2001:db8:1::11","state":"self","age_ms":0,"connections":12,"applications":1,"version":"0.1.0","config":"same"},
  {"name":"n2","address":"2001:db8:1::12","state":"ok","age_ms":3,"connections":7,"applications":1,"version":"0.1.0","config":"differs"},
  {"name":"n3","address":"2001:db8:1::13","state":"down","age_ms":95000,"connections":7,"applications":1,"version":"0.1.0","config":"same"},
  {"name":"n4","address":"2001:db8:1::14","state":"unknown","age_ms":null,"connections":0,"applications":0,"version":"","config":"unknown"}]}]})";

TEST(Status, TableForPeople) {
  const FakeGeckod geckod(Manner::answers, [](const std::string&) { return kStatus; });
  const auto output = gecko({"--socket", geckod.socket(), "status"});
  EXPECT_EQ(output.code, 2) << output.err;
  EXPECT_EQ(output.out, R"(node n1, geckod 0.1.0: degraded
  - group web: node n3 is not connected: ?[31mno route

group web: 2001:db8::80 ports 80,443, contact n1 (term 4), policy none, return direct
here: 12 connections, 1 application; handed off 3 (1 failed), received 2 (0 failed), 1 packet held
NODE  ADDRESS         STATE    HEARD   MEMBER  BACKUPS  CONNECTIONS  APPLICATIONS  VERSION  CONFIG
n1    2001:db8:1::11  self     -       -       -                 12             1  0.1.0    same
n2    2001:db8:1::12  ok       3 ms    -       -                  7             1  0.1.0    differs
n3    2001:db8:1::13  down     95.0 s  -       -                  -             -  0.1.0    same
n4    2001:db8:1::14  unknown  never   -       -                  -             -           unknown
)");
}

// A group that asks for recovery, as its nodes, a view and its mirrors make it; the tests change what matters to them.
Json protected_group(size_t nodes) {
  Json members = Json::array(), rows = Json::array();
  for (size_t n = 1; n <= nodes; ++n) members.push_back("n" + std::to_string(n));
  for (size_t n = 1; n <= nodes; ++n)
    rows.push_back({{"name", members[n - 1]}, {"address", "2001:db8:1::" + std::to_string(10 + n)}, {"state", n == 1 ? "self" : "ok"}, {"age_ms", 3},
                    {"member", true}, {"suspected", false}, {"backups", {members[n % nodes]}}, {"connections", 2}, {"applications", 1},
                    {"version", GECKO_VERSION}, {"link_version", 4}, {"config", "same"}});
  const Json view = {{"epoch", 274877906956}, {"number", 12}, {"members", members}, {"lease_ms", 40}, {"two_nodes", "safe"}, {"orphans", Json::array()}};
  return {{"name", "web"}, {"address", "2001:db8::80"}, {"ports", {80, 443}}, {"contact", "n1"}, {"contact_term", 4}, {"policy", "none"}, {"return", "direct"},
          {"digest", "00"}, {"connections", 2}, {"applications", 1}, {"handoffs", {{"out_ok", 0}, {"out_failed", 0}, {"in_ok", 0}, {"in_failed", 0}}},
          {"held_packets", 0}, {"held_dropped", 0}, {"limits", {{"connections", 20000}, {"held_packets", 65536}, {"held_bytes", 67108864}}}, {"nodes", rows},
          {"membership", {{"member", true}, {"life", "00"}, {"voting", true}, {"lease", {{"holds", true}, {"term", 3}, {"expiries", 0}}},
                          {"suspected", Json::array()}, {"view", view}}},
          {"protection", {{"recovery", "fast"},
                          {"backups", {{{"node", "n2"}, {"complete", false}, {"unanswered", 1}, {"lag_ms", 4.06}, {"lag_bytes", 23456}, {"refused", 0}}}},
                          {"classes", {{{"port", 80}, {"recovery", "fast"}, {"connections", 2}, {"protected", 2}, {"unprotected", 0}, {"lag_ms", 4.06},
                                        {"lag_bytes", 23456}},
                                       {{"port", 443}, {"recovery", "none"}, {"connections", 0}, {"protected", 0}, {"unprotected", 0}, {"lag_ms", 0.0},
                                        {"lag_bytes", 0}}}}}}};
}

std::string status_of(const Json& groups, Json reasons = Json::array()) {
  return Json{{"schema", "gecko.status/1"}, {"node", "n1"}, {"version", GECKO_VERSION}, {"verdict", reasons.empty() ? "ok" : "degraded"}, {"reasons", reasons},
              {"groups", groups}}.dump();
}

TEST(Status, SaysWhoBacksWhomAndHowFarTheMirrorsAre) {
  Json group = protected_group(3);
  group["nodes"][2]["suspected"] = true;
  const FakeGeckod geckod(Manner::answers, [&](const std::string&) { return status_of(Json::array({group})); });
  const auto output = gecko({"--socket", geckod.socket(), "status"});
  EXPECT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(output.out, "node n1, geckod " GECKO_VERSION R"(: ok

group web: 2001:db8::80 ports 80,443, contact n1 (term 4), policy none, return direct
here: 2 connections, 1 application; handed off 0 (0 failed), received 0 (0 failed), 0 packets held
members: n1, n2, n3 (view 12); this node has a lease
NODE  ADDRESS         STATE  HEARD  MEMBER  BACKUPS  CONNECTIONS  APPLICATIONS  VERSION  CONFIG
n1    2001:db8:1::11  self   -      yes     n2                 2             1  0.1.0    same
n2    2001:db8:1::12  ok     3 ms   yes     n3                 2             1  0.1.0    same
n3    2001:db8:1::13  ok     3 ms   silent  n1                 2             1  0.1.0    same
PORT  RECOVERY  CONNECTIONS  PROTECTED  BEHIND
  80  fast                2          2  4.1 ms, 23 kB
 443  none                0          -  -
mirrors of this node: n2 behind: 4.1 ms, 23 kB
)");
}

TEST(Status, ReadsWellWithOneNodeAndWith32) {
  for (const size_t nodes : {1u, 32u}) {
    const FakeGeckod geckod(Manner::answers, [&](const std::string&) { return status_of(Json::array({protected_group(nodes)})); });
    const auto output = gecko({"--socket", geckod.socket(), "status"});
    EXPECT_EQ(output.code, 0) << output.err;
    EXPECT_THAT(output.out, HasSubstr(nodes == 1 ? "members: n1 (view 12)" : "members: 32 of 32 nodes (view 12)"));
    std::istringstream text(output.out);
    for (std::string line; std::getline(text, line);) EXPECT_LE(line.size(), 120u) << line;
  }
}

TEST(Status, JsonIsGeckodsOwn) {
  const FakeGeckod geckod(Manner::answers, [](const std::string&) { return kStatus; });
  const auto output = gecko({"status", "--json", "--socket", geckod.socket()});
  EXPECT_EQ(output.code, 2);
  EXPECT_EQ(Json::parse(output.out), Json::parse(kStatus));
  EXPECT_EQ(geckod.last_question(), R"({"op":"status"})");
}

TEST(Status, ExitCodeFollowsTheVerdict) {
  for (const auto& [verdict, code] : {std::pair{"ok", 0}, {"degraded", 2}, {"down", 1}, {"unknown", 4}, {"brand-new", 4}}) {
    auto status = Json::parse(kStatus);
    status["verdict"] = verdict;
    const FakeGeckod geckod(Manner::answers, [&](const std::string&) { return status.dump(); });
    EXPECT_EQ(gecko({"status", "--socket", geckod.socket()}).code, code) << verdict;
    EXPECT_EQ(gecko({"status", "--json", "--socket", geckod.socket()}).code, code) << verdict;
  }
}

TEST(Status, Kernel) {
  const FakeGeckod geckod(Manner::answers, [](const std::string& question) {
    EXPECT_EQ(Json::parse(question)["op"], "kernel");
    return R"({"schema":"gecko.kernel/1","objects":[{"kind":"filter","name":"eth0"}],"counters":{"passed":12,"held":3}})";
  });
  const auto output = gecko({"status", "--kernel", "--socket", geckod.socket()});
  EXPECT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(output.out, "KIND    NAME\nfilter  eth0\n\nPACKETS  COUNT\npassed      12\nheld         3\n");
}

// Whatever is wrong with geckod: an end within the deadline, its number, a message that says what to do.
TEST(Daemon, EveryMisbehaviourHasItsExitCode) {
  struct Case { Manner manner; int code; const char* says; };
  for (const auto& c : {Case{Manner::never_accepts, 124, "does not answer"}, Case{Manner::never_welcomes, 124, "does not answer"},
                        Case{Manner::never_answers, 124, "kill -CONT"}, Case{Manner::hangs_up, 69, "closed the connection"},
                        Case{Manner::breaks_frames, 4, "frame"}, Case{Manner::greets_strangely, 4, "is no geckod"},
                        Case{Manner::refuses_version, 1, "too new for me"}}) {
    const FakeGeckod geckod(c.manner, [](const std::string&) { return kStatus; });
    const Time before = monotonic_now();
    const auto output = gecko({"status", "--json", "--socket", geckod.socket()});
    EXPECT_LT(monotonic_now() - before, std::chrono::seconds(20)) << c.says;
    EXPECT_EQ(output.code, c.code) << output.err;
    EXPECT_THAT(output.err, HasSubstr(c.says));
    EXPECT_EQ(Json::parse(output.out)["schema"], "gecko.error/1");
  }
}

TEST(Daemon, NotRunningIs3) {
  for (const char* path : {"/nonexistent/geckod.sock", "/tmp"}) {
    const auto output = gecko({"status", "--socket", path});
    EXPECT_EQ(output.code, 3) << path << output.err;
    EXPECT_THAT(output.err, HasSubstr("geckod is not running"));
    EXPECT_THAT(output.out, "");
  }
}

TEST(Daemon, AnswersThatAreNoAnswer) {
  for (const char* answer : {"", "[]", "{\"schema\":", "{\"schema\":\"gecko.status/1\"}", "{\"schema\":\"gecko.status/1\",\"verdict\":7}"}) {
    const FakeGeckod geckod(Manner::answers, [&](const std::string&) { return answer; });
    const auto output = gecko({"status", "--socket", geckod.socket()});
    EXPECT_EQ(output.code, 4) << answer;
    EXPECT_THAT(output.err, HasSubstr("of another version?")) << answer;
  }
}

TEST(Daemon, ItsErrorsKeepTheirMeaning) {
  for (const auto& [name, code] :
       {std::pair{"not-found", 1}, {"invalid", 64}, {"permission", 77}, {"busy", 75}, {"timeout", 124}, {"unavailable", 69}, {"new-one", 1}}) {
    const FakeGeckod geckod(Manner::answers, [code_name = std::string(name)](const std::string&) {
      return std::string(R"({"schema":"gecko.error/1","code":")") + code_name + R"(","message":"why\n\u001b[2J"})";
    });
    const auto output = gecko({"contact", "n2", "--socket", geckod.socket()});
    EXPECT_EQ(output.code, code) << name;
    EXPECT_EQ(output.err, "gecko: why\ngecko: ?[2J\n");
  }
}

TEST(Connections, Table) {
  const FakeGeckod geckod(Manner::answers, [](const std::string& question) {
    EXPECT_EQ(Json::parse(question), Json::parse(R"({"op":"connections","group":"web"})"));
    return R"({"schema":"gecko.connections/1","connections":[{"id":"0123456789abcdef0123456789abcdef","group":"web",
  "client":"[2001:db8::7]:51234","local":"[2001:db8::80]:80","node":"n1","epoch":3,"state":"live","age_s":1.25}]})";
  });
  const auto output = gecko({"connections", "--group", "web", "--socket", geckod.socket()});
  EXPECT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(output.out, "CLIENT               LOCAL              GROUP  STATE  EPOCH    AGE  ID\n"
                        "[2001:db8::7]:51234  [2001:db8::80]:80  web    live       3  1.2 s  0123456789abcdef0123456789abcdef\n");
}

TEST(Mirrors, Table) {
  const FakeGeckod geckod(Manner::answers, [](const std::string& question) {
    EXPECT_EQ(Json::parse(question), Json::parse(R"({"op":"mirrors"})"));
    return R"({"schema":"gecko.mirrors/1","omitted":7,"mirrors":[{"id":"0123456789abcdef0123456789abcdef","group":"web","client":"[2001:db8::7]:51234",
  "local":"[2001:db8::80]:80","owner":"n2","epoch":3,"acked":700,"received":12,"fin_received":false,"checkpoint":{"input":12,"output":700,"bytes":14},
  "checkpoints":1,"input":{"begin":2,"end":12,"ended":false}}]})";
  });
  const auto output = gecko({"mirrors", "--socket", geckod.socket()});
  EXPECT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(output.out, "CLIENT               LOCAL              GROUP  OWNER  EPOCH  ACKED  RECEIVED  CHECKPOINT  INPUT  ID\n"
                        "[2001:db8::7]:51234  [2001:db8::80]:80  web    n2         3    700        12        14 B   10 B  0123456789abcdef0123456789abcdef\n"
                        "7 more are not listed\n");
}

TEST(Handoff, AllMovedIs0AnyFailureOrNoneIs1) {
  const auto results = [](const std::string& rows) { return R"({"schema":"gecko.handoff/1","results":[)" + rows + "]}"; };
  const std::string moved = R"({"id":"00","client":"[2001:db8::7]:1","from":"n1","to":"n2","ok":true,"code":0,"error":""})";
  const std::string stayed = R"({"id":"01","client":"[2001:db8::7]:2","from":"n1","to":"n2","ok":false,"code":5,"error":"busy"})";
  for (const auto& [rows, code] : {std::pair{moved, 0}, {moved + "," + stayed, 1}, {std::string(), 1}}) {
    const FakeGeckod geckod(Manner::answers, [&, r = rows](const std::string& question) {
      EXPECT_EQ(Json::parse(question), Json::parse(R"({"op":"handoff","client":"2001:db8::7","to":"n2"})"));
      return results(r);
    });
    const auto output = gecko({"handoff", "--client", "[2001:db8::7]", "--to", "n2", "--socket", geckod.socket()});
    EXPECT_EQ(output.code, code) << output.err;
    EXPECT_THAT(output.out + output.err, Not(HasSubstr("\033")));
    if (code == 1 && !rows.empty()) { EXPECT_THAT(output.out, HasSubstr("stayed: busy")); }
    if (rows.empty()) { EXPECT_THAT(output.err, HasSubstr("has no connection in the group")); }
  }
}

// --- events

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

TEST(Metrics, AreTheirTextOrAnObject) {
  const std::string text = "# HELP gecko_build_info x\n# TYPE gecko_build_info gauge\ngecko_build_info{version=\"0.1.0\"} 1\n";
  const FakeGeckod geckod(Manner::answers, [&](const std::string& question) {
    EXPECT_EQ(Json::parse(question)["op"], "metrics");
    return Json{{"schema", "gecko.metrics/1"}, {"text", text}}.dump();
  });
  EXPECT_EQ(gecko({"metrics", "--socket", geckod.socket()}).out, text);
  EXPECT_EQ(Json::parse(gecko({"metrics", "--json", "--socket", geckod.socket()}).out)["text"], text);
}

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

TEST(CommandLine, BadOptionsAre64AndSayWhereToLook) {
  for (const auto& arguments : std::vector<std::vector<std::string>>{{},
                                                                     {"nonsense"},
                                                                     {"status", "--nonsense"},
                                                                     {"handoff", "--client", "::1"},
                                                                     {"contact"},
                                                                     {"key"},
                                                                     {"handoff", "--client", "nobody", "--to", "n2"},
                                                                     {"key", "init"},
                                                                     {"handoff", "--client", "::1", "--to", "n2", "--deadline", "0"}}) {
    const auto output = gecko(arguments);
    EXPECT_EQ(output.code, 64) << testing::PrintToString(arguments) << output.err;
    EXPECT_EQ(output.out, "");
    EXPECT_THAT(output.err, testing::StartsWith("gecko: "));
  }
  EXPECT_THAT(gecko({"handoff", "--client", "::1"}).err, HasSubstr("See 'gecko handoff --help'"));
  EXPECT_EQ(gecko({"--help"}).code, 0);
  EXPECT_EQ(gecko({"lab", "up", "--help"}).code, 0);
  EXPECT_EQ(Json::parse(gecko({"version", "--json"}).out)["version"], GECKO_VERSION);
}

TEST(Completion, BashOffersWhatTheCommandLineTakes) {
  const auto script = gecko({"completion", "bash"});
  ASSERT_EQ(script.code, 0);
  const auto offers = [&](const std::string& words, int at) {
    const auto output = lab::run(
        {"bash", "-c", script.out + "COMP_WORDS=(" + words + "); COMP_CWORD=" + std::to_string(at) + "; _gecko; echo \"${COMPREPLY[@]}\""}, {});
    EXPECT_TRUE(output);
    EXPECT_EQ(output->err, "");
    return output->out;
  };
  EXPECT_EQ(offers("gecko hand", 1), "handoff\n");
  EXPECT_EQ(offers("gecko lab p", 2), "pause\n");
  EXPECT_EQ(offers("gecko lab link n1 n2 --lo", 5), "--loss\n");
  EXPECT_EQ(offers("gecko lab w", 2), "\n");   // for itself, not for people
  EXPECT_EQ(offers("gecko --json lab up --mb", 4), "--mbit\n");
  EXPECT_THAT(offers("gecko handoff --", 2), HasSubstr("--client"));
  EXPECT_THAT(offers("gecko handoff --", 2), HasSubstr("--socket"));
}

class Files : public testing::Test {
 protected:
  void SetUp() override {
    char directory[] = "/tmp/gecko-cli-test-XXXXXX";
    ASSERT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string directory_;
};

TEST_F(Files, CheckSaysWhereItIsWrong) {
  std::ofstream(directory_ + "/good.toml")
      << "[group]\nname = \"web\"\naddress = \"2001:db8::80\"\nports = [80]\n[[node]]\nname = \"n1\"\naddress = \"2001:db8:1::1\"\n";
  std::ofstream(directory_ + "/bad.toml") << "[group]\nnmae = \"web\"\n";
  const auto good = gecko({"check", "-f", directory_ + "/good.toml", "--json"});
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_EQ(Json::parse(good.out)["files"][0]["group"], "web");
  const auto bad = gecko({"check", directory_ + "/bad.toml"});
  EXPECT_EQ(bad.code, 65);
  EXPECT_THAT(bad.err, HasSubstr("bad.toml:2:1"));
  EXPECT_EQ(gecko({"check", "-f", directory_ + "/none.toml"}).code, 66);
}

TEST_F(Files, NodesAreAddedAndRemovedInTheGroupFile) {
  const std::string file = directory_ + "/web.toml";
  std::ofstream(file) << "# ours\n[group]\nname = \"web\"\naddress = \"2001:db8::80\"\nports = [80]\n[[node]]\nname = \"n1\"\naddress = \"2001:db8:1::11\"\n";
  const auto text = [&] { return (std::ostringstream() << std::ifstream(file).rdbuf()).str(); };
  const auto added = gecko({"node", "add", "n2", "2001:db8:1::12", "-f", file});
  EXPECT_EQ(added.code, 0) << added.err;
  EXPECT_THAT(added.out, HasSubstr("web.toml is with n2 now. What is left to do:"));
  EXPECT_THAT(added.out, HasSubstr("gecko key sign n2"));
  EXPECT_THAT(added.out, HasSubstr("systemctl restart geckod (connections go on)"));
  EXPECT_THAT(text(), testing::EndsWith("[[node]]\nname = \"n2\"\naddress = \"2001:db8:1::12\"\n"));
  const std::string with_two = text();
  EXPECT_EQ(gecko({"node", "add", "n2", "2001:db8:1::13", "-f", file}).code, 1);
  EXPECT_EQ(gecko({"node", "add", "n3", "192.0.2.3", "-f", file}).code, 65);
  EXPECT_EQ(gecko({"node", "add", "N3", "2001:db8:1::13", "-f", file}).code, 64);
  EXPECT_EQ(gecko({"node", "add", "n3", "nowhere", "-f", file}).code, 64);
  EXPECT_EQ(gecko({"node", "add", "n3", "2001:db8:1::13", "-f", directory_ + "/none.toml"}).code, 1);
  // Whether it is a member is asked first.
  EXPECT_EQ(gecko({"node", "remove", "n2", "-f", file, "--socket", "/nonexistent/geckod.sock"}).code, 3);
  const FakeGeckod geckod(Manner::answers, [&](const std::string&) { return status_of(Json::array({protected_group(2)})); });
  const auto member = gecko({"node", "remove", "n2", "-f", file, "--socket", geckod.socket()});
  EXPECT_EQ(member.code, 107);
  EXPECT_THAT(member.err, HasSubstr("is still a member of group web: 'gecko drain n2 --wait'"));
  EXPECT_EQ(text(), with_two);
  const FakeGeckod without(Manner::answers, [&](const std::string&) { return status_of(Json::array({protected_group(1)})); });
  EXPECT_EQ(gecko({"node", "remove", "n7", "-f", file, "--socket", without.socket()}).code, 1);
  const auto removed = gecko({"node", "remove", "n2", "-f", file, "--socket", without.socket(), "--json"});
  EXPECT_EQ(removed.code, 0) << removed.err;
  EXPECT_EQ(Json::parse(removed.out)["number"], 1);
  EXPECT_THAT(text(), HasSubstr("name = \"n2\"\nremoved = true\n"));
  EXPECT_EQ(gecko({"node", "remove", "n1", "-f", file, "--force"}).code, 65);   // nobody would be left
}

TEST_F(Files, KeysFromFirstToRevoked) {
  const std::string ca = directory_ + "/ca";
  const auto json = [](const lab::Output& output) {
    EXPECT_EQ(output.code, 0) << output.err;
    return Json::parse(output.out, nullptr, false);
  };
  EXPECT_EQ(json(gecko({"key", "init", "web", "--ca", ca, "--json"}))["certificate"]["group"], "web");
  EXPECT_EQ(gecko({"key", "init", "web", "--ca", ca}).code, 1);
  EXPECT_EQ(gecko({"key", "rotate", "n1", "--ca", ca}).code, 1);
  const auto first = json(gecko({"key", "sign", "n1", "--ca", ca, "--json"}));
  EXPECT_EQ(first["certificate"]["node"], "n1");
  const auto second = json(gecko({"key", "rotate", "n1", "--ca", ca, "--json"}));
  EXPECT_EQ(second["replaces"], first["certificate"]["serial"]);
  EXPECT_NE(second["certificate"]["serial"], first["certificate"]["serial"]);
  EXPECT_EQ(json(gecko({"key", "revoke", first["certificate"]["serial"], "--ca", ca, "--json"}))["serials"].size(), 1u);
  EXPECT_EQ(json(gecko({"key", "show", ca, ca + "/nodes/n1", "--json"}))["certificates"].size(), 2u);
  EXPECT_EQ(gecko({"key", "show", directory_ + "/none"}).code, 66);
  const auto all = gecko({"key", "sign", "n2", "--ca", ca});
  EXPECT_THAT(all.out + all.err, Not(HasSubstr("PRIVATE")));
}

TEST_F(Files, CleanListsTheJournalAndRefusesWhileGeckodRuns) {
  std::ofstream(directory_ + "/kernel.journal") << "tun gecko-hold\naddress 2001:db8::80 lo\naddress 2001:db8::80 lo\nfilter eth9\n";
  const auto dry = gecko({"clean", "--dry-run", "--runtime-dir", directory_});
  EXPECT_EQ(dry.code, 0) << dry.err;
  EXPECT_THAT(dry.out, testing::StartsWith("would remove filter eth9\nwould remove address 2001:db8::80 lo\nwould remove tun gecko-hold\n"));
  EXPECT_TRUE(std::filesystem::exists(directory_ + "/kernel.journal"));
  if (geteuid() != 0) {
    EXPECT_EQ(gecko({"clean", "--runtime-dir", directory_}).code, 77);
    return;
  }
  const FakeGeckod geckod(Manner::never_accepts, {});
  const auto refused = gecko({"clean", "--runtime-dir", std::filesystem::path(geckod.socket()).parent_path()});
  EXPECT_EQ(refused.code, 107);
  EXPECT_THAT(refused.err, HasSubstr("--force"));
}

// What gecko doctor finds in the status of these groups, by "group check": "level what".
std::multimap<std::string, std::string> found(const Json& groups, const std::vector<std::string>& more = {}) {
  const FakeGeckod geckod(Manner::answers, [&](const std::string&) { return status_of(groups); });
  std::vector<std::string> words = {"doctor", "--json", "--socket", geckod.socket()};
  words.insert(words.end(), more.begin(), more.end());
  const auto json = Json::parse(gecko(words).out, nullptr, false);
  std::multimap<std::string, std::string> all;
  for (const auto& f : json["findings"]) {
    if (f["level"] == "failure" || f["level"] == "warning") {
      EXPECT_NE(f["why"], "") << f;
      EXPECT_NE(f["fix"], "") << f;
    }
    const auto what = f["what"].get<std::string>();
    const size_t colon = what.starts_with("group ") ? what.find(": ") : std::string::npos;
    const bool of_group = colon != std::string::npos;
    all.emplace((of_group ? what.substr(6, colon - 6) + " " : "") + f["check"].get<std::string>(),
                f["level"].get<std::string>() + " " + (of_group ? what.substr(colon + 2) : what));
  }
  return all;
}

TEST(Doctor, AGroupThatIsWellHasNothingToMend) {
  const auto all = found(Json::array({protected_group(3)}));
  for (const char* check : {"geckod", "web nodes", "web lease", "web contact", "web room", "web protection"}) {
    ASSERT_EQ(all.count(check), 1u) << check;
    EXPECT_THAT(all.find(check)->second, testing::StartsWith("ok ")) << check;
  }
}

// Each thing that can be wrong with a group is named: check, level, words; and alone of its check.
TEST(Doctor, EveryTroubleOfAGroupIsNamed) {
  struct Case { std::function<void(Json&)> harm; const char* check; const char* says; };
  const std::vector<Case> cases = {
      {[](Json& g) { g["nodes"][1]["state"] = "down", g["nodes"][1]["age_ms"] = 95000, g["nodes"][1]["error"] = "no route"; }, "nodes",
       "failure node n2 is not connected, last heard 95 s ago: no route"},
      {[](Json& g) { g["nodes"][2]["state"] = "unknown", g["nodes"][2]["age_ms"] = nullptr; }, "nodes",
       "failure node n3 is not connected, and has not been heard"},
      {[](Json& g) { g["nodes"][1]["config"] = "differs"; }, "nodes", "warning node n2 runs with another group file"},
      {[](Json& g) { g["nodes"][1]["link_version"] = 3, g["nodes"][1]["version"] = "0.0.9"; }, "nodes",
       "warning node n2 has geckod 0.0.9 and speaks link version 3, this one 4"},
      {[](Json& g) { g["membership"]["trouble"] = "write /x: No space left on device"; }, "membership",
       "failure this node does not vote on who is a member: write /x: No space left on device"},
      {[](Json& g) { g["membership"]["view"] = nullptr; }, "membership", "failure there is no view yet"},
      {[](Json& g) { g["membership"]["member"] = false; }, "membership", "failure this node is not a member"},
      {[](Json& g) { g["membership"]["lease"]["holds"] = false; }, "lease",
       "failure this node has no lease: not enough members answer its heartbeats in time"},
      {[](Json& g) { g["membership"]["lease"]["expiries"] = 2; }, "lease", "note the lease has ended 2 times since geckod was started"},
      {[](Json& g) { g["membership"]["suspected"] = {"n2", "n3"}; }, "heartbeats", "warning no answer to heartbeats from n2, n3"},
      {[](Json& g) { g["contact"] = nullptr; }, "contact", "failure no node is contact"},
      {[](Json& g) { g["connections"] = 16000; }, "room", "warning 16000 of 20000 connections"},
      {[](Json& g) { g["held_packets"] = 65536; }, "room", "warning 65536 of 65536 held packets"},
      {[](Json& g) { g["held_dropped"] = 7; }, "room", "note 7 held packets have been dropped since geckod was started"},
      {[](Json& g) { g["protection"]["backups"][0]["lag_ms"] = 1234.5; }, "mirrors", "warning node n2 has not confirmed mirrors for 1234 ms"},
      {[](Json& g) { g["protection"]["backups"][0]["refused"] = 9; }, "mirrors",
       "warning node n2 has no room for 9 mirrors of this node's connections"},
      {[](Json& g) { g["protection"]["classes"][0].update({{"unprotected", 2}, {"why", "no backup has its mirror yet"}}); }, "protection",
       "warning 2 of 2 connections of port 80 are not protected: no backup has its mirror yet"}};
  Json groups = Json::array();
  for (const auto& c : cases) {
    groups.push_back(protected_group(3));
    groups.back()["name"] = "g" + std::to_string(groups.size());
    c.harm(groups.back());
  }
  const auto all = found(groups);
  for (size_t i = 0; i < cases.size(); ++i) {
    const std::string check = "g" + std::to_string(i + 1) + " " + cases[i].check;
    ASSERT_EQ(all.count(check), 1u) << check;
    EXPECT_EQ(all.find(check)->second, cases[i].says);
  }
}

TEST_F(Files, DoctorComparesTheFileWithWhatRuns) {
  const std::string file = directory_ + "/web.toml";
  std::ofstream(file) << "[group]\nname = \"web\"\naddress = \"2001:db8::80\"\nports = [80]\n[membership]\nlease = \"80ms\"\nheartbeat = \"20ms\"\n"
                         "[[node]]\nname = \"n1\"\naddress = \"2001:db8:1::1\"\n";
  const auto changed = found(Json::array({protected_group(1)}), {"-f", file});
  EXPECT_EQ(changed.find("web running-file")->second, "warning " + file + " has been changed since geckod was started");
  ASSERT_EQ(changed.count("web lease-time"), 2u);
  EXPECT_THAT(changed.find("web lease-time")->second, HasSubstr("leases of 40 ms"));
  Json group = protected_group(1);
  group["digest"] = Json::parse(gecko({"check", "-f", file, "--json"}).out)["files"][0]["digest"];
  EXPECT_EQ(found(Json::array({group}), {"-f", file}).find("web running-file")->second, "ok geckod runs with " + file + " as it is");
}

TEST(Doctor, FindingsAreCompleteAndVersioned) {
  const auto output = gecko({"doctor", "--pre", "--json", "--socket", "/nonexistent"});
  const auto json = Json::parse(output.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << output.out << output.err;
  EXPECT_EQ(json["schema"], "gecko.doctor/1");
  std::set<std::string> checks;
  for (const auto& finding : json["findings"]) {
    checks.insert(finding["check"]);
    if (finding["level"] == "failure" || finding["level"] == "warning") {
      EXPECT_NE(finding["why"], "") << finding;
      EXPECT_NE(finding["fix"], "") << finding;
    }
  }
  for (const char* check : {"tcp-repair", "tun", "steering", "unprivileged-map", "ipv6", "descriptors", "clock", "rp-filter", "foreign-addresses"})
    EXPECT_TRUE(checks.contains(check)) << check;
  EXPECT_FALSE(checks.contains("geckod"));
}

}  // namespace
}  // namespace gecko::tests
