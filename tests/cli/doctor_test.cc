// What gecko doctor finds, and that it says what to do about it.
#include <gmock/gmock.h>

#include <fstream>
#include <functional>
#include <map>
#include <set>

#include "command.hh"
#include "fake_geckod.hh"

namespace gecko::tests {
namespace {

using Json = nlohmann::json;
using Manner = FakeGeckod::Manner;
using testing::HasSubstr;

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
