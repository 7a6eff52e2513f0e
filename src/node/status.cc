#include "node/status.hh"

#include "node/daemon.hh"
#include "node/protection_json.hh"
#include "node/status_json.hh"

namespace gecko::node {
namespace {

constexpr size_t kMostNetworksShown = 100;   // policy locality

// What is wrong, without a look at every connection.
Reasons reasons(const Daemon& daemon) {
  Reasons wrong;
  for (const auto& group : daemon.groups()) {
    const auto& config = group->config();
    judge_links(config, group->links(), wrong);
    if (group->contact() >= config.nodes.size())
      wrong.add("group " + config.name + ": no contact" + (group->contact() == kNowhere && group->view().epoch == 0 ? " yet" : ""));
    judge_membership(config, group->members(), wrong);
  }
  return wrong;
}

Json row_of(const Group& group, const Peer& peer, Time now) {
  Json row = node_row(group.config(), group.self(), group.links(), group.members(), peer, now);
  row["draining"] = group.drain().draining(peer.index);
  if (peer.index != group.self()) return row;
  row["connections"] = group.connections().size();
  row["applications"] = group.applications();
  row["ports"] = group.served_ports();
  return row;
}

}  // namespace

Json membership_json(const Group& group) {
  Json m = membership_json(group.config(), group.members());
  m["lease"]["expiries"] = group.lease_expiries();
  return m;
}

Json status_json(Daemon& daemon) {
  const Time now = monotonic_now();
  Reasons wrong = reasons(daemon);
  Json groups = Json::array();
  for (const auto& group : daemon.groups()) {
    const auto& config = group->config();
    const auto& c = group->counters();
    Json nodes = Json::array();
    for (const auto& peer : group->peers())
      if (!config.nodes[peer.index].removed) nodes.push_back(row_of(*group, peer, now));
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
          wrong.add("group " + config.name + ": " + std::to_string(row.at("unprotected").get<size_t>()) + " of " +
                          std::to_string(row.at("connections").get<size_t>()) + " connections of port " + std::to_string(row.at("port").get<unsigned>()) +
                          " would end with this node: " + row.at("why").get<std::string>());
      g["protection"] = std::move(p);
    }
    groups.push_back(std::move(g));
  }
  return status_frame(daemon.options().node, wrong, std::move(groups));
}

std::string summary(const Daemon& daemon) {
  const auto wrong = reasons(daemon);
  std::string text = wrong.text();
  for (const auto& group : daemon.groups()) {
    const auto& nodes = group->config().nodes;
    const auto& view = group->view();
    text += (group == daemon.groups().front() ? (wrong.none() ? ": " : ". ") : "; ") + group->config().name + ": " +
            std::to_string(group->connections().size()) + " connections, " +
            (view.epoch == 0 ? "no view yet" : "view " + std::to_string(group->view_number()) + " of " + std::to_string(view.members.size()) + " members") +
            (group->contact() < nodes.size() ? ", contact " + nodes[group->contact()].name : "");
  }
  return text;
}

}  // namespace gecko::node
