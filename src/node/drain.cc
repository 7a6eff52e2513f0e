#include "node/drain.hh"

#include <algorithm>

#include "node/daemon.hh"
#include "node/kernel_socket.hh"

namespace gecko::node {

using wire::LinkType;

namespace {
constexpr Duration kAnswerWithin = std::chrono::seconds(3);
// How often an emptying node looks at what sends no word when it changes: the kernel's accept queues. Rarely once it is done.
constexpr Duration kLook = std::chrono::milliseconds(20), kLookWhenDone = std::chrono::seconds(1);
}  // namespace

Drain::~Drain() { *alive_ = false; }

// ---------------------------------------------------------------- wishes

bool Drain::leaves_somebody(uint16_t without) const {
  const auto loads = group_.loads();
  return std::any_of(loads.begin(), loads.end(), [&](const core::Load& l) { return l.node != without && l.eligible(); });
}

Status Drain::wish(uint16_t node, bool drain, bool force) {
  GECKO_CHECK(group_.must_serve(node));
  if (drain && !draining(node) && !force && !leaves_somebody(node))
    return make_error(Errc::refused, "no other node of group '" + group_.config().name + "' is up, serves and is not being drained: connections of " +
                                         group_.config().nodes[node].name +
                                         " could go nowhere and new ones would be refused; see 'gecko status', or use --force");
  GECKO_TRY(const auto wish, wishes_.set(node, drain));
  if (wish) adopted(*wish, group_.self());
  return {};
}

void Drain::on_wish(const Peer& from, const wire::DrainWish& m) {
  if (wishes_.hear(m)) adopted(m, from.index);
}

void Drain::adopted(const wire::DrainWish& wish, uint16_t but) {
  log_info("group '" + group_.config().name + "': node " + group_.config().nodes[wish.node].name + (wish.drain ? " is being drained" : " serves again"));
  for (auto& peer : group_.peers_)
    if (group_.is_fellow(peer) && peer.index != but) peer.send(LinkType::drain_wish, wish);
  group_.happened(DrainIs{wish.node, wish.drain ? DrainStep::start : DrainStep::stop});
  group_.choice_.draining(wish.node, wish.drain);
  if (wish.node == group_.self()) {
    if (wish.drain) begin();
    else emptying_.reset();
  }
  group_.elect();
  group_.membership_changed();
  arm();
}

void Drain::link_up(Peer& peer) {
  for (const auto& wish : wishes_.all()) peer.send(LinkType::drain_wish, wish);
}

void Drain::link_down(uint16_t node) {
  for (auto it = questions_.begin(); it != questions_.end();) {
    const auto question = it++;
    if (question->second.node == node)
      answered(question->first, make_error(Errc::unavailable, "the link to node " + group_.config().nodes[node].name + " broke; see 'gecko status'"));
  }
  if (emptying_ && emptying_->waiting.erase(node) != 0 && emptying_->waiting.empty()) check_done();   // whoever is down has nothing to confirm
}

// ---------------------------------------------------------------- emptying this node

void Drain::begin() {
  if (emptying_) return;
  emptying_.emplace(group_.daemon_.loop().now());
  for (const auto& [id, connection] : group_.connections()) emptying_->mover.add(id, emptying_->since);
}

void Drain::opened(const ConnId& id) {
  if (!emptying_) return;
  emptying_->mover.add(id, group_.daemon_.loop().now());
  emptying_->done_at = {};
  arm();
}

void Drain::ended(const ConnId& id) {
  if (emptying_) emptying_->mover.remove(id);
  if (shedding_) shedding_->mover.remove(id);
  arm();
}

void Drain::departed(const ConnId& id) {
  if (emptying_) ++emptying_->moved;
  ended(id);
}

void Drain::arm() {
  auto& loop = group_.daemon_.loop();
  loop.cancel(timer_);
  timer_ = 0;
  if (!emptying_ && !shedding_) return;
  const Time now = loop.now();
  Time next = Time::max();
  if (emptying_) next = std::min(emptying_->mover.next_due(), now + (emptying_->done_at == Time{} ? kLook : kLookWhenDone));
  if (shedding_) next = std::min(next, shedding_->mover.next_due());
  if (next == Time::max()) return;
  timer_ = loop.at(std::max(next, now), [this] {
    timer_ = 0;
    pump();
    pump_shedding();
    check_done();
    arm();
  });
}

void Drain::pump() {
  if (!emptying_ || pumping_) return;
  pumping_ = true;   // a move that is refused at once answers before it returns
  const std::weak_ptr<bool> alive = alive_;
  while (emptying_) {
    const Time now = group_.daemon_.loop().now();
    const auto id = emptying_->mover.next(now);
    if (!id) break;
    const auto c = group_.connections().find(*id);
    if (c == group_.connections().end()) {
      emptying_->mover.remove(*id);
      continue;
    }
    const auto eligible = [loads = group_.loads_for(c->second.flow)](uint16_t node) {
      return std::any_of(loads.begin(), loads.end(), [&](const core::Load& l) { return l.node == node && l.eligible(); });
    };
    if (c->second.wanted_at != kNowhere && eligible(c->second.wanted_at)) {
      emptying_->mover.result(*id, make_error(Errc::again, c->second.reason), now);   // it was asked, and goes by itself
      continue;
    }
    const uint16_t here[] = {group_.self()};
    const auto target = group_.choose_for(c->second.flow, here);
    if (!target) {
      emptying_->mover.result(*id, make_error(Errc::unavailable, "no other node is up, serves its port and is not being drained"), now);
      continue;
    }
    const auto started = group_.move_for_operator(*id, *target, {Cause::drain, group_.self()}, [this, alive, id = *id](const Status& status) {
      if (alive.expired() || !emptying_) return;
      emptying_->mover.result(id, status, group_.daemon_.loop().now());
      arm();
    });
    if (!started) emptying_->mover.result(*id, started.error(), now);
    else ++group_.peers_[*target].connections;   // until its next word
  }
  pumping_ = false;
  group_.run_actions();
}

bool Drain::empty() const {
  return group_.connections().empty() && group_.giving_.empty() && group_.taking_.empty() && group_.daemon_.hold().packets() == 0 &&
         count_unaccepted(group_.config().address, group_.config().ports).value_or(0) == 0;
}

void Drain::check_done() {
  if (!emptying_) return;
  Emptying& e = *emptying_;
  if (!empty()) {
    e.done_at = {};
    e.asking = false;
    e.confirmed.clear();
    return;
  }
  if (e.done_at != Time{}) return;
  if (!e.asking) return ask_others();
  if (!e.waiting.empty()) return;
  for (const auto& peer : group_.peers())
    if (group_.is_fellow(peer) && !e.confirmed.contains(peer.index)) return ask_others();
  e.done_at = group_.daemon_.loop().now();   // looked at once more after the last confirmation: nothing has come meanwhile
  group_.happened(DrainIs{group_.self(), DrainStep::done, e.moved, static_cast<uint32_t>((e.done_at - e.since) / std::chrono::milliseconds(1))});
  log_info("group '" + group_.config().name + "': this node is drained, " + std::to_string(e.moved) + " connections were moved away");
}

void Drain::ask_others() {
  Emptying& e = *emptying_;
  e.asking = true;
  ++e.round;
  e.waiting.clear();
  e.confirmed.clear();
  for (auto& peer : group_.peers_) {
    if (!group_.is_fellow(peer)) continue;
    e.waiting.insert(peer.index);
    peer.send(LinkType::drained_ask, wire::DrainedAsk{e.round});
  }
}

void Drain::on_drained_ask(Peer& from, const wire::DrainedAsk& m) {
  bool agree = draining(from.index);
  for (const auto& [xid, giving] : group_.giving_) agree = agree && giving.target != from.index;
  for (const auto& [key, taking] : group_.taking_) agree = agree && key.from != from.index;
  if (agree && group_.is_contact()) {
    // What the contact still believes to be there has ended without a word. Should a packet come, everybody is asked.
    std::vector<Flow> stale;
    (void)group_.daemon_.flows().for_each([&](const Flow& flow, const gecko_flow& entry) {
      if (entry.state == GECKO_FLOW_FORWARD && entry.node == group_.number(from.index) && (entry.flags & GECKO_FLOW_F_CLOSING) == 0 &&
          group_.owns_address(flow))
        stale.push_back(flow);
    });
    for (const auto& flow : stale) (void)group_.daemon_.flows().erase(flow);
  }
  from.send(LinkType::drained_answer, wire::DrainedAnswer{m.round, agree});
}

void Drain::on_drained_answer(const Peer& from, const wire::DrainedAnswer& m) {
  if (!emptying_ || m.round != emptying_->round || emptying_->waiting.erase(from.index) == 0) return;
  if (m.agree) emptying_->confirmed.insert(from.index);
  if (emptying_->waiting.empty()) {
    if (!m.agree) return;   // asked again at the next look
    check_done();
    arm();
  }
}

// ---------------------------------------------------------------- how far is it?

wire::DrainReport Drain::report() const {
  wire::DrainReport r;
  const Time now = group_.daemon_.loop().now();
  r.connections = static_cast<uint32_t>(group_.connections().size());
  for (const auto& [id, c] : group_.connections()) {
    r.movable += c.movable ? 1 : 0;
    r.moving += c.moving ? 1 : 0;
  }
  r.unaccepted = count_unaccepted(group_.config().address, group_.config().ports).value_or(0);
  r.held_packets = static_cast<uint32_t>(group_.daemon_.hold().packets());
  const auto stay = [&](const Connection& c, std::string why) {
    if (r.stays.size() < wire::kMaxStays)
      r.stays.push_back({c.flow.peer, static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::seconds>(now - c.since).count()),
                         why.substr(0, wire::kMaxText)});
  };
  if (!emptying_) {   // a plan: what would not move
    for (const auto& [id, c] : group_.connections())
      if (!c.movable) stay(c, c.reason.empty() ? "the application has declared it as not movable" : c.reason);
    r.stayed = r.connections - r.movable;
    return r;
  }
  const Emptying& e = *emptying_;
  r.draining = true;
  r.moved = e.moved;
  r.stayed = static_cast<uint32_t>(e.mover.stayed());
  r.done = e.done_at != Time{};
  r.since_ms = static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>((r.done ? e.done_at : now) - e.since).count());
  r.confirmed.assign(e.confirmed.begin(), e.confirmed.end());
  e.mover.for_each_stayed([&](const ConnId& id, const Error& why) {
    if (const auto c = group_.connections().find(id); c != group_.connections().end()) stay(c->second, why.message);
  });
  return r;
}

