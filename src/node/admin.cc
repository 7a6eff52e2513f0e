#include "node/admin.hh"

#include <algorithm>

#include "node/admin_events.hh"
#include "node/daemon.hh"
#include "node/event_json.hh"

namespace gecko::node {
namespace {

constexpr size_t kMostNetworksShown = 100;   // policy locality

int64_t age_ms(Time since, Time now) { return std::chrono::duration_cast<std::chrono::milliseconds>(now - since).count(); }

Json node_row(const Group& group, const Peer& peer, Time now) {
  const auto& node = group.config().nodes[peer.index];
  const bool self = peer.index == group.self();
  Json row;
  row["name"] = node.name;
  row["address"] = node.address.str();
  row["draining"] = group.drain().draining(peer.index);
  row["state"] = self ? "self" : peer.up() ? "ok" : peer.state == PeerState::down ? "down" : "unknown";
  row["age_ms"] = self ? Json(0) : peer.last_heard == Time{} ? Json(nullptr) : Json(age_ms(peer.last_heard, now));
  row["connections"] = self ? group.connections().size() : peer.connections;
  row["applications"] = self ? group.applications() : peer.applications;
  row["ports"] = self ? Json(group.served_ports()) : peer.ports ? Json(*peer.ports) : Json(nullptr);   // null: it does not say
  row["weight"] = group.config().nodes[peer.index].weight;
  row["version"] = peer.software;
  row["config"] = peer.config_digest.empty() ? "unknown" : peer.config_digest == group.digest() ? "same" : "differs";
  if (!peer.last_error.empty() && !peer.up()) row["error"] = peer.last_error;
  return row;
}

Json names_of(const Group& group, core::NodeSet nodes) {
  Json out = Json::array();
  for (uint16_t n = 0; n < group.config().nodes.size() && n <= wire::kMaxNodeIndex; ++n)
    if (nodes & core::one(n)) out.push_back(group.config().nodes[n].name);
  return out;
}

// Who may own: the view, this node's lease, whom it suspects.
Json membership_of(const Group& group) {
  const auto& view = group.view();
  const auto name = [&](uint16_t node) { return node < group.config().nodes.size() ? Json(group.config().nodes[node].name) : Json(nullptr); };
  Json m;
  m["member"] = group.is_member();
  m["life"] = life_text(group.life().incarnation);
  m["voting"] = group.members().trouble().empty() && group.life().incarnation != 0;
  if (!group.members().trouble().empty()) m["trouble"] = group.members().trouble();
  m["lease"] = {{"holds", group.members().lease().holds}, {"term", group.members().lease().term}};
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

// What keeps this group's connections alive beyond this node, and what this node keeps of the others'.
Json protection(Daemon& daemon, const Group& group, Time now) {
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
                       {"lag_ms", static_cast<double>(std::chrono::duration_cast<std::chrono::microseconds>(lag.oldest).count()) / 1000.0},
                       {"refused", lag.refused}});
  p["backups"] = std::move(backups);
  const auto& mirrors = group.mirrors();
  Json lives = Json::array();
  for (const auto& life : mirrors.lives())
    lives.push_back({{"node", nodes[life.node].name}, {"incarnation", life.incarnation}, {"connections", mirrors.count(life)}});
  p["keeps"] = {{"connections", mirrors.totals().connections}, {"blob_bytes", mirrors.totals().blob_bytes}, {"refused", mirrors.totals().refused},
                {"refused_blobs", mirrors.totals().refused_blobs}, {"replicas", mirrors.totals().replicas}, {"replica_bytes", mirrors.totals().replica_bytes},
                {"refused_inputs", mirrors.totals().refused_inputs}, {"of", std::move(lives)}};
  if (const auto counters = daemon.gate()->counters()) {
    Json gate;
    for (int i = 0; i < GECKO_G_COUNT; ++i) gate[std::string(bpf::to_string(static_cast<gecko_gate_counter>(i)))] = (*counters)[static_cast<size_t>(i)];
    p["gate"] = std::move(gate);
  }
  return p;
}

// The mirrors that this node keeps.
void mirrors(Daemon& daemon, const std::string& only, const Reply& reply) {
  Rows rows;
  for (const auto& group : daemon.groups()) {
    if (!only.empty() && group->config().name != only) continue;
    group->mirrors().for_each([&](const core::OwnerLife& life, const core::MirroredConnection& c) {
      rows.add(0, [&] {
        Json row{{"id", c.id.str()},           {"group", group->config().name}, {"client", c.tcp.flow.peer.str()}, {"local", c.tcp.flow.local.str()},
                 {"owner", group->config().nodes[life.node].name}, {"epoch", c.epoch}, {"acked", c.tcp.acked}, {"received", c.tcp.received},
                 {"fin_received", c.tcp.fin_received}};
        const core::SavedState* saved = c.saved ? &*c.saved : nullptr;
        if (c.replica) {
          const auto& log = c.replica->input();
          row["input"] = {{"begin", log.begin()}, {"end", log.end()}, {"ended", log.ended()}};
          row["checkpoints"] = c.replica->saved().size();
          if (!c.replica->saved().empty()) saved = &c.replica->saved().back();
        }
        if (saved != nullptr) row["checkpoint"] = {{"input", saved->input}, {"output", saved->output}, {"bytes", saved->blob.size()}};
        return row;
      });
    });
  }
  Json out;
  out["schema"] = "gecko.mirrors/1";
  rows.into(out, "mirrors");
  reply(dump(out));
}

}  // namespace

