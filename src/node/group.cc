// A group's life, and what its links to the other nodes (links.hh) bring.
#include "node/group.hh"

#include <algorithm>

#include "core/placement_hash.hh"
#include "node/daemon.hh"

namespace gecko::node {

using wire::LinkType;

namespace {
constexpr Duration kSettle = std::chrono::seconds(2);          // how long a starting node waits for the others before it takes the contact role

std::vector<core::NodeIndex> contact_order(const config::GroupConfig& group) {
  std::vector<core::NodeIndex> order;
  for (const auto& name : group.contact) order.push_back(static_cast<core::NodeIndex>(group.index_of(name)));
  return order;
}
}  // namespace

Group::Group(Daemon& daemon, uint16_t index, const config::GroupConfig& config, std::shared_ptr<net::TlsContext> tls, MemberState state)
    : daemon_(daemon),
      index_(index),
      config_(config),
      self_(static_cast<uint16_t>(config.index_of(daemon.options().node))),
      tls_(std::move(tls)),
      links_(daemon.loop(), config_, self_, daemon.incarnation(), tls_,
             {.up = [this](Peer& peer) { link_up(peer); },
              .frame = [this](Peer& peer, const wire::FrameView& f) { link_frame(peer, f); },
              .down = [this](Peer& peer, const Error& e) { link_down(peer, e); },
              .load = [this] { return load(); },
              .distrusted = [this](Peer& peer) { members_.shut_out(peer); }}),
      peers_(links_.peers()),
      handoff_(
          self_, core::HandoffLimits{.step_timeout = std::chrono::milliseconds(config.handoff_timeout_ms)},
          [this](const ConnId& id) {
            const auto it = connections_.find(id);
            return it == connections_.end() ? uint64_t{0} : it->second.epoch;
          },
          daemon.started(), daemon.incarnation(), [this](const ConnId& id, uint64_t epoch) { return daemon_.journal().may_have_lived(id, epoch); }),
      policy_(core::policy_named(config.policy).value_or(core::PolicyKind::none)),
      policy_state_{daemon.incarnation(), {}, {}},
      rebalance_(config.nodes.size()),
      nearness_(config.nodes.size()),
      choice_(self_, contact_order(config)),
      drain_(*this, config.nodes.size()),
      heir_(*this),
      members_({daemon.loop(), daemon.keeper(), config_, index, self_, peers_},
               {.settled = [this] { return settled_; },
                .happened = [this](Happening what) { happened(std::move(what)); },
                .view = [this](const ViewChange& change) { on_view(change); },
                .recovered = [this](uint16_t heir, const core::Owner& dead) { forget_unclaimed(heir, dead); },
                .lease = [this] { on_lease(); },
                .elect = [this] { elect(); },
                .keyed = [this] { links_.keys_changed(); },
                .fence = [this](const core::Owner& former, std::function<void()> done) { fence(former, std::move(done)); }},
               std::move(state)),
      shield_(*this, mirror_senders()) {
  for (const auto& node : config.nodes) name_hash_.push_back(core::hash_of(node.name));
}

Group::~Group() { *alive_ = false; }

void Group::start() {
  shield_.start();
  take_over_from_former_life();
  links_.start();
  daemon_.loop().at(daemon_.loop().now() + kSettle, [this] {
    settled_ = true;
    elect();
    members_.settled();
    rebalance();   // who is here now has not joined
  });
  elect();
}

void Group::happened(Happening what) { daemon_.events().add(index_, std::chrono::system_clock::now(), std::move(what)); }

uint64_t Group::lease_expiries() const { return daemon_.events().tally(index_).lease_expiries; }

uint16_t Group::number(uint16_t node) const { return daemon_.numbers().of(config_.nodes[node].address); }

bool Group::is_fellow(const Peer& peer) const { return peer.up() && peer.index != self_ && config_.serves(peer.index); }

void Group::link_up(Peer& peer) {
  happened(LinkIs{peer.index, true});
  if (config_.is_witness(peer.index)) return members_.link_up(peer);
  peer.ports.reset();
  tell_served(peer);   // first: the ping makes others send
  send_paths(peer);
  peer.send(LinkType::ping, load());
  choice_.up(peer.index);
  if (const auto appointment = choice_.appointment()) peer.send(LinkType::contact, *appointment);
  drain_.link_up(peer);
  members_.link_up(peer);
  handoff_.link_up(peer.index, peer.incarnation, daemon_.loop().now());
  heir_.link_up(peer);
  run_actions();
  elect();
  if (contact_ == peer.index) send_owned_flows(peer);
  // While we were away it may have been contact, and the segment may believe that it still is.
  if (is_contact()) take_contact_role();
  ask_newcomer(peer);
  choose_backups();
  membership_changed();
}

void Group::link_down(Peer& peer, const Error& error) {
  happened(LinkIs{peer.index, false, error.message});
  members_.link_down(peer.index);
  if (config_.is_witness(peer.index)) return;
  if (is_put_out(peer)) peer.only_geckod_ended = false;   // the view was faster (on_view)
  choice_.down(peer.index);
  handoff_.link_down(peer.index, daemon_.loop().now());
  drain_.link_down(peer.index);
  for (auto it = batches_.begin(); it != batches_.end();) {
    const auto batch = it++;
    if (batch->second.waiting.contains(peer.index))
      batch_unanswered(batch->first, peer.index, make_error(Errc::unavailable, "the link to it broke before it said what came of it"));
  }
  for (auto it = questions_.begin(); it != questions_.end();) {
    const auto question = it++;
    if (question->second.waiting.erase(peer.index) != 0 && question->second.waiting.empty()) answered_by_nobody(question->first);
  }
  run_actions();
  drop_stale_ahead();
  shield_.mirroring().link_down(peer.index, daemon_.loop().now());
  choose_backups();
  membership_changed();
  elect();
}

void Group::link_frame(Peer& peer, const wire::FrameView& f) {
  const auto type = static_cast<LinkType>(f.type);
  const auto bad = [&](const Error& e) {
    log_error("group '" + config_.name + "': node " + config_.nodes[peer.index].name + " sent message " + std::to_string(f.type) + ": " + e.message);
    links_.down(peer, e);
  };
  const auto with = [&]<class M>(M, auto&& use) {
    auto m = wire::decode<M>(f.body);
    if (!m) return bad(m.error());
    use(*m);
  };
  const auto about_members = members_.on(peer, f);
  if (!about_members) return bad(about_members.error());
  if (*about_members) return;
  if (config_.is_witness(peer.index)) {
    // It owns nothing and serves nobody: whatever it said of connections would be a lie.
    if (type != LinkType::ping && type != LinkType::pong) bad(make_error(Errc::permission, "a witness has no say in this"));
    return;
  }
  switch (type) {
    case LinkType::ping:
    case LinkType::pong:
      return with(wire::Ping{}, [&](wire::Ping& m) {
        const bool changed = (peer.applications == 0) != (m.applications == 0);
        const bool load_changed = peer.connections != m.connections;
        peer.connections = m.connections;
        peer.applications = m.applications;
        if (changed) membership_changed();
        else if (load_changed && (policy_ == core::PolicyKind::least_connections || policy_ == core::PolicyKind::locality)) program_new_connections();
      });
    case LinkType::serves: return with(wire::Serves{}, [&](wire::Serves& m) { on_serves(peer, m); });
    case LinkType::paths: return with(wire::Paths{}, [&](wire::Paths& m) { on_paths(peer, m); });
    case LinkType::hints:
      return with(wire::Hints{}, [&](wire::Hints& m) {
        if (is_outsider(peer.index)) return;   // an older story: its connections are others' now
        for (const auto& h : m.hints) hint(h);
      });
    case LinkType::closed: return with(wire::Closed{}, [&](wire::Closed& m) { on_closed(m); });
    case LinkType::ask_owner: return with(wire::AskOwner{}, [&](wire::AskOwner& m) { on_ask_owner(peer, m); });
    case LinkType::owner_is: return with(wire::OwnerIs{}, [&](wire::OwnerIs& m) { on_owner_is(peer, m); });
    case LinkType::contact: return with(wire::Contact{}, [&](wire::Contact& m) { on_contact(peer, m); });
    case LinkType::move_request: return with(wire::MoveRequest{}, [&](wire::MoveRequest& m) { on_move_request(peer, m); });
    case LinkType::move_result: return with(wire::MoveResult{}, [&](wire::MoveResult& m) { on_move_result(peer, m); });
    case LinkType::drain_wish: return with(wire::DrainWish{}, [&](wire::DrainWish& m) { drain_.on_wish(peer, m); });
    case LinkType::drain_look: return with(wire::DrainLook{}, [&](wire::DrainLook& m) { drain_.on_look(peer, m); });
    case LinkType::drain_report: return with(wire::DrainReport{}, [&](wire::DrainReport& m) { drain_.on_report(m); });
    case LinkType::drained_ask: return with(wire::DrainedAsk{}, [&](wire::DrainedAsk& m) { drain_.on_drained_ask(peer, m); });
    case LinkType::drained_answer: return with(wire::DrainedAnswer{}, [&](wire::DrainedAnswer& m) { drain_.on_drained_answer(peer, m); });
    case LinkType::evict: return with(wire::Evict{}, [&](wire::Evict&) { drain_.on_evict(); });
    case LinkType::shed: return with(wire::Shed{}, [&](wire::Shed& m) { drain_.on_shed(m, peer.index); });
    case LinkType::prepare: return with(wire::Prepare{}, [&](wire::Prepare& m) { handoff_message(peer, m); });
    case LinkType::ready: return with(wire::Ready{}, [&](wire::Ready& m) { handoff_message(peer, m); });
    case LinkType::refuse: return with(wire::Refuse{}, [&](wire::Refuse& m) { handoff_message(peer, m); });
    case LinkType::state:
      if (peer.version < 4)
        return with(wire::StateBefore4{}, [&](wire::StateBefore4& m) {
          handoff_message(peer, wire::State{m.xid, m.id, m.epoch, std::move(m.tcp), std::move(m.blob), {}});
        });
      return with(wire::State{}, [&](wire::State& m) { handoff_message(peer, std::move(m)); });
    case LinkType::restored: return with(wire::Restored{}, [&](wire::Restored& m) {
        check_for_late_segments(m.xid);
        handoff_message(peer, m);
      });
    case LinkType::commit: return with(wire::Commit{}, [&](wire::Commit& m) { handoff_message(peer, m); });
    case LinkType::active: return with(wire::Active{}, [&](wire::Active& m) { handoff_message(peer, m); });
    case LinkType::abort: return with(wire::Abort{}, [&](wire::Abort& m) { handoff_message(peer, m); });
    case LinkType::unknown: return with(wire::Unknown{}, [&](wire::Unknown& m) { handoff_message(peer, m); });
    case LinkType::ahead: return with(wire::Ahead{}, [&](wire::Ahead& m) { on_ahead(peer, m); });
    case LinkType::ahead_taken: return with(wire::AheadTaken{}, [&](wire::AheadTaken& m) { on_ahead_taken(peer, m); });
    case LinkType::gone: return with(wire::Gone{}, [&](wire::Gone& m) { handoff_message(peer, m); });
    case LinkType::mirrors: return with(wire::Mirrors{}, [&](wire::Mirrors& m) { on_mirrors(peer, m); });
    case LinkType::mirrors_kept:
      return with(wire::MirrorsKept{}, [&](wire::MirrorsKept& m) { shield_.mirroring().on_kept(peer.index, m, daemon_.loop().now()); });
    case LinkType::checkpoint: return with(wire::Checkpoint{}, [&](wire::Checkpoint& m) { (void)mirrors_.hear(peer.index, std::move(m)); });
    case LinkType::inputs: return with(wire::Inputs{}, [&](wire::Inputs& m) { peer.send(LinkType::inputs_kept, mirrors_.hear(peer.index, m)); });
    case LinkType::inputs_kept:
      return with(wire::InputsKept{}, [&](wire::InputsKept& m) { shield_.mirroring().on_kept(peer.index, m); });
    case LinkType::replica: return with(wire::Replica{}, [&](wire::Replica& m) { on_replica(peer, std::move(m)); });
    case LinkType::recover_ask: return with(wire::RecoverAsk{}, [&](wire::RecoverAsk& m) { heir_.on(peer, std::move(m)); });
    case LinkType::recover_answer: return with(wire::RecoverAnswer{}, [&](wire::RecoverAnswer& m) { heir_.on(peer, m); });
    case LinkType::hello: break;
    // members_ has taken these.
    case LinkType::heartbeat_key:
    case LinkType::first_view:
    case LinkType::view_prepare:
    case LinkType::view_promise:
    case LinkType::view_propose:
    case LinkType::view_accepted:
    case LinkType::view_refused:
    case LinkType::view_is:
    case LinkType::view_ask:
    case LinkType::join_ask:
    case LinkType::leave_ask:
    case LinkType::recovered: break;
  }
  bad(make_error(Errc::invalid, "a message it should not send"));
}

void Group::handoff_message(Peer& peer, core::LinkMessage message) {
  if (is_outsider(peer.index)) return;   // it does not own what it speaks of
  handoff_.message(peer.index, std::move(message), daemon_.loop().now());
  run_actions();
  if (!coming_.empty()) drop_stale_ahead();
}

wire::Ping Group::load() const {
  return wire::Ping{0, static_cast<uint32_t>(connections_.size()), static_cast<uint16_t>(std::min<size_t>(applications(), UINT16_MAX)), drain_.draining(self_)};
}

bool Group::all_fellows_up() const {
  return std::ranges::all_of(peers_, [this](const Peer& p) { return p.up() || !config_.serves(p.index); });
}

Status Group::must_serve(uint16_t node) const {
  if (!config_.is_witness(node)) return {};
  return make_error(Errc::invalid, "node '" + config_.nodes[node].name + "' is the witness of group '" + config_.name +
                                       "': it has no connections and takes none; name a node that serves");
}

Result<uint16_t> Group::find_node(const std::string& name_or_address) const {
  for (uint16_t i = 0; i < config_.nodes.size(); ++i)
    if (!config_.nodes[i].removed && (config_.nodes[i].name == name_or_address || config_.nodes[i].address.str() == name_or_address)) return i;
  std::string names;
  for (const auto& node : config_.nodes)
    if (!node.removed) names += (names.empty() ? "" : ", ") + node.name;
  return make_error(Errc::not_found, "group '" + config_.name + "' has no node '" + name_or_address + "'; its nodes are " + names);
}

size_t Group::applications() const {
  return static_cast<size_t>(std::count_if(sessions_.begin(), sessions_.end(), [](const ApiSession* s) { return s->serving(); }));
}

void Group::session_joined(ApiSession& session) {
  sessions_.push_back(&session);
  happened(ApplicationIs{ApplicationStep::joined, session.program(), session.who().pid, session.who().uid});
  membership_changed();
}

void Group::session_gone(ApiSession& session) {
  std::erase(sessions_, &session);
  happened(ApplicationIs{ApplicationStep::left, session.program(), session.who().pid, session.who().uid});
  // Only its link may have ended, not the program: then it uses again what is not frozen (what is frozen, it can see), so that must stay.
  const Error ended = make_error(Errc::closed, "its application has ended, or its link to geckod broke");
  std::vector<uint64_t> withdrawn;
  for (auto& [xid, giving] : giving_) {
    if (giving.owner != &session) continue;
    giving.owner = nullptr;
    giving.withdrawn = true;
    withdrawn.push_back(xid);
  }
  std::vector<ConnId> gone;
  for (auto& [id, connection] : connections_) {
    if (connection.session != &session) continue;
    connection.session = nullptr;
    if (!connection.moving) gone.push_back(id);   // the others when their move is over (Report), unless somebody has claimed them until then
  }
  for (const auto& id : gone) forget(id, true);
  for (const uint64_t xid : withdrawn) {
    handoff_.withdrawn(xid, ended, daemon_.loop().now());
    if (const auto it = giving_.find(xid); it != giving_.end() && it->second.ahead) end_ahead(xid, it->second);
  }
  run_actions();
  membership_changed();
}

void Group::send_members(ApiSession& session) {
  wire::Members m;
  for (const auto& peer : peers_) {
    if (!config_.serves(peer.index)) continue;
    const auto& node = config_.nodes[peer.index];
    const bool self = peer.index == self_;
    // A node that is being drained has no application for anything new.
    m.members.push_back({node.name, node.address, peer.up(), self, peer.index == contact_, self ? static_cast<uint32_t>(connections_.size()) : peer.connections,
                         drain_.draining(peer.index) ? uint16_t{0} : self ? static_cast<uint16_t>(applications()) : peer.applications});
  }
  if (session.version() >= 2) session.send(wire::ApiType::placement, placement());
  session.send(wire::ApiType::members, m);
}

void Group::membership_changed() {
  for (auto* session : sessions_)
    if (session->subscribed()) send_members(*session);
  auto ports = served_ports();
  const bool serves_others = ports != told_ports_;
  told_ports_ = std::move(ports);
  const auto ping = load();
  for (auto& peer : peers_) {
    if (!is_fellow(peer)) continue;
    if (serves_others) tell_served(peer);
    peer.send(LinkType::ping, ping);
  }
  shield_.programs_changed();
  program_new_connections();
  rebalance();
}

}  // namespace gecko::node
