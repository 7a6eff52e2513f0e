#include "node/status_json.hh"

#include "node/event_json.hh"

namespace gecko::node {
namespace {

Json names_of(const config::GroupConfig& config, core::NodeSet nodes) {
  Json out = Json::array();
  for (uint16_t n = 0; n < config.nodes.size() && n <= wire::kMaxNodeIndex; ++n)
    if (nodes & core::one(n)) out.push_back(config.nodes[n].name);
  return out;
}

int64_t age_ms(Time since, Time now) { return std::chrono::duration_cast<std::chrono::milliseconds>(now - since).count(); }

// Who keeps the mirrors of a node's connections, its heir first.
Json backups_of(const config::GroupConfig& config, const wire::View& view, uint16_t node) {
  Json out = Json::array();
  if (core::find(view, node) == nullptr || config.is_witness(node)) return out;
  for (const auto backup : core::successors_of(view, node, config.backups))
    if (backup < config.nodes.size()) out.push_back(config.nodes[backup].name);
  return out;
}

}  // namespace

Json node_row(const config::GroupConfig& config, uint16_t self_index, const Links& links, const Members& members, const Peer& peer, Time now) {
  const auto& node = config.nodes[peer.index];
  const auto& view = members.view();
  const bool self = peer.index == self_index;
  Json row;
  row["name"] = node.name;
  row["address"] = node.address.str();
  if (node.witness) row["witness"] = true;
  row["draining"] = false;
  row["member"] = view.epoch == 0 ? Json(nullptr) : Json(core::find(view, peer.index) != nullptr);
  row["suspected"] = (members.suspects() & core::one(peer.index)) != 0;
  row["state"] = self ? "self" : peer.up() ? "ok" : peer.state == PeerState::down ? "down" : "unknown";
  row["age_ms"] = self ? Json(0) : peer.last_heard == Time{} ? Json(nullptr) : Json(age_ms(peer.last_heard, now));
  row["connections"] = peer.connections;
  row["applications"] = peer.applications;
  row["ports"] = peer.ports ? Json(*peer.ports) : Json(nullptr);   // null: it does not say
  row["weight"] = node.weight;
  row["version"] = peer.software;
  row["link_version"] = self ? Json(wire::kLinkVersion) : peer.up() ? Json(peer.version) : Json(nullptr);
  row["config"] = peer.config_digest.empty() ? "unknown" : peer.config_digest == links.digest() ? "same" : "differs";
  if (config.recovery != config::Recovery::none) row["backups"] = backups_of(config, view, peer.index);
  if (!peer.last_error.empty() && !peer.up()) row["error"] = peer.last_error;
  return row;
}

Json membership_json(const config::GroupConfig& config, const Members& members) {
  const auto& view = members.view();
  const auto name = [&](uint16_t node) { return node < config.nodes.size() ? Json(config.nodes[node].name) : Json(nullptr); };
  const uint64_t incarnation = members.life().incarnation;
  Json m;
  m["member"] = members.is_member();
  m["life"] = life_text(incarnation);
  m["voting"] = members.trouble().empty() && incarnation != 0;
  if (!members.trouble().empty()) m["trouble"] = members.trouble();
  m["lease"] = {{"holds", members.lease().holds}, {"term", members.lease().term}};
  m["suspected"] = names_of(config, members.suspects());
  if (view.epoch == 0) {
    m["view"] = nullptr;
    return m;
  }
  Json orphans = Json::array();
  for (const auto& o : view.orphans) orphans.push_back({{"node", name(o.node)}, {"heir", name(o.heir)}});
  m["view"] = {{"epoch", view.epoch},
               {"number", view.epoch & UINT32_MAX},
               {"members", names_of(config, core::members(view))},
               {"lease_ms", static_cast<double>(view.lease_us) / 1000.0},
               {"two_nodes", view.two_nodes == wire::TwoNodes::safe ? "safe" : "available"},
               {"orphans", std::move(orphans)}};
  return m;
}

void judge_links(const config::GroupConfig& config, const Links& links, Reasons& reasons) {
  for (const auto& peer : links.peers()) {
    const auto& node = config.nodes[peer.index];
    if (node.removed) continue;
    const std::string who = "group " + config.name + ": node " + node.name;
    if (!peer.up()) reasons.add(who + " is not connected" + (peer.last_error.empty() ? "" : ": " + peer.last_error));
    else if (peer.config_digest != links.digest()) reasons.add(who + " has another group file");
  }
}

void judge_membership(const config::GroupConfig& config, const Members& members, Reasons& reasons) {
  if (!members.trouble().empty()) reasons.add("group " + config.name + ": this node does not vote on who is a member: " + members.trouble());
  else if (members.view().epoch != 0 && !members.is_member()) reasons.add("group " + config.name + ": this node is not a member");
  else if (members.is_member() && !members.lease().holds) {
    reasons.add("group " + config.name + ": this node has no lease: not enough members answer it");
    reasons.is_down = true;
  }
}

std::string Reasons::text() const {
  std::string text = verdict();
  for (const auto& word : words) text += (&word == &words.front() ? ": " : "; ") + word;
  return text;
}

Json status_frame(const std::string& node, const Reasons& reasons, Json groups) {
  Json out;
  out["schema"] = "gecko.status/1";
  out["node"] = node;
  out["version"] = GECKO_VERSION;
  out["verdict"] = reasons.verdict();
  out["reasons"] = reasons.words;
  out["groups"] = std::move(groups);
  return out;
}

}  // namespace gecko::node