Json status_json(Daemon& daemon) {
  const Time now = monotonic_now();
  std::vector<std::string> reasons;
  Json groups = Json::array();
  for (const auto& group : daemon.groups()) {
    const auto& config = group->config();
    const auto& c = group->counters();
    Json nodes = Json::array();
    for (const auto& peer : group->peers()) {
      nodes.push_back(node_row(*group, peer, now));
      if (!peer.up())
        reasons.push_back("group " + config.name + ": node " + config.nodes[peer.index].name + " is not connected" +
                          (peer.last_error.empty() ? "" : ": " + peer.last_error));
      else if (peer.config_digest != group->digest())
        reasons.push_back("group " + config.name + ": node " + config.nodes[peer.index].name + " has another group file");
    }
    const bool contact = group->contact() < config.nodes.size();
    if (!contact) reasons.push_back("group " + config.name + ": no contact" + (group->contact() == kNowhere && group->view().epoch == 0 ? " yet" : ""));
    if (!group->members().trouble().empty())
      reasons.push_back("group " + config.name + ": this node does not vote on who is a member: " + group->members().trouble());
    else if (group->view().epoch != 0 && !group->is_member())
      reasons.push_back("group " + config.name + ": this node is not a member");
    else if (group->is_member() && !group->members().lease().holds)
      reasons.push_back("group " + config.name + ": this node has no lease: not enough members answer it");
    Json g;
    g["name"] = config.name;
    g["address"] = config.address.str();
    g["ports"] = config.ports;
    g["contact"] = contact ? Json(config.nodes[group->contact()].name) : Json(nullptr);
    g["contact_term"] = group->contact_term();
    g["membership"] = membership_of(*group);
    g["policy"] = config.policy;
    g["return"] = config.return_path == config::ReturnPath::home ? "home" : "direct";
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
    if (config.recovery != config::Recovery::none) g["protection"] = protection(daemon, *group, now);
    groups.push_back(std::move(g));
  }
  Json out;
  out["schema"] = "gecko.status/1";
  out["node"] = daemon.options().node;
  out["version"] = GECKO_VERSION;
  out["verdict"] = reasons.empty() ? "ok" : "degraded";
  out["reasons"] = reasons;
  out["groups"] = std::move(groups);
  return out;
}

