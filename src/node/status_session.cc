#include "node/status_session.hh"

#include "base/log.hh"
#include "node/status_json.hh"
#include "node/witness.hh"

namespace gecko::node {

using wire::ApiType;

namespace {
constexpr Duration kHelloWithin = std::chrono::seconds(5);
constexpr size_t kQuestion = 64u << 10, kAnswers = 4u << 20;   // of a program that does not read them

// The members of gecko.status/1 that `gecko status` shows of every node, and those of connections without any.
Json group_json(const Witness::Group& group) {
  const auto& config = group.config;
  const Time now = monotonic_now();
  Json nodes = Json::array();
  for (const auto& peer : group.links.peers())
    if (!config.nodes[peer.index].removed) nodes.push_back(node_row(config, group.self, group.links, group.members, peer, now));
  const auto contact = group.members.contact();
  const bool known = contact && contact->node < config.nodes.size();
  Json g;
  g["name"] = config.name;
  g["witness"] = true;
  g["address"] = config.address.str();
  g["ports"] = config.ports;
  g["contact"] = known ? Json(config.nodes[contact->node].name) : Json(nullptr);
  g["contact_term"] = contact ? contact->term : 0;
  g["membership"] = membership_json(config, group.members);
  g["policy"] = config.policy;
  g["return"] = config.return_path == config::ReturnPath::home ? "home" : "direct";
  g["digest"] = group.links.digest();
  g["connections"] = 0;
  g["applications"] = 0;
  g["handoffs"] = {{"out_ok", 0}, {"out_failed", 0}, {"in_ok", 0}, {"in_failed", 0}};
  g["held_packets"] = 0;
  g["nodes"] = std::move(nodes);
  return g;
}
}  // namespace

StatusSession::StatusSession(Witness& witness, net::Loop& loop, Fd socket, net::PeerCred who)
    : witness_(witness), loop_(loop), who_(who),
      channel_(loop, std::move(socket), [this](const wire::FrameView& f, std::vector<Fd>&) { frame(f); },
               [this](const Error&) { witness_.forget(this); /* destroys this */ }, kAnswers) {
  channel_.limit_input(kQuestion);
  hello_due_ = loop.at(loop.now() + kHelloWithin, [this] {
    hello_due_ = 0;
    witness_.forget(this);   // destroys this
  });
}

StatusSession::~StatusSession() { loop_.cancel(hello_due_); }

void StatusSession::frame(const wire::FrameView& f) {
  uint64_t request = 0;
  if (auto ok = handle(f, request); !ok)
    send(ApiType::error, wire::ApiError{request, static_cast<uint16_t>(ok.error().code), ok.error().message.substr(0, wire::kMaxText)});
}

Status StatusSession::handle(const wire::FrameView& f, uint64_t& request) {
  const auto type = static_cast<ApiType>(f.type);
  if (type == ApiType::hello) {
    GECKO_TRY(const auto m, wire::decode<wire::ApiHello>(f.body));
    GECKO_TRY(const auto version, wire::negotiate(wire::kApiVersion, wire::kApiVersionMin, m.version, m.version_min));
    greeted_ = true;
    loop_.cancel(std::exchange(hello_due_, 0));
    send(ApiType::welcome, wire::Welcome{version, GECKO_VERSION, witness_.options().node});
    return {};
  }
  if (!greeted_) return make_error(Errc::invalid, "the first message must be hello");
  const Error nothing_here = make_error(Errc::unsupported, "node " + witness_.options().node + " is a witness: it votes on who is a member and serves nothing; "
                                                           "it answers 'gecko status', everything else is asked at a node that serves");
  if (type != ApiType::admin) return nothing_here;
  GECKO_TRY(const auto m, wire::decode<wire::Admin>(f.body));
  request = m.request;
  const auto question = nlohmann::json::parse(m.json, nullptr, false);
  if (!question.is_object() || text(question, "op") != "status") return nothing_here;
  Json groups = Json::array();
  for (const auto& group : witness_.groups()) groups.push_back(group_json(*group));
  send(ApiType::admin_reply, wire::AdminReply{request, dump(status_frame(witness_.options().node, witness_.reasons(), std::move(groups)))});
  return {};
}

}  // namespace gecko::node
