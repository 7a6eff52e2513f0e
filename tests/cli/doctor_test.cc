// What gecko doctor finds, and that it says what to do about it.
#include <gmock/gmock.h>

#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "command.hh"
#include "fake_geckod.hh"

namespace gecko::tests {
namespace {

using Json = nlohmann::json;
using Manner = FakeGeckod::Manner;
using testing::HasSubstr;
using testing::Not;

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

// Of a witness, asked at a node; and on a witness, of itself and the others.
TEST_F(Files, DoctorNamesTheServiceOfAWitness) {
  const std::string file = directory_ + "/web.toml";
  std::ofstream(file) << "[group]\nname = \"web\"\naddress = \"2001:db8::80\"\nports = [80]\n[[node]]\nname = \"n1\"\naddress = \"2001:db8:1::11\"\n"
                         "[[node]]\nname = \"w\"\naddress = \"::1\"\nwitness = true\n";
  // By check and node: its words of that group.
  const auto findings = [&](const std::string& node, const Json* group, std::vector<std::string> words = {}) {
    std::optional<FakeGeckod> geckod;
    if (group != nullptr) geckod.emplace(Manner::answers, [&](const std::string&) { return status_of(Json::array({*group})); });
    words.insert(words.begin(), {"doctor", "--json", "--all", "-f", file, "--node", node, "--keys", directory_, "--socket",
                                 geckod ? geckod->socket() : "/nonexistent/geckod.sock"});
    return Json::parse(gecko(words).out, nullptr, false)["findings"];
  };
  const auto fix = [](const Json& all, const std::string& check, const std::string& what) {
    for (const auto& f : all)
      if (f["check"] == check && f["what"].get<std::string>().find(what) != std::string::npos)
        return f["fix"].get<std::string>() + " | " + f["why"].get<std::string>();
    return "no finding " + check + " with '" + what + "' in " + all.dump();
  };
  Json group = protected_group(2);
  group["nodes"].push_back({{"name", "w"}, {"address", "::1"}, {"witness", true}, {"state", "down"}, {"age_ms", 95000}, {"member", false}});
  auto all = findings("n1", &group);
  EXPECT_THAT(fix(all, "nodes", "node w is not connected"), testing::AllOf(HasSubstr("systemctl status geckod-witness, on w"), Not(HasSubstr("mirrors"))));
  EXPECT_THAT(fix(all, "running-file", "changed"), HasSubstr("systemctl restart geckod-witness on w"));
  group["nodes"][2].update({{"state", "ok"}, {"config", "differs"}});
  EXPECT_THAT(fix(findings("n1", &group), "nodes", "node w runs with another group file"), HasSubstr("then systemctl restart geckod-witness there |"));

  Json own = group;
  own["witness"] = true;
  own.erase("protection");
  own.erase("limits");
  own["nodes"][0]["state"] = "down";
  own["nodes"][2].update({{"state", "self"}, {"config", "same"}});
  own["membership"]["member"] = false;
  all = findings("w", &own);
  EXPECT_THAT(fix(all, "membership", "this witness is not a member"), HasSubstr("systemctl restart geckod-witness"));
  EXPECT_THAT(fix(all, "nodes", "node n1 is not connected"), HasSubstr("systemctl status geckod, on n1"));
  own["membership"]["member"] = true;
  own["membership"]["lease"]["holds"] = false;
  own["contact"] = nullptr;
  all = findings("w", &own);
  EXPECT_THAT(fix(all, "lease", "has no lease"), HasSubstr("its vote may be missing"));
  EXPECT_THAT(fix(all, "contact", "no node is contact"), HasSubstr("at a node that serves"));
  // Not running; and what its kernel and its network cannot do for connections it is not asked.
  all = findings("w", nullptr);
  EXPECT_THAT(fix(all, "geckod", "not running"), HasSubstr("systemctl start geckod-witness; journalctl -u geckod-witness says why"));
  std::set<std::string> checks;
  for (const auto& f : all) checks.insert(f["check"]);
  for (const char* check : {"ipv6", "clock", "state", "keys"}) EXPECT_TRUE(checks.contains(check)) << check;
  for (const char* check : {"tcp-repair", "tun", "steering", "unprivileged-map", "descriptors", "rp-filter", "foreign-addresses", "mtu", "big-tcp"})
    EXPECT_FALSE(checks.contains(check)) << check;
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