Status Drain::look(uint16_t node, ReportDone done) {
  GECKO_CHECK(group_.must_serve(node));
  if (node == group_.self()) {
    done(report());
    return {};
  }
  Peer& peer = group_.peers_[node];
  if (!peer.up())
    return make_error(Errc::unavailable, "node " + group_.config().nodes[node].name + " is not connected to this node" +
                                             std::string(draining(node) ? "; it is marked as drained and takes nothing when it comes back" : "") +
                                             ". See 'gecko status'");
  const uint64_t request = next_request_++;
  Question& question = questions_[request];
  question.node = node;
  question.done = std::move(done);
  question.timer = group_.daemon_.loop().at(group_.daemon_.loop().now() + kAnswerWithin, [this, request, node] {
    answered(request, make_error(Errc::timeout, "node " + group_.config().nodes[node].name + " does not answer"));
  });
  peer.send(LinkType::drain_look, wire::DrainLook{request});
  return {};
}

void Drain::on_look(Peer& from, const wire::DrainLook& m) {
  auto answer = report();
  answer.request = m.request;
  from.send(LinkType::drain_report, answer);
}

void Drain::on_report(const wire::DrainReport& m) { answered(m.request, m); }

void Drain::answered(uint64_t request, Result<wire::DrainReport> report) {
  const auto it = questions_.find(request);
  if (it == questions_.end()) return;
  group_.daemon_.loop().cancel(it->second.timer);
  const auto done = std::move(it->second.done);
  questions_.erase(it);
  done(std::move(report));
}

