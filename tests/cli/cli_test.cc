// The command line, geckod's misbehaviour, and what is printed of a state; commands with more to them have files of their own here.
#include <gmock/gmock.h>

#include <sstream>

#include "command.hh"
#include "fake_geckod.hh"

namespace gecko::tests {
namespace {

using Json = nlohmann::json;
using Manner = FakeGeckod::Manner;
using testing::HasSubstr;
using testing::Not;

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
  for (const auto& [verdict, code] : {std::pair{"ok", 0}, {"degraded", 2}, {"down", 106}, {"unknown", 4}, {"brand-new", 4}}) {
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

TEST(Metrics, AreTheirTextOrAnObject) {
  const std::string text = "# HELP gecko_build_info x\n# TYPE gecko_build_info gauge\ngecko_build_info{version=\"0.1.0\"} 1\n";
  const FakeGeckod geckod(Manner::answers, [&](const std::string& question) {
    EXPECT_EQ(Json::parse(question)["op"], "metrics");
    return Json{{"schema", "gecko.metrics/1"}, {"text", text}}.dump();
  });
  EXPECT_EQ(gecko({"metrics", "--socket", geckod.socket()}).out, text);
  EXPECT_EQ(Json::parse(gecko({"metrics", "--json", "--socket", geckod.socket()}).out)["text"], text);
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

}  // namespace
}  // namespace gecko::tests
