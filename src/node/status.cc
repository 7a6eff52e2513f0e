#include "node/status.hh"

#include <algorithm>

#include "node/daemon.hh"
#include "node/event_json.hh"
#include "node/protection_json.hh"

namespace gecko::node {
namespace {

constexpr size_t kMostNetworksShown = 100;   // policy locality

int64_t age_ms(Time since, Time now) { return std::chrono::duration_cast<std::chrono::milliseconds>(now - since).count(); }

Json names_of(const Group& group, core::NodeSet nodes) {
  Json out = Json::array();
  for (uint16_t n = 0; n < group.config().nodes.size() && n <= wire::kMaxNodeIndex; ++n)
    if (nodes & core::one(n)) out.push_back(group.config().nodes[n].name);
  return out;
}

// Who keeps the mirrors of a node's connections, its heir first.
Json backups_of(const Group& group, uint16_t node) {
  Json out = Json::array();
  if (core::find(group.view(), node) == nullptr) return out;
  for (const auto backup : core::successors_of(group.view(), node, group.config().backups))
    if (backup < group.config().nodes.size()) out.push_back(group.config().nodes[backup].name);
  return out;
}

Json node_row(const Group& group, const Peer& peer, Time now) {
  const auto& node = group.config().nodes[peer.index];
  const bool self = peer.index == group.self();
  Json row;
  row["name"] = node.name;
  row["address"] = node.address.str();
  row["draining"] = group.drain().draining(peer.index);
  const auto& view = group.view();
  row["member"] = view.epoch == 0 ? Json(nullptr) : Json(core::find(view, peer.index) != nullptr);
  row["suspected"] = (group.members().suspects() & core::one(peer.index)) != 0;
  row["state"] = self ? "self" : peer.up() ? "ok" : peer.state == PeerState::down ? "down" : "unknown";
  row["age_ms"] = self ? Json(0) : peer.last_heard == Time{} ? Json(nullptr) : Json(age_ms(peer.last_heard, now));
  row["connections"] = self ? group.connections().size() : peer.connections;
  row["applications"] = self ? group.applications() : peer.applications;
  row["ports"] = self ? Json(group.served_ports()) : peer.ports ? Json(*peer.ports) : Json(nullptr);   // null: it does not say
  row["weight"] = group.config().nodes[peer.index].weight;
  row["version"] = peer.software;
  row["link_version"] = self ? Json(wire::kLinkVersion) : peer.up() ? Json(peer.version) : Json(nullptr);
  row["config"] = peer.config_digest.empty() ? "unknown" : peer.config_digest == group.digest() ? "same" : "differs";
  if (group.config().recovery != config::Recovery::none) row["backups"] = backups_of(group, peer.index);
  if (!peer.last_error.empty() && !peer.up()) row["error"] = peer.last_error;
  return row;
}

// What is wrong, without a look at every connection.
std::vector<std::string> reasons(const Daemon& daemon) {
  std::vector<std::string> wrong;
  for (const auto& group : daemon.groups()) {
    const auto& config = group->config();
    const auto say = [&](const std::string& what) { wrong.push_back("group " + config.name + ": " + what); };
    for (const auto& peer : group->peers()) {
      if (peer.removed) continue;
      if (!peer.up()) say("node " + config.nodes[peer.index].name + " is not connected" + (peer.last_error.empty() ? "" : ": " + peer.last_error));
      else if (peer.config_digest != group->digest()) say("node " + config.nodes[peer.index].name + " has another group file");
    }
    if (group->contact() >= config.nodes.size()) say(std::string("no contact") + (group->contact() == kNowhere && group->view().epoch == 0 ? " yet" : ""));
    if (!group->members().trouble().empty()) say("this node does not vote on who is a member: " + group->members().trouble());
    else if (group->view().epoch != 0 && !group->is_member()) say("this node is not a member");
    else if (group->is_member() && !group->members().lease().holds) say("this node has no lease: not enough members answer it");
  }
  return wrong;
}

}  // namespace

Json membership_json(const Group& group) {
  const auto& view = group.view();
  const auto name = [&](uint16_t node) { return node < group.config().nodes.size() ? Json(group.config().nodes[node].name) : Json(nullptr); };
  Json m;
  m["member"] = group.is_member();
  m["life"] = life_text(group.life().incarnation);
  m["voting"] = group.members().trouble().empty() && group.life().incarnation != 0;
  if (!group.members().trouble().empty()) m["trouble"] = group.members().trouble();
  m["lease"] = {{"holds", group.members().lease().holds}, {"term", group.members().lease().term}, {"expiries", group.lease_expiries()}};
  m["suspected"] = names_of(group, group.members().suspects());
  if (view.epoch == 0) {
    m["view"] = nullptr;
    return m;
  }
  Json orphans = Json::array();
  for (const auto& o : view.orphans) orphans.push_back({{"node", name(o.node)}, {"heir", name(o.heir)}});
  m["view"] = {{"epoch", view.epoch},
               {"number", view.epoch & UINT32_MAX},
               {"members", names_of(group, core::members(view))},
               {"lease_ms", static_cast<double>(view.lease_us) / 1000.0},
               {"two_nodes", view.two_nodes == wire::TwoNodes::safe ? "safe" : "available"},
               {"orphans", std::move(orphans)}};
  return m;
}

Json status_json(Daemon& daemon) {
  const Time now = monotonic_now();
  std::vector<std::string> wrong = reasons(daemon);
  Json groups = Json::array();
  for (const auto& group : daemon.groups()) {
    const auto& config = group->config();
    const auto& c = group->counters();
    Json nodes = Json::array();
    for (const auto& peer : group->peers())
      if (!peer.removed) nodes.push_back(node_row(*group, peer, now));
    const bool contact = group->contact() < config.nodes.size();
    Json g;
    g["name"] = config.name;
    g["address"] = config.address.str();
    g["ports"] = config.ports;
    g["contact"] = contact ? Json(config.nodes[group->contact()].name) : Json(nullptr);
    g["contact_term"] = group->contact_term();
    g["membership"] = membership_json(*group);
    g["policy"] = config.policy;
    g["return"] = config.return_path == config::ReturnPath::home ? "home" : "direct";
    g["digest"] = group->digest();
    g["recovery"] = config.recovery == config::Recovery::none ? "none" : config.recovery == config::Recovery::fast ? "fast" : "replicated";
    g["connections"] = group->connections().size();
    g["applications"] = group->applications();
    g["handoffs"] = {{"out_ok", c.out_ok}, {"out_failed", c.out_failed}, {"in_ok", c.in_ok}, {"in_failed", c.in_failed}};
    g["holes_waited"] = c.holes_waited;
    g["holes_accepted"] = c.holes_accepted;
    g["late_segments"] = c.late_segments;
    g["lost"] = c.lost;
    g["unknown_flows"] = c.unknown_flows;
    if (config.recovery != config::Recovery::none) {
      const auto& heir = group->heir().counters();
      Json lost = Json::object();
      for (size_t i = 0; i < core::kLostReasons; ++i) lost[std::string(core::to_string(static_cast<core::LostBy>(i)))] = heir.lost[i];
      g["recoveries"] = {{"recovered", heir.recovered}, {"elsewhere", heir.elsewhere}, {"under_way", group->heir().under_way()}, {"lost", std::move(lost)}};
    }
    g["held_packets"] = daemon.hold().packets();
    g["held_dropped"] = daemon.hold().dropped();
    g["limits"] = {{"connections", config.max_connections}, {"held_packets", config.max_held_packets}, {"held_bytes", config.max_held_bytes}};
    g["nodes"] = std::move(nodes);
    if (config.policy == "locality") {
      Json networks = Json::array();
      for (const auto& network : group->nearness().networks()) {
        if (networks.size() == kMostNetworksShown) break;
        Json near = Json::array();
        for (const auto node : group->nearness().near(network, now)) near.push_back(config.nodes[node].name);
        networks.push_back({{"network", network.str()}, {"near", std::move(near)}});
      }
      g["measured_networks"] = std::move(networks);
    }
    if (config.recovery != config::Recovery::none) {
      Json p = protection_json(daemon, *group, now);
      for (const auto& row : p.value("classes", Json::array()))
        if (row.at("unprotected") != 0)
          wrong.push_back("group " + config.name + ": " + std::to_string(row.at("unprotected").get<size_t>()) + " of " +
                          std::to_string(row.at("connections").get<size_t>()) + " connections of port " + std::to_string(row.at("port").get<unsigned>()) +
                          " would end with this node: " + row.at("why").get<std::string>());
      g["protection"] = std::move(p);
    }
    groups.push_back(std::move(g));
  }
  Json out;
  out["schema"] = "gecko.status/1";
  out["node"] = daemon.options().node;
  out["version"] = GECKO_VERSION;
  out["verdict"] = wrong.empty() ? "ok" : "degraded";
  out["reasons"] = std::move(wrong);
  out["groups"] = std::move(groups);
  return out;
}

std::string summary(const Daemon& daemon) {
  const auto wrong = reasons(daemon);
  std::string text = wrong.empty() ? "ok" : "degraded";
  for (const auto& reason : wrong) text += (&reason == &wrong.front() ? ": " : "; ") + reason;
  for (const auto& group : daemon.groups()) {
    const auto& nodes = group->config().nodes;
    const auto& view = group->view();
    text += (group == daemon.groups().front() ? (wrong.empty() ? ": " : ". ") : "; ") + group->config().name + ": " +
            std::to_string(group->connections().size()) + " connections, " +
            (view.epoch == 0 ? "no view yet" : "view " + std::to_string(group->view_number()) + " of " + std::to_string(view.members.size()) + " members") +
            (group->contact() < nodes.size() ? ", contact " + nodes[group->contact()].name : "");
  }
  return text;
}

}  // namespace gecko::node