// ---------------------------------------------------------------- what cannot move

Status Drain::evict(uint16_t node) {
  if (!draining(node))
    return make_error(Errc::invalid, "node " + group_.config().nodes[node].name + " is not being drained; connections are ended only there ('gecko drain " +
                                         group_.config().nodes[node].name + "' first)");
  if (node == group_.self()) {
    on_evict();
    return {};
  }
  if (!group_.peers_[node].up())
    return make_error(Errc::unavailable, "node " + group_.config().nodes[node].name + " is not connected to this node; see 'gecko status'");
  group_.peers_[node].send(LinkType::evict, wire::Evict{0});
  return {};
}

void Drain::on_evict() {
  if (!emptying_) return;
  emptying_->mover.for_each_stayed([&](const ConnId& id, const Error&) {
    const auto c = group_.connections().find(id);
    if (c == group_.connections().end() || c->second.moving || c->second.session == nullptr) return;
    c->second.session->send(wire::ApiType::evict, wire::AppEvict{id});
  });
}

// ---------------------------------------------------------------- balance

std::vector<Drain::Shift> Drain::plan_balance() const {
  struct Node { uint16_t node; int64_t surplus, weight; };
  std::vector<Node> nodes;
  int64_t total = 0, weights = 0;
  for (const auto& load : group_.loads())
    if (load.eligible()) {
      nodes.push_back({load.node, load.connections, group_.policy_ == core::PolicyKind::weighted ? load.weight : 1});
      total += load.connections;
      weights += nodes.back().weight;
    }
  if (nodes.size() < 2) return {};
  // The remainder stays where most is (for its weight): no connection moves only to be one of "one more".
  std::sort(nodes.begin(), nodes.end(), [](const Node& a, const Node& b) {
    const int64_t left = a.surplus * b.weight, right = b.surplus * a.weight;
    return left != right ? left > right : a.node < b.node;
  });
  int64_t remainder = total;
  for (const auto& node : nodes) remainder -= total * node.weight / weights;
  for (auto& node : nodes) node.surplus -= total * node.weight / weights + (remainder-- > 0 ? 1 : 0);
  std::sort(nodes.begin(), nodes.end(), [](const Node& a, const Node& b) { return a.surplus != b.surplus ? a.surplus > b.surplus : a.node < b.node; });
  std::vector<Shift> plan;
  for (size_t from = 0, to = nodes.size(); from < nodes.size() && nodes[from].surplus > 0;) {
    while (to > 0 && nodes[to - 1].surplus >= 0) --to;
    if (to == 0) break;
    const int64_t n = std::min(nodes[from].surplus, -nodes[to - 1].surplus);
    plan.push_back({nodes[from].node, nodes[to - 1].node, static_cast<uint32_t>(n)});
    nodes[from].surplus -= n;
    nodes[to - 1].surplus += n;
    if (nodes[from].surplus == 0) ++from;
  }
  return plan;
}

