#include "node/admin.hh"

#include <algorithm>

#include "node/admin_events.hh"
#include "node/daemon.hh"
#include "node/event_json.hh"
#include "node/status.hh"

namespace gecko::node {
namespace {

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

Json connection_row(Daemon& daemon, const Group& group, const Connection& c, Time now) {
  Json row{{"id", c.id.str()}, {"group", group.config().name}, {"client", c.flow.peer.str()}, {"local", c.flow.local.str()},
           {"node", daemon.options().node}, {"epoch", c.epoch}, {"state", c.moving ? "moving" : "live"}, {"movable", c.movable},
           {"age_s", std::chrono::duration<double>(std::chrono::floor<std::chrono::milliseconds>(now - c.since)).count()}};
  if (!c.reason.empty()) row["reason"] = c.reason;
  if (group.config().recovery != config::Recovery::none) {
    const std::string why = group.shield().unprotected_because(c);
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
  reply(dump({{"schema", "gecko.member/1"}, {"group", group.config().name}, {"action", action}, {"membership", membership_json(group)}}));
}

Json drain_json(const Group& group, uint16_t node, const wire::DrainReport& r) {
  const auto& nodes = group.config().nodes;
  Json confirmed = Json::array(), missing = Json::array(), stays = Json::array();
  for (const auto& peer : group.peers()) {
    if (peer.index == node || !group.config().serves(peer.index)) continue;
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
                                              "not_a_peer", "mss_clamped", "encap_failed", "ack_lowered"};
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