Json connection_row(Daemon& daemon, const Group& group, const Connection& c, Time now) {
  Json row{{"id", c.id.str()}, {"group", group.config().name}, {"client", c.flow.peer.str()}, {"local", c.flow.local.str()},
           {"node", daemon.options().node}, {"epoch", c.epoch}, {"state", c.moving ? "moving" : "live"}, {"movable", c.movable},
           {"age_s", static_cast<double>(age_ms(c.since, now)) / 1000.0}};
  if (!c.reason.empty()) row["reason"] = c.reason;
  if (group.config().recovery != config::Recovery::none) {
    const std::string why = group.shield().unprotected_because(c.flow);
    row["protected"] = why.empty();
    if (!why.empty()) row["not_protected"] = why;
    if (group.config().recovery == config::Recovery::replicated) {
      const auto input = group.shield().progress(c.flow);
      row["replicated"] = input && input->kept >= input->stable;
      if (input) row["input"] = {{"read", input->reported}, {"stable", input->stable}, {"kept", input->kept}};
    }
  }
  if (c.wanted_at != kNowhere) row["leaves_for"] = group.config().nodes[c.wanted_at].name;
  return row;
}

namespace {

void connections(Daemon& daemon, const std::string& only, const Reply& reply) {
  const Time now = monotonic_now();
  Rows rows;
  for (const auto& group : daemon.groups()) {
    if (!only.empty() && group->config().name != only) continue;
    for (const auto& [id, c] : group->connections())
      rows.add(c.reason.size(), [&, &c = c] { return connection_row(daemon, *group, c, now); });
  }
  Json out;
  out["schema"] = "gecko.connections/1";
  rows.into(out, "connections");
  reply(dump(out));
}

Result<Endpoint> client_of(const std::string& given) {
  if (auto address = Address::parse(given)) return Endpoint{*address, 0};
  return Endpoint::parse(given);
}

void handoff(Daemon& daemon, const net::PeerCred& who, const nlohmann::json& request, const Reply& reply) {
  auto group = daemon.find_group(text(request, "group"));
  if (!group) return fail(reply, group.error());
  if (auto may = daemon.may_administer(who, (*group)->config()); !may) return fail(reply, may.error());
  const auto client = client_of(text(request, "client"));
  if (!client) return fail(reply, client.error());
  const std::string to = text(request, "to");
  const auto started = (*group)->handoff_client(*client, to, Cause::operator_word, [reply, to](std::vector<wire::ClientOutcome> outcomes) {
    Rows rows;
    size_t moved = 0;
    for (const auto& o : outcomes) {
      moved += o.code == 0 ? 1 : 0;
      rows.add(o.reason.size(), [&] {
        return Json{{"id", o.id.str()}, {"client", o.client.str()}, {"from", o.from}, {"to", to}, {"ok", o.code == 0}, {"code", o.code}, {"error", o.reason}};
      });
    }
    Json out{{"schema", "gecko.handoff/1"}, {"moved", moved}, {"failed", outcomes.size() - moved}};
    rows.into(out, "results");
    reply(dump(out));
  });
  if (!started) fail(reply, started.error());
}

void contact(Daemon& daemon, const net::PeerCred& who, const nlohmann::json& request, const Reply& reply) {
  auto group = daemon.find_group(text(request, "group"));
  if (!group) return fail(reply, group.error());
  if (auto may = daemon.may_administer(who, (*group)->config()); !may) return fail(reply, may.error());
  const std::string node = text(request, "node");
  (*group)->set_contact(node, [reply, g = *group](const Status& status) {
    if (!status) return fail(reply, status.error());
    const bool known = g->contact() < g->config().nodes.size();
    reply(dump({{"schema", "gecko.contact/1"}, {"group", g->config().name}, {"contact", known ? Json(g->config().nodes[g->contact()].name) : Json(nullptr)},
                {"term", g->contact_term()}}));
  });
}

// {"op":"member","action":"form"|"join"|"remove"|"dead","nodes":[NAME, ...]}
void member(Daemon& daemon, const net::PeerCred& who, const nlohmann::json& request, const Reply& reply) {
  auto found = daemon.find_group(text(request, "group"));
  if (!found) return fail(reply, found.error());
  Group& group = **found;
  if (auto may = daemon.may_administer(who, group.config()); !may) return fail(reply, may.error());
  const std::string action = text(request, "action");
  std::vector<uint16_t> nodes;
  if (const auto list = request.find("nodes"); list != request.end() && list->is_array())
    for (const auto& one : *list) {
      const auto node = group.find_node(one.is_string() ? one.get<std::string>() : std::string());
      if (!node) return fail(reply, node.error());
      nodes.push_back(*node);
    }
  const uint16_t first = nodes.empty() ? group.self() : nodes.front();
  Status done;
  if (action == "form") done = group.members().form();
  else if (action == "join") done = group.members().join(first);
  else if (action == "remove") done = nodes.size() == 1 ? group.members().remove(first) : make_error(Errc::invalid, "one node is removed at a time");
  else if (action == "dead") done = nodes.empty() ? make_error(Errc::invalid, "which nodes are dead?") : group.members().declare_dead(nodes);
  else done = make_error(Errc::invalid, "a member's action is form, join, remove or dead, not '" + action.substr(0, 64) + "'");
  if (!done) return fail(reply, done.error());
  reply(dump({{"schema", "gecko.member/1"}, {"group", group.config().name}, {"action", action}, {"membership", membership_of(group)}}));
}

Json drain_json(const Group& group, uint16_t node, const wire::DrainReport& r) {
  const auto& nodes = group.config().nodes;
  Json confirmed = Json::array(), missing = Json::array(), stays = Json::array();
  for (const auto& peer : group.peers()) {
    if (peer.index == node) continue;
    const bool has = std::find(r.confirmed.begin(), r.confirmed.end(), peer.index) != r.confirmed.end();
    (has ? confirmed : missing).push_back(nodes[peer.index].name);
  }
  for (const auto& s : r.stays) stays.push_back({{"client", s.client.str()}, {"age_s", s.age_s}, {"why", s.why}});
  return {{"schema", "gecko.drain/1"},
          {"group", group.config().name},
          {"node", nodes[node].name},
          {"draining", group.drain().draining(node)},
          {"done", r.done},
          {"connections", r.connections},
          {"movable", r.movable},
          {"moving", r.moving},
          {"moved", r.moved},
          {"stayed", r.stayed},
          {"unaccepted", r.unaccepted},
          {"held_packets", r.held_packets},
          {"seconds", static_cast<double>(r.since_ms) / 1000.0},
          {"confirmed", confirmed},
          {"not_confirmed", missing},
          {"stays", stays}};
}

// {"op":"drain","node":N,"action":"start"|"stop"|"look"|"evict","force":bool}: carries it out, then says how far the drain is.
void drain(Daemon& daemon, const net::PeerCred& who, const nlohmann::json& request, const Reply& reply) {
  auto found = daemon.find_group(text(request, "group"));
  if (!found) return fail(reply, found.error());
  Group* const group = *found;
  const auto node = group->find_node(text(request, "node"));
  if (!node) return fail(reply, node.error());
  const std::string action = text(request, "action");
  if (action != "look")
    if (auto may = daemon.may_administer(who, group->config()); !may) return fail(reply, may.error());
  Status done;
  if (action == "start" || action == "stop") done = group->drain().wish(*node, action == "start", flag(request, "force"));
  else if (action == "evict") done = group->drain().evict(*node);
  else if (action != "look") done = make_error(Errc::invalid, "a drain's action is start, stop, look or evict, not '" + action.substr(0, 64) + "'");
  if (done) done = group->drain().look(*node, [reply, group, node = *node](Result<wire::DrainReport> report) {
    if (!report) return fail(reply, report.error());
    reply(dump(drain_json(*group, node, *report)));
  });
  if (!done) fail(reply, done.error());
}

void balance(Daemon& daemon, const net::PeerCred& who, const nlohmann::json& request, const Reply& reply) {
  auto group = daemon.find_group(text(request, "group"));
  if (!group) return fail(reply, group.error());
  if (auto may = daemon.may_administer(who, (*group)->config()); !may) return fail(reply, may.error());
  const auto plan = (*group)->drain().plan_balance();
  const auto& nodes = (*group)->config().nodes;
  Json moves = Json::array();
  for (const auto& s : plan) moves.push_back({{"from", nodes[s.from].name}, {"to", nodes[s.to].name}, {"connections", s.connections}});
  if (!flag(request, "dry_run")) (*group)->drain().balance(plan);
  reply(dump({{"schema", "gecko.balance/1"}, {"group", (*group)->config().name}, {"moves", moves}}));
}

void kernel(Daemon& daemon, const Reply& reply) {
  static constexpr const char* kCounters[] = {"passed", "forwarded", "decapsulated", "held", "released", "returned_home", "syn_steered",
                                              "syn_refused_full", "unknown_held", "too_big", "malformed", "fragments", "icmp_steered", "hop_limit",
                                              "not_a_peer", "mss_clamped", "encap_failed"};
  static_assert(std::size(kCounters) == GECKO_C_COUNT);
  Json objects = Json::array();
  FILE* journal = std::fopen((daemon.options().runtime_dir + "/kernel.journal").c_str(), "re");
  if (journal != nullptr) {
    char line[512];
    while (std::fgets(line, sizeof line, journal) != nullptr) {
      std::string row(line);
      while (!row.empty() && row.back() == '\n') row.pop_back();
      const auto space = row.find(' ');
      if (space != std::string::npos) objects.push_back({{"kind", row.substr(0, space)}, {"name", row.substr(space + 1)}});
    }
    std::fclose(journal);
  }
  Json counters;
  if (const auto values = daemon.steering_counters())
    for (size_t i = 0; i < GECKO_C_COUNT; ++i) counters[kCounters[i]] = (*values)[i];
  Json flows;
  static constexpr const char* kStates[] = {nullptr, "mine", "forward", "hold", "kernel"};
  for (size_t state = 1; state < std::size(kStates); ++state) {
    size_t count = 0;
    for (const auto& group : daemon.groups()) count += group->entries()[state];
    flows[kStates[state]] = count;
  }
  reply(dump({{"schema", "gecko.kernel/1"}, {"objects", objects}, {"counters", counters}, {"flows", flows}}));
}

}  // namespace

