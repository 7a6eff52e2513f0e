#include "command.hh"

#include <unistd.h>

namespace gecko::tests {

using Json = nlohmann::json;

lab::Output gecko(std::vector<std::string> arguments) {
  char self[4096] = {};
  EXPECT_GT(readlink("/proc/self/exe", self, sizeof self - 1), 0);
  arguments.insert(arguments.begin(), std::filesystem::path(self).parent_path() / "gecko");
  auto output = lab::run(arguments, {});
  EXPECT_TRUE(output) << output.error().message;
  return output ? *output : lab::Output{-1, "", ""};
}

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

std::string status_of(const Json& groups, Json reasons) {
  return Json{{"schema", "gecko.status/1"}, {"node", "n1"}, {"version", GECKO_VERSION}, {"verdict", reasons.empty() ? "ok" : "degraded"}, {"reasons", reasons},
              {"groups", groups}}.dump();
}

}  // namespace gecko::tests
