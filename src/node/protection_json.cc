#include "node/protection_json.hh"

#include <algorithm>
#include <map>

#include "node/daemon.hh"

namespace gecko::node {
namespace {

// A younger connection's mirror is on its way to the backups: that it is not there yet is nothing to warn of.
constexpr Duration kFresh = std::chrono::seconds(1);

double in_ms(Duration d) { return static_cast<double>(std::chrono::duration_cast<std::chrono::microseconds>(d).count()) / 1000.0; }

struct Class {
  size_t connections = 0, kept = 0;
  std::map<std::string, size_t> why_not;   // not fresh, and would end with this node
};

// By port: the connections of a port have one program, and so one way to be protected.
Json classes(const Group& group, Time now) {
  std::map<uint16_t, Class> by_port;
  for (const auto port : group.config().ports) by_port[port];
  for (const auto& [id, connection] : group.connections()) {
    const auto at = by_port.find(connection.flow.local.port);
    if (at == by_port.end()) continue;   // made from the group's address
    ++at->second.connections;
    if (!group.shield().guards(at->first)) continue;
    const std::string why = group.shield().unprotected_because(connection);
    if (why.empty()) ++at->second.kept;
    else if (!connection.moving && now - connection.since > kFresh) ++at->second.why_not[why];
  }
  const auto behind = group.shield().mirroring().behind(now);
  Json rows = Json::array();
  for (const auto& [port, c] : by_port) {
    size_t unprotected = 0;
    for (const auto& [why, count] : c.why_not) unprotected += count;
    const auto most = std::max_element(c.why_not.begin(), c.why_not.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    const auto lag = behind.find(port);
    Json row{{"port", port}, {"recovery", recovery_of(group, port)}, {"connections", c.connections}, {"protected", c.kept}, {"unprotected", unprotected}};
    row["lag_ms"] = lag == behind.end() ? 0.0 : in_ms(lag->second.oldest);
    row["lag_bytes"] = lag == behind.end() ? uint64_t{0} : lag->second.bytes;
    if (unprotected != 0) row["why"] = most->first;
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

std::string recovery_of(const Group& group, uint16_t port) {
  if (!group.shield().guards(port)) return "none";
  return group.shield().replicates(port) ? "replicated" : "fast";
}

Json protection_json(const Daemon& daemon, const Group& group, Time now) {
  Json p;
  p["recovery"] = group.config().recovery == config::Recovery::fast ? "fast" : "replicated";
  if (daemon.gate() == nullptr) return p;
  const auto& nodes = group.config().nodes;
  const auto r = group.shield().report();
  p["guarded"] = r.guarded;
  p["mirrored"] = r.mirrored;
  p["kept"] = r.kept;
  p["replicated"] = r.replicated;
  p["ending"] = r.ending;
  p["not_mirrored"] = r.unnamed;
  p["refused"] = r.refused;
  Json backups = Json::array();
  for (const auto& lag : group.shield().mirroring().lags(now))
    backups.push_back({{"node", nodes[lag.node].name}, {"complete", lag.complete}, {"unanswered", lag.unanswered},
                       {"lag_ms", in_ms(lag.oldest)}, {"lag_bytes", lag.bytes}, {"refused", lag.refused}});
  p["backups"] = std::move(backups);
  p["classes"] = classes(group, now);
  const auto& mirrors = group.mirrors();
  Json lives = Json::array();
  for (const auto& life : mirrors.lives())
    lives.push_back({{"node", nodes[life.node].name}, {"incarnation", life.incarnation}, {"connections", mirrors.count(life)}});
  p["keeps"] = {{"connections", mirrors.totals().connections}, {"blob_bytes", mirrors.totals().blob_bytes}, {"refused", mirrors.totals().refused},
                {"refused_blobs", mirrors.totals().refused_blobs}, {"replicas", mirrors.totals().replicas}, {"replica_bytes", mirrors.totals().replica_bytes},
                {"refused_inputs", mirrors.totals().refused_inputs}, {"of", std::move(lives)}};
  p["given_away"] = {{"connections", group.given_away().size()}, {"bytes", group.given_away().bytes()}};
  if (const auto counters = daemon.gate()->counters()) {
    Json gate;
    for (int i = 0; i < GECKO_G_COUNT; ++i) gate[std::string(bpf::to_string(static_cast<gecko_gate_counter>(i)))] = (*counters)[static_cast<size_t>(i)];
    p["gate"] = std::move(gate);
  }
  return p;
}

}  // namespace gecko::node