std::string fitting(std::string json) {
  if (json.size() <= wire::kMaxJson) return json;
  const size_t size = json.size();
  fail([&](std::string error) { json = std::move(error); },
       make_error(Errc::limit, "the answer has " + std::to_string(size) + " bytes, more than the " + std::to_string(wire::kMaxJson) + " of one message"));
  return json;
}

void administer(Daemon& daemon, const net::PeerCred& who, const std::string& json, Reply reply) {
  const auto request = nlohmann::json::parse(json, nullptr, false);
  if (!request.is_object()) return fail(reply, make_error(Errc::invalid, "an admin request is a JSON object with a member \"op\""));
  const std::string op = text(request, "op");
  if (op == "status") return reply(dump(status_json(daemon)));
  if (op == "connections") return connections(daemon, text(request, "group"), reply);
  if (op == "mirrors") return mirrors(daemon, text(request, "group"), reply);
  if (op == "handoff") return handoff(daemon, who, request, reply);
  if (op == "contact") return contact(daemon, who, request, reply);
  if (op == "member") return member(daemon, who, request, reply);
  if (op == "drain") return drain(daemon, who, request, reply);
  if (op == "balance") return balance(daemon, who, request, reply);
  if (op == "kernel") return kernel(daemon, reply);
  if (op == "events") return events(daemon, who, request, reply);
  if (op == "why") return why(daemon, request, reply);
  if (op == "metrics") return reply(dump({{"schema", "gecko.metrics/1"}, {"text", metrics(daemon)}}));
  fail(reply,
       make_error(Errc::invalid, "unknown admin operation '" + op.substr(0, 64) +
                                     "'; this geckod (" GECKO_VERSION
                                     ") knows status, connections, mirrors, handoff, contact, member, drain, balance, kernel, events, why, metrics"));
}

}  // namespace gecko::node
