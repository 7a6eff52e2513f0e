#include "node/admin_events.hh"

#include <algorithm>

#include "node/daemon.hh"
#include "node/event_json.hh"
#include "node/status.hh"

namespace gecko::node {
namespace {

// Of one answer: about a millisecond of this half's time. Whoever wants more asks again.
constexpr size_t kMostEvents = 256;
constexpr Duration kMostWait = std::chrono::seconds(30);

uint64_t number(const nlohmann::json& request, const char* key) {
  const auto it = request.find(key);
  return it != request.end() && it->is_number_unsigned() ? it->get<uint64_t>() : 0;
}

Json events_after(Daemon& daemon, uint64_t since) {
  const Events& all = daemon.events();
  const uint64_t first = std::max(since + 1, all.oldest()), last = std::min(all.last(), first + kMostEvents - 1);
  Json list = Json::array();
  for (uint64_t seq = first; seq <= last; ++seq) list.push_back(event_json(*all.find(seq), daemon.options().groups, daemon.options().node));
  return {{"schema", "gecko.events/1"}, {"life", life_text(daemon.incarnation())}, {"since", since}, {"lost", first - (since + 1)},
          {"seq", std::max(last, since)}, {"more", last < all.last()}, {"events", std::move(list)}};
}

Json snapshot(Daemon& daemon) {
  return {{"schema", "gecko.events.snapshot/1"}, {"seq", daemon.events().last()}, {"oldest", daemon.events().oldest()},
          {"life", life_text(daemon.incarnation())}, {"time", utc(std::chrono::system_clock::now())}, {"node", daemon.options().node},
          {"status", status_json(daemon)}};
}

// What `gecko why` was asked about: a connection's name, a client's address, or one end point of it.
struct Asked {
  std::optional<ConnId> id;
  Endpoint client;
  bool is(const ConnId& other, const Flow& flow) const {
    if (id) return *id == other;
    return flow.peer.address == client.address && (client.port == 0 || client.port == flow.peer.port);
  }
};

Result<Asked> asked_about(const std::string& of) {
  Asked asked;
  if (const auto id = ConnId::parse(of)) asked.id = *id;
  else if (const auto address = Address::parse(of)) asked.client = {*address, 0};
  else if (const auto endpoint = Endpoint::parse(of)) asked.client = *endpoint;
  else
    return make_error(Errc::invalid, "'" + of.substr(0, 64) +
                                         "' is neither a connection (32 hex digits, as 'gecko connections' shows it) nor a client's ADDRESS or ADDRESS:PORT");
  return asked;
}

}  // namespace

void events(Daemon& daemon, const net::PeerCred& who, const nlohmann::json& request, const Reply& reply) {
  const uint64_t last = daemon.events().last();
  const uint64_t since = request.contains("since") ? number(request, "since") : last;
  if (since > last)
    return fail(reply, make_error(Errc::invalid, "there is no event " + std::to_string(since) + " yet, the last one is " + std::to_string(last) +
                                                     "; numbers begin again with each start of geckod"));
  const auto patience = std::min<Duration>(std::chrono::milliseconds(std::min<uint64_t>(number(request, "wait_ms"), 1u << 30)), kMostWait);
  if (since == last && patience > Duration{}) {
    const auto waits = daemon.event_waits().wait(who.uid, patience, [&daemon, since, reply] { reply(dump(events_after(daemon, since))); });
    if (!waits) fail(reply, waits.error());
    return;
  }
  Json out = events_after(daemon, since);
  if (flag(request, "snapshot")) out["snapshot"] = snapshot(daemon);
  reply(dump(out));
}

void why(Daemon& daemon, const nlohmann::json& request, const Reply& reply) {
  const auto asked = asked_about(text(request, "of"));
  if (!asked) return fail(reply, asked.error());
  const std::string only = text(request, "group");
  const Time now = monotonic_now();
  Rows here;
  for (const auto& group : daemon.groups()) {
    if (!only.empty() && group->config().name != only) continue;
    for (const auto& [id, connection] : group->connections())
      if (asked->is(id, connection.flow)) here.add(connection.reason.size(), [&, &c = connection] { return connection_row(daemon, *group, c, now); });
  }
  // The newest, if there are too many; said from the oldest on.
  const Events& all = daemon.events();
  std::vector<const Event*> about;
  size_t omitted = 0;
  for (uint64_t seq = all.last(); seq >= all.oldest() && seq != 0; --seq) {
    const Event* event = all.find(seq);
    const auto connection = about_connection(*event);
    if (!connection || !asked->is(connection->id, connection->flow) || (!only.empty() && daemon.options().groups[event->group].name != only)) continue;
    if (about.size() < kMostEvents) about.push_back(event);
    else ++omitted;
  }
  Json history = Json::array();
  for (auto it = about.rbegin(); it != about.rend(); ++it) history.push_back(event_json(**it, daemon.options().groups, daemon.options().node));
  Json out{{"schema", "gecko.why/1"}, {"node", daemon.options().node}, {"of", text(request, "of")}};
  const Event* oldest = all.find(all.oldest());
  out["since"] = oldest != nullptr ? Json(utc(oldest->when)) : Json(nullptr);
  here.into(out, "connections");
  out["events"] = std::move(history);
  out["omitted_events"] = omitted;
  reply(dump(out));
}

}  // namespace gecko::node