std::vector<Drain::Shift> Drain::plan_for(const std::vector<uint16_t>& joined) const {
  switch (group_.policy_) {
    // What the first bytes or the distance have decided, numbers must not undo.
    case core::PolicyKind::hash_bytes:
    case core::PolicyKind::locality: return {};
    case core::PolicyKind::hash_client: {   // everybody knows which of its clients belong there (on_shed)
      std::vector<Shift> plan;
      for (const uint16_t to : joined)
        for (const auto& load : group_.loads())
          if (load.up && load.connections > 0 && load.node != to) plan.push_back({load.node, to, load.connections});
      return plan;
    }
    default: return plan_balance();
  }
}

void Drain::balance(const std::vector<Shift>& plan) {
  for (const Shift& s : plan) {
    const wire::Shed shed{s.to, s.connections};
    if (s.from == group_.self()) on_shed(shed, group_.self());
    else group_.peers_[s.from].send(LinkType::shed, shed);
  }
}

void Drain::on_shed(const wire::Shed& m, uint16_t by) {
  if (m.target >= group_.peers_.size() || m.target == group_.self() || emptying_ || sheds_.size() >= group_.peers_.size()) return;
  // How many was counted before those on their way had arrived: the next balance sees what this one has done.
  if (shedding_ && shedding_->target == m.target) return;
  const Shift wanted{by, m.target, m.connections};
  if (const auto same = std::ranges::find(sheds_, m.target, &Shift::to); same != sheds_.end()) *same = wanted;
  else sheds_.push_back(wanted);
  if (!shedding_) begin_shedding();
}

void Drain::begin_shedding() {
  const Time now = group_.daemon_.loop().now();
  const bool by_hash = group_.policy_ == core::PolicyKind::hash_client;
  while (!shedding_ && !sheds_.empty()) {
    const Shift wanted = sheds_.front();
    sheds_.pop_front();
    shedding_.emplace(wanted);
    for (const auto& [id, c] : group_.connections())
      if (c.movable && !c.moving && (!by_hash || group_.choose_for(c.flow, {}) == wanted.to)) shedding_->mover.add(id, now);
    if (shedding_->mover.left() == 0) shedding_.reset();
  }
  arm();
}

void Drain::pump_shedding() {
  const std::weak_ptr<bool> alive = alive_;
  while (shedding_ && shedding_->left > shedding_->mover.on_their_way()) {
    const auto id = shedding_->mover.next(group_.daemon_.loop().now());
    if (!id) break;
    const auto started = group_.move_for_operator(*id, shedding_->target, {Cause::balance, shedding_->by}, [this, alive, id = *id](const Status& status) {
      if (alive.expired() || !shedding_) return;
      if (status && shedding_->left > 0) --shedding_->left;
      shedding_->mover.remove(id);   // one that stays, stays: another goes in its place
      arm();
    });
    if (!started) shedding_->mover.remove(*id);
  }
  if (shedding_ && shedding_->mover.on_their_way() == 0 && (shedding_->left == 0 || shedding_->mover.left() == 0)) {
    shedding_.reset();
    begin_shedding();
  }
  group_.run_actions();
}

}  // namespace gecko::node
