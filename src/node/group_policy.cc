// Where connections go by the group's policy: new ones at their SYN, one that is handed off without a named target, those of a drained node.
#include <fcntl.h>

#include <algorithm>

#include "base/client_hash.hh"
#include "node/daemon.hh"

namespace gecko::node {

using wire::ApiType;
using wire::LinkType;

namespace {
constexpr int kMostAttempts = 3;   // targets of one handoff

uint16_t mode_of(core::PolicyKind kind, core::SynTable::Pick pick) {
  if (kind == core::PolicyKind::locality) return GECKO_SLOTS_NEAREST;
  switch (pick) {
    case core::SynTable::Pick::random: return GECKO_SLOTS_RANDOM;
    case core::SynTable::Pick::turns: return GECKO_SLOTS_ROUND_ROBIN;
    case core::SynTable::Pick::client: return GECKO_SLOTS_CLIENT;
  }
  return GECKO_SLOTS_RANDOM;
}
}  // namespace

bool Group::is_service(uint16_t port) const { return std::find(config_.ports.begin(), config_.ports.end(), port) != config_.ports.end(); }

// ---------------------------------------------------------------- who serves what

std::vector<uint16_t> Group::served_ports() const {
  std::set<uint16_t> ports;
  for (const auto* session : sessions_)
    if (session->serving()) ports.insert(session->ports().begin(), session->ports().end());
  return {ports.begin(), ports.end()};
}

// A node that does not say (an older version) may serve any port; it refuses what it does not.
bool Group::serves(const Peer& peer, uint16_t port) const {
  if (!is_service(port)) return true;
  if (peer.index == self_) return choose_session(port, 0) != nullptr;
  return !peer.ports || std::find(peer.ports->begin(), peer.ports->end(), port) != peer.ports->end();
}

void Group::tell_served(Peer& peer) {
  if (is_fellow(peer)) peer.send(LinkType::serves, wire::Serves{served_ports()});
}

void Group::on_serves(Peer& peer, wire::Serves& m) {
  if (peer.ports == m.ports) return;
  peer.ports = std::move(m.ports);
  membership_changed();
}

std::vector<core::Load> Group::loads() const {
  std::vector<core::Load> loads;
  for (const auto& peer : peers_) {
    if (!config_.serves(peer.index)) continue;
    const bool self = peer.index == self_;
    loads.push_back({.node = peer.index,
                     .up = peer.up(),
                     .connections = self ? static_cast<uint32_t>(connections_.size()) : peer.connections,
                     .draining = drain_.draining(peer.index),
                     .applications = self ? static_cast<uint16_t>(applications()) : peer.applications,
                     .weight = config_.nodes[peer.index].weight,
                     .name_hash = name_hash_[peer.index]});
  }
  return loads;
}

std::vector<core::Load> Group::loads_for(const Flow& flow) const {
  auto loads = this->loads();
  for (auto& load : loads)
    if (!serves(peers_[load.node], flow.local.port)) load.applications = 0;
  return loads;
}

std::optional<uint16_t> Group::choose_for(const Flow& flow, std::span<const core::NodeIndex> except) {
  std::optional<uint64_t> key;
  if (policy_ == core::PolicyKind::hash_client) key = client_hash(flow.peer.address);
  auto loads = loads_for(flow);
  if (policy_ == core::PolicyKind::locality) {
    const auto near = nearness_.near(core::network_of(flow.peer.address), daemon_.loop().now());
    if (!near.empty())
      for (auto& load : loads) load.near = std::find(near.begin(), near.end(), load.node) != near.end();
  }
  return core::choose(policy_, loads, policy_state_, except, key);
}

wire::Placement Group::placement() const {
  wire::Placement placement{config_.policy, policy_ != core::PolicyKind::none, config_.first_bytes, config_.first_bytes_timeout_ms, {}};
  for (const auto& peer : peers_) {   // the same nodes in the same order as in send_members
    if (!config_.serves(peer.index)) continue;
    const bool self = peer.index == self_;
    placement.members.push_back({config_.nodes[peer.index].weight, self || peer.ports.has_value(),
                                 self ? served_ports() : peer.ports.value_or(std::vector<uint16_t>{})});
  }
  return placement;
}

// A group's policy in the file is applied at the first SYN, where no state has to move: the steering program picks from this table, and
// passes over nodes that have no application for the port.
void Group::program_new_connections() {
  wire::IpcSynSlots command{index_, 0, {}, {}};
  if (is_contact() || handing_over_ != 0) {
    const auto plan = core::syn_plan(policy_, loads(), config_.ports, [this](core::NodeIndex node, uint16_t port) { return serves(peers_[node], port); });
    const auto numbers = [this](const std::vector<core::NodeIndex>& nodes) {
      std::vector<uint16_t> out;
      out.reserve(nodes.size());
      for (const auto node : nodes) out.push_back(number(node));
      return out;
    };
    command.mode = mode_of(policy_, plan.table.pick);
    command.slots = numbers(plan.table.slots);
    for (const auto& of : plan.ports) command.serving.push_back({of.port, numbers(of.serving), numbers(of.slots)});
  }
  const auto same = [](const wire::IpcServing& a, const wire::IpcServing& b) { return a.port == b.port && a.nodes == b.nodes && a.slots == b.slots; };
  if (command.slots == programmed_.slots && command.mode == programmed_.mode &&
      std::equal(command.serving.begin(), command.serving.end(), programmed_.serving.begin(), programmed_.serving.end(), same))
    return;
  programmed_ = command;
  daemon_.privileged().syn_slots(std::move(command));
}

// rebalance = "on-join": every node watches, the contact acts. A node that has just started waits until it sees the others.
void Group::rebalance() {
  if (config_.rebalance == config::Rebalance::off || !settled_) return;
  auto& loop = daemon_.loop();
  rebalance_.see(loads(), loop.now());
  const auto joined = rebalance_.take_joined(loop.now());
  if (!joined.empty() && is_contact()) drain_.balance(drain_.plan_for(joined));
  loop.cancel(rebalance_timer_);
  rebalance_timer_ = 0;
  if (rebalance_.next_due() == Time::max()) return;
  const std::weak_ptr<bool> alive = alive_;
  rebalance_timer_ = loop.at(rebalance_.next_due(), [this, alive] {
    if (alive.expired()) return;
    rebalance_timer_ = 0;
    rebalance();
  });
}

// ---------------------------------------------------------------- handoffs without a named target

// An application lets the group choose: a target that fails is followed by another, while the connection waits where it is.
struct Group::AppMove {
  uint64_t request = 0;
  ConnId id;
  Fd fd;
  wire::Bytes blob;
  int left = 1;                             // targets that may still be tried
  std::vector<core::NodeIndex> failed;      // and this node
};

void Group::tell_outcome(ApiSession& session, uint64_t request, const core::Report& r, bool final) {
  const Error error = r.status ? Error{Errc{}, ""} : r.status.error();
  session.send(ApiType::outcome, wire::AppOutcome{request, r.id, static_cast<uint16_t>(error.code), error.message.substr(0, wire::kMaxText),
                                                  config_.nodes[r.target].name, final, r.epoch});
}

void Group::hand_off_by_policy(ApiSession& session, wire::AppHandoff m, Fd fd) {
  const auto move = std::make_shared<AppMove>(
      AppMove{m.request, m.id, std::move(fd), std::move(m.blob), std::clamp<int>(m.attempts, 1, kMostAttempts), {self_}});
  const auto target = choose_for(connections_.at(m.id).flow, move->failed);
  const Status status =
      target ? try_target(move, *target)
             : make_error(Errc::unavailable, "no other node of group '" + config_.name + "' is up with an application to take the connection");
  if (!status)
    session.send(ApiType::outcome, wire::AppOutcome{m.request, m.id, static_cast<uint16_t>(status.error().code),
                                                    status.error().message.substr(0, wire::kMaxText), "", true, 0});
  run_actions();
}

Status Group::try_target(const std::shared_ptr<AppMove>& move, uint16_t target) {
  --move->left;
  Fd fd = move->left == 0 ? std::move(move->fd) : Fd(::fcntl(move->fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!fd) return os_error("duplicate the descriptor of a connection");
  move->failed.push_back(target);
  GECKO_TRY(const auto xid, start_move(move->id, target, {Cause::policy, self_}, true, std::move(fd), move->left == 0 ? std::move(move->blob) : move->blob,
                                       [this, move](const core::Report& r, ApiSession* owner) {
    if (owner == nullptr) return;
    const auto connection = connections_.find(move->id);
    std::optional<uint16_t> next;
    if (!r.status && !r.lost && move->left > 0 && connection != connections_.end() && connection->second.session == owner && !connection->second.closed)
      next = choose_for(connection->second.flow, move->failed);
    // The next one is asked only when this one's failure has been told: the outcome may follow at once.
    tell_outcome(*owner, move->request, r, !next);
    if (!next) return;
    if (const auto again = try_target(move, *next); !again) {
      core::Report failed = r;
      failed.status = again.error();
      failed.target = *next;
      tell_outcome(*owner, move->request, failed, true);
    }
  }));
  (void)xid;
  return {};
}

}  // namespace gecko::node
