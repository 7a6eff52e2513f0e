// All connections of a client, wherever they are: each node moves its own, a few at a time, and reports what came of every one.
#include <algorithm>
#include <deque>

#include "node/daemon.hh"
#include "wire/parts.hh"

namespace gecko::node {

using wire::ApiType;
using wire::LinkType;

namespace {
constexpr Duration kBatchTimeout = std::chrono::seconds(20);
// Of a client's connections at once: each is out of service until those before it are done, about 0.05 ms each on two cores. Fewer make
// smaller batches and more wake-ups (CPU per handoff: 125 us with 32, 100 with 64, 90 with 128).
constexpr size_t kMovesAtOnce = 128;
}  // namespace

Result<uint64_t> Group::move_for_operator(const ConnId& id, uint16_t target, const Origin& origin, std::function<void(const Status&)> done) {
  return start_move(id, target, origin, false, Fd(), {}, [this, done = std::move(done)](const core::Report& r, ApiSession* owner) {
    if (owner != nullptr && (r.status || r.give_back || r.lost)) tell_outcome(*owner, 0, r, true);
    done(r.status);
  });
}

// The moves of one wish: some under way, the others wait for them.
struct Group::ClientMoves {
  std::deque<std::pair<ConnId, Endpoint>> left;
  std::vector<wire::MoveOutcome> outcomes;
  uint16_t target = 0;
  Origin origin;
  size_t open = 0;
  bool starting = false;
  std::function<void(std::vector<wire::MoveOutcome>)> done;
};

void Group::move_client_here(const Endpoint& client, uint16_t target, const Origin& origin, std::function<void(std::vector<wire::MoveOutcome>)> done) {
  const auto all = std::make_shared<ClientMoves>();
  all->target = target;
  all->origin = origin;
  all->done = std::move(done);
  for (const auto& [id, connection] : connections_)
    if (connection.flow.peer.address == client.address && (client.port == 0 || connection.flow.peer.port == client.port) &&
        (target != self_ || client.port != 0))
      all->left.emplace_back(id, connection.flow.peer);
  start_some(all);
  run_actions();
}

void Group::start_some(const std::shared_ptr<ClientMoves>& all) {
  if (all->starting) return;   // the loop below goes on by itself
  all->starting = true;
  while (!all->left.empty() && all->open < kMovesAtOnce) {
    const auto [id, peer] = all->left.front();
    all->left.pop_front();
    if (!connections_.contains(id)) continue;   // closed meanwhile
    const auto add = [all, id = id, peer = peer](const Status& status) {
      all->outcomes.push_back({id, peer, status ? uint16_t{0} : static_cast<uint16_t>(status.error().code),
                               status ? "" : status.error().message.substr(0, wire::kMaxText)});
    };
    const auto xid = move_for_operator(id, all->target, all->origin, [this, add, all](const Status& status) {
      add(status);
      --all->open;
      start_some(all);
    });
    if (xid) ++all->open;
    else add(xid.error());
  }
  all->starting = false;
  if (all->open == 0 && all->left.empty()) std::exchange(all->done, nullptr)(std::move(all->outcomes));
}

Status Group::handoff_client(const Endpoint& client, const std::string& target_name, Cause cause, OutcomesDone done) {
  GECKO_TRY(const auto target, find_node(target_name));
  GECKO_CHECK(must_serve(target));
  const uint64_t number = next_batch_++;
  auto& batch = batches_[number];
  batch.client = client;
  batch.done = std::move(done);
  batch.waiting.insert(self_);
  for (auto& peer : peers_) {
    if (!is_fellow(peer) || peer.index == target) continue;
    batch.waiting.insert(peer.index);
    peer.send(LinkType::move_request, wire::MoveRequest{number, client, target});
  }
  batch.timer = daemon_.loop().at(daemon_.loop().now() + kBatchTimeout, [this, number] {
    if (const auto it = batches_.find(number); it != batches_.end()) {
      const auto waiting = it->second.waiting;
      for (const auto node : waiting) batch_unanswered(number, node, make_error(Errc::timeout, "it did not say within 20 s what came of it"));
    }
  });
  move_client_here(client, target, {cause, self_},
                   [this, number](std::vector<wire::MoveOutcome> outcomes) { batch_part(number, self_, std::move(outcomes), true); });
  return {};
}

void Group::batch_part(uint64_t number, uint16_t node, std::vector<wire::MoveOutcome> outcomes, bool last) {
  const auto it = batches_.find(number);
  if (it == batches_.end() || !it->second.waiting.contains(node)) return;
  for (auto& o : outcomes) it->second.outcomes.push_back({o.id, o.client, config_.nodes[node].name, o.code, std::move(o.reason)});
  if (!last) return;
  it->second.waiting.erase(node);
  if (!it->second.waiting.empty()) return;
  daemon_.loop().cancel(it->second.timer);
  const auto done = std::move(it->second.done);
  auto all = std::move(it->second.outcomes);
  batches_.erase(it);
  done(std::move(all));
}

// A node that does not say what it did is an outcome too.
void Group::batch_unanswered(uint64_t number, uint16_t node, const Error& why) {
  const auto it = batches_.find(number);
  if (it == batches_.end()) return;
  std::vector<wire::MoveOutcome> outcomes;
  outcomes.push_back({ConnId{}, it->second.client, static_cast<uint16_t>(why.code), "node " + config_.nodes[node].name + ": " + why.message});
  batch_part(number, node, std::move(outcomes), true);
}

void Group::on_move_request(Peer& peer, const wire::MoveRequest& m) {
  if (m.target >= peers_.size()) {
    peer.send(LinkType::move_result, wire::MoveResult{m.request, {}});
    return;
  }
  const Origin origin{Cause::operator_word, peer.index};
  move_client_here(m.client, m.target, origin, [this, index = peer.index, request = m.request](std::vector<wire::MoveOutcome> outcomes) {
    wire::in_parts(std::move(outcomes), [&](std::vector<wire::MoveOutcome> part) {
      if (peers_[index].up()) peers_[index].send(LinkType::move_result, wire::MoveResult{request, std::move(part)});
    });
  });
}

void Group::on_move_result(Peer& peer, const wire::MoveResult& m) { batch_part(m.request, peer.index, m.outcomes, m.outcomes.size() < wire::kMaxHints); }

}  // namespace gecko::node
