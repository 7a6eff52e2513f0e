#include "node/event_json.hh"

#include <ctime>

namespace gecko::node {
namespace {

using Json = nlohmann::ordered_json;

double ms(uint32_t us) { return static_cast<double>(us) / 1000.0; }
Json ms_or_null(uint32_t us) { return us == kNever ? Json(nullptr) : Json(ms(us)); }
// As people count views; the whole epoch says more after a group was formed anew.
uint32_t number_of(uint64_t epoch) { return static_cast<uint32_t>(epoch & UINT32_MAX); }

class Writer {
 public:
  Writer(const config::GroupConfig& group, Json& out) : group_(group), out_(out) {}

  void operator()(const ViewIs& e) {
    kind("view");
    out_["view"] = number_of(e.epoch);
    out_["epoch"] = e.epoch;
    out_["members"] = names(e.members);
    out_["joined"] = names(e.joined);
    out_["left"] = names(e.left);
    out_["member"] = e.member;
  }
  void operator()(const ContactIs& e) {
    kind("contact");
    out_["contact"] = name(e.contact);
    out_["term"] = e.term;
  }
  void operator()(const LeaseIs& e) {
    kind("lease");
    out_["state"] = e.holds ? "got" : "lost";
    out_["term"] = e.term;
  }
  void operator()(const SuspicionIs& e) {
    kind("suspicion");
    out_["peer"] = name(e.peer);
    out_["state"] = e.begins ? "begin" : "end";
  }
  void operator()(const LinkIs& e) {
    kind("link");
    out_["peer"] = name(e.peer);
    out_["state"] = e.up ? "up" : "down";
    why(e.why);
  }
  void operator()(const Expelled&) { kind("expelled"); }
  void operator()(const HandoffEnded& e) {
    kind("handoff");
    connection(e.id, e.flow);
    out_["from"] = name(e.from);
    out_["to"] = name(e.to);
    out_["cause"] = to_string(e.origin.cause);
    out_["decided_by"] = name(e.origin.decided_by);
    out_["result"] = to_string(e.result);
    out_["epoch"] = e.epoch;
    out_["view"] = e.view;
    Json phases = Json::object();
    for (size_t i = 0; i < kPhases; ++i)
      if (e.phases[i] != kNever) phases[std::string(kPhaseNames[i])] = ms(e.phases[i]);
    out_["phases_ms"] = std::move(phases);
    out_["gap_ms"] = ms_or_null(e.gap);
    why(e.why);
  }
  void operator()(const Arrival& e) {
    kind("arrival");
    connection(e.id, e.flow);
    out_["from"] = name(e.from);
    out_["epoch"] = e.epoch;
    out_["view"] = e.view;
  }
  void operator()(const Recovered& e) {
    kind("recovered");
    connection(e.id, e.flow);
    out_["from"] = name(e.from);
    out_["owner"] = name(e.owner);
    out_["result"] = e.here ? "recovered" : "elsewhere";
    out_["epoch"] = e.epoch;
    out_["view"] = e.view;
    out_["ms"] = e.ms;
  }
  void operator()(const RecoveryEnded& e) {
    kind("recovery");
    out_["life"] = {{"node", name(e.life.node)}, {"incarnation", life_text(e.life.incarnation)}};
    out_["heir"] = name(e.heir);
    out_["recovered"] = e.recovered;
    out_["elsewhere"] = e.elsewhere;
    Json lost = Json::object();
    for (size_t i = 0; i < core::kLostReasons; ++i)
      if (e.lost[i] != 0) lost[std::string(core::to_string(static_cast<core::LostBy>(i)))] = e.lost[i];
    out_["lost"] = std::move(lost);
    out_["ms"] = e.ms;
  }
  void operator()(const ConnectionLost& e) {
    kind("connection_lost");
    connection(e.id, e.flow);
    out_["reason"] = to_string(e.reason);
    why(e.why);
  }
  void operator()(const DrainIs& e) {
    kind("drain");
    out_["of"] = name(e.node);
    out_["state"] = e.step == DrainStep::start ? "start" : e.step == DrainStep::stop ? "stop" : "done";
    if (e.step != DrainStep::done) return;
    out_["moved"] = e.moved;
    out_["ms"] = e.ms;
  }
  void operator()(const ApplicationIs& e) {
    kind("application");
    out_["state"] = e.step == ApplicationStep::joined ? "joined" : e.step == ApplicationStep::leaving ? "leaving" : "left";
    out_["program"] = e.program;
    out_["pid"] = e.pid;
    out_["uid"] = e.uid;
  }

 private:
  void kind(const char* k) { out_["kind"] = k; }
  Json name(uint16_t node) const { return node < group_.nodes.size() ? Json(group_.nodes[node].name) : Json(nullptr); }
  Json names(core::NodeSet nodes) const {
    Json all = Json::array();
    for (uint16_t n = 0; n < group_.nodes.size() && n <= wire::kMaxNodeIndex; ++n)
      if (nodes & core::one(n)) all.push_back(group_.nodes[n].name);
    return all;
  }
  void connection(const ConnId& id, const Flow& flow) {
    out_["connection"] = id == ConnId{} ? Json(nullptr) : Json(id.str());
    out_["client"] = flow.peer.str();
    out_["local"] = flow.local.str();
  }
  void why(const std::string& text) {
    if (!text.empty()) out_["why"] = text;
  }

  const config::GroupConfig& group_;
  Json& out_;
};

}  // namespace

std::string utc(WallTime when) {
  const auto second = std::chrono::floor<std::chrono::seconds>(when);
  const std::time_t t = second.time_since_epoch().count();
  std::tm parts{};
  ::gmtime_r(&t, &parts);
  char text[40];
  const size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + length, sizeof text - length, ".%06dZ", static_cast<int>((when - second) / std::chrono::microseconds(1)));
  return text;
}

std::string life_text(uint64_t incarnation) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(incarnation));
  return text;
}

Json event_json(const Event& event, const std::vector<config::GroupConfig>& groups, const std::string& self) {
  const auto& group = groups.at(event.group);
  Json out{{"schema", "gecko.event/1"}, {"seq", event.seq}, {"time", utc(event.when)}, {"node", self}, {"group", group.name}};
  std::visit(Writer(group, out), event.what);
  return out;
}

std::optional<AboutConnection> about_connection(const Event& event) {
  return std::visit(
      [](const auto& w) -> std::optional<AboutConnection> {
        if constexpr (requires { w.flow; }) return AboutConnection{w.id, w.flow};
        else return std::nullopt;
      },
      event.what);
}

}  // namespace gecko::node
