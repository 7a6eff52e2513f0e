// Policy "locality": round trips of this node's connections, told to the others; the contact's steering program learns who is near whom.
#include <algorithm>

#include "node/daemon.hh"
#include "node/kernel_socket.hh"

namespace gecko::node {

using wire::LinkType;

namespace {
// A connection is asked when it is so old: the handshake, or the first bytes at its new node, have measured it.
constexpr Duration kAsked = std::chrono::seconds(1);
constexpr Duration kTurn = std::chrono::milliseconds(250);
constexpr size_t kPerTurn = 64;            // a question takes some 5 us
constexpr size_t kMostWaiting = 4096;      // more are not asked: their networks are known by others, or soon
constexpr uint32_t kSlowest_us = 60'000'000;
// What was told is told again before the others stop believing it (core/nearness.cc).
constexpr Duration kToldAgain = std::chrono::minutes(5);
}  // namespace

void Group::measure_later(const ConnId& id) {
  if (policy_ != core::PolicyKind::locality || to_measure_.size() >= kMostWaiting) return;
  to_measure_.emplace_back(daemon_.loop().now() + kAsked, id);
  if (std::exchange(measuring_, true)) return;
  measure_at(daemon_.loop().now() + kAsked);
}

void Group::measure_at(Time when) {
  const std::weak_ptr<bool> alive = alive_;
  daemon_.loop().at(when, [this, alive] {
    if (!alive.expired()) measure();
  });
}

void Group::measure() {
  const Time now = daemon_.loop().now();
  wire::Paths paths;
  for (size_t i = 0; i < kPerTurn && !to_measure_.empty() && to_measure_.front().first <= now; ++i) {
    const ConnId id = to_measure_.front().second;
    to_measure_.pop_front();
    const auto connection = connections_.find(id);
    if (connection == connections_.end() || connection->second.moving) continue;
    const auto rtt = kernel_round_trip(connection->second.flow);
    if (!rtt || *rtt == 0 || *rtt > kSlowest_us) continue;
    const Address network = core::network_of(connection->second.flow.peer.address);
    if (!learn(self_, {network, *rtt})) continue;
    paths.paths.push_back({network, *rtt});
  }
  if (!paths.paths.empty())
    for (auto& peer : peers_)
      if (is_fellow(peer)) peer.send(LinkType::paths, paths);
  measuring_ = !to_measure_.empty();
  if (measuring_) measure_at(std::max(now + kTurn, to_measure_.front().first));
}

// Whether it is news.
bool Group::learn(uint16_t node, const wire::Path& path) {
  const Time now = daemon_.loop().now();
  const auto change = nearness_.hear(node, path.network, path.rtt_us, now);
  if (change.displaced) program_near(*change.displaced);
  if (change.changed) program_near(path.network);
  if (node != self_) return false;
  Time& told = told_paths_[path.network];
  if (!change.changed && told != Time{} && now - told < kToldAgain) return false;
  if (told_paths_.size() > core::kMostNetworks) told_paths_.clear();   // told once more than needed
  told_paths_[path.network] = now;
  return true;
}

void Group::on_paths(const Peer& peer, const wire::Paths& m) {
  if (policy_ != core::PolicyKind::locality) return;
  for (const auto& path : m.paths)
    if (path.network == core::network_of(path.network)) (void)learn(peer.index, path);
}

void Group::send_paths(Peer& to) {
  if (policy_ != core::PolicyKind::locality) return;
  wire::Paths paths;
  for (const auto& [network, rtt_us] : nearness_.measured_by(self_)) {
    paths.paths.push_back({network, rtt_us});
    if (paths.paths.size() == wire::kMaxPaths) to.send(LinkType::paths, std::exchange(paths, {}));
  }
  if (!paths.paths.empty()) to.send(LinkType::paths, paths);
}

// Who is near matters to the contact, and a new one is told all of it. That nothing is known any more is told whatever the role: an entry from
// an earlier time as contact would steer again when the role comes back.
void Group::program_near(const Address& network) {
  wire::IpcNear command{index_, network, {}};
  for (const auto node : nearness_.near(network, daemon_.loop().now())) command.nodes.push_back(number(node));
  if (is_contact() || command.nodes.empty()) daemon_.privileged().near(std::move(command));
}

void Group::program_all_near() {
  if (policy_ != core::PolicyKind::locality) return;
  for (const auto& network : nearness_.networks()) program_near(network);
}

void Group::expire_paths() {
  for (const auto& network : nearness_.expire(daemon_.loop().now())) program_near(network);
}

}  // namespace gecko::node
