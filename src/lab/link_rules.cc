#include "lab/link_rules.hh"

#include <map>

namespace gecko::lab {

std::string port_of(const std::string& host) { return host == "client" ? "clients" : host; }

std::string device_of(const Direction& direction) { return direction.from + "-" + direction.to; }

std::string link_rules(const std::vector<Direction>& directions) {
  // Naming it first makes the removal right whether or not it is there.
  std::string rules = "table netdev gecko-links\ndelete table netdev gecko-links\n";
  if (directions.empty()) return rules;
  std::map<std::string, std::string> marks, into;  // per host: its mark; the rules at its port
  for (const auto& direction : directions) {
    const auto mark = marks.emplace(direction.from, std::to_string(marks.size() + 1)).first;
    into[direction.to] += "    meta mark " + mark->second + " fwd to \"" + device_of(direction) + "\"\n";
  }
  rules += "table netdev gecko-links {\n";
  for (const auto& [host, mark] : marks)
    rules += "  chain from-" + host + " {\n    type filter hook ingress device \"" + port_of(host) + "\" priority 0\n    meta mark set " + mark +
             "\n  }\n";
  for (const auto& [host, forward] : into)
    rules += "  chain to-" + host + " {\n    type filter hook egress device \"" + port_of(host) + "\" priority 0\n" + forward + "  }\n";
  return rules + "}\n";
}

}  // namespace gecko::lab
