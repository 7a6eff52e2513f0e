#include "sim/membership/world.hh"

#include <algorithm>
#include <bit>

namespace gecko::sim {

using namespace std::chrono_literals;
using core::Owner;

namespace {
constexpr uint64_t kGroup = 0x6765636b6f;

// As steps of a script: arrived, and about to leave.
const char* name_of(const core::ViewMessage& message) {
  static constexpr const char* kNames[] = {"prepare", "promise",  "propose",  "accepted",  "refused",
                                           "view is", "view ask", "join ask", "leave ask", "recovered by"};
  return kNames[message.index()];
}
const char* step_of(const core::MembershipOutput& output) {
  static constexpr const char* kTells[] = {"tell prepare", "tell promise",  "tell propose",  "tell accepted",  "tell refused",
                                           "tell view is", "tell view ask", "tell join ask", "tell leave ask", "tell recovered by"};
  static constexpr const char* kNames[] = {"store", "", "hold grants", "release grants", "adopt", "expelled"};
  const auto* tell = std::get_if<core::Tell>(&output);
  return tell != nullptr ? kTells[tell->message.index()] : kNames[output.index()];
}
}  // namespace

MemberWorld::MemberWorld(uint64_t seed, const MemberSettings& s, bool print_trace)
    : settings(s), random(seed), trace(print_trace), machines(queue, s.all()), checker(s, trace), nodes_(s.all()), faces_(s.all()) {
  for (auto& node : nodes_) node.cut.assign(nodes_.size(), false);
  for (uint16_t n = 0; n < nodes_.size(); ++n) boot(n);
  form(0);
  for (uint16_t n = 0; n < nodes_.size(); ++n) settle(n);
}

Time MemberWorld::local(const Node& node) const {
  return node.base_local + Duration(static_cast<int64_t>(double((now() - node.base_real).count()) * node.rate));
}
Time MemberWorld::real(const Node& node, Time at) const {
  return at <= node.base_local ? now() : node.base_real + Duration(static_cast<int64_t>(double((at - node.base_local).count()) / node.rate) + 1);
}

void MemberWorld::set_clock(uint16_t n, int64_t ppm) {
  Node& node = nodes_[n];
  node.base_local = local(node);
  node.base_real = now();
  node.rate = 1 + double(ppm) / 1e6;
}

void MemberWorld::redraw_clock(uint16_t n) {
  const int64_t most = settings.keeper.lease.drift_ppm;
  const int64_t ppm = random.chance(0.5) ? (random.chance(0.5) ? most : -most) : static_cast<int64_t>(random.below(static_cast<uint64_t>(2 * most + 1))) - most;
  set_clock(n, ppm);
}

void MemberWorld::inject(uint16_t from, uint16_t to, const core::ViewMessage& message) {
  if (!nodes_[to].membership) return;
  tell_geckod(to, [this, from, to, message] { nodes_[to].membership->on(from, message, local(nodes_[to])); });
  settle(to);
}

// A life begins: another clock (a machine that was off counts from anywhere), what is on the disk, nothing else.
void MemberWorld::boot(uint16_t n) {
  Node& node = nodes_[n];
  core::MembershipSettings m = settings.membership;
  m.self = n;
  m.order = n;
  m.witness = n >= settings.nodes;
  node.keeper = std::make_unique<core::Keeper>(n, settings.keeper, local(node));
  node.keeper->peers((core::NodeSet{1} << nodes_.size()) - 1, local(node));
  node.membership = std::make_unique<core::Membership>(m, node.disk, random.next() >> 21 | 1, local(node));
  node.membership->peers((core::NodeSet{1} << nodes_.size()) - 1);
  if (node.away) node.membership->leave(local(node));
  const uint32_t life = ++node.geckod_life;
  trace.add(now(), "boot", n, node.membership->incarnation() & 0xfffff);
  machines.after(n, Part::daemon, random.between(1ms, 30ms), "fence", [this, n, life] { fence(n, life); });
  settle(n);
}

// What a former life left in the kernel is ended; then the node may join.
void MemberWorld::fence(uint16_t n, uint32_t life) {
  tell_geckod(n, [this, n, life] {
    Node& node = nodes_[n];
    if (node.geckod_life != life || node.membership->is_member()) return;
    node.serving.clear();
    node.deadline = Time::min();
    if (on_fenced) on_fenced(n);
    node.membership->fenced(local(node));
  });
  settle(n);
}

void MemberWorld::tell_geckod(uint16_t n, Task what) {
  Node& node = nodes_[n];
  if (!node.membership) return;
  if (node.geckod_stopped) node.untold.push_back(std::move(what));
  else what();
}

template <class F>
void MemberWorld::packet(uint16_t from, uint16_t to, const char* what, F deliver) {
  ++counts.packets;
  const uint64_t copies = random.chance(settings.doubled) ? 2 : 1;
  counts.doubled += copies - 1;
  for (uint64_t i = 0; i < copies; ++i) {
    if (nodes_[from].cut[to] || random.chance(settings.loss)) {
      ++counts.lost;
      continue;
    }
    Duration delay = random.between(settings.delay_min, settings.delay_max);
    if (random.chance(settings.late)) delay += random.between(1ms, 100ms);
    machines.after(to, Part::daemon, delay, what, deliver);
  }
}

void MemberWorld::carry_out(uint16_t n, core::KeeperOutput& output) {
  Node& node = nodes_[n];
  if (const auto* beat = std::get_if<core::Beat>(&output)) {
    packet(n, beat->heartbeat.to, "beat", [this, to = beat->heartbeat.to, h = std::make_shared<const wire::Heartbeat>(beat->heartbeat)] {
      nodes_[to].keeper->heard(*h, local(nodes_[to]));
      settle(to);
    });
  } else if (const auto* until = std::get_if<core::LeaseUntil>(&output)) {
    node.deadline = until->until;
  } else if (const auto* held = std::get_if<core::Held>(&output)) {
    tell_geckod(n, [this, n, token = held->token] { nodes_[n].membership->held(token, local(nodes_[n])); });
  } else if (const auto* s = std::get_if<core::Suspicions>(&output)) {
    trace.add(now(), "suspicions", n, s->mine, s->agreed);
    tell_geckod(n, [this, n, s = *s] { nodes_[n].membership->suspicions(s.mine, s.agreed, local(nodes_[n])); });
  } else if (const auto* newer = std::get_if<core::NewerEpoch>(&output)) {
    tell_geckod(n, [this, n, newer = *newer] { nodes_[n].membership->newer(newer.at, newer.epoch, local(nodes_[n])); });
  } else if (const auto* contact = std::get_if<core::ContactIs>(&output)) {
    tell_geckod(n, [this, n, contact = contact->node] { nodes_[n].membership->contact_is(contact); });
  }
}

void MemberWorld::carry_out(uint16_t n, core::MembershipOutput& output) {
  Node& node = nodes_[n];
  if (const auto* store = std::get_if<core::Store>(&output)) {
    node.storing = true;
    node.is_on_disk = false;
    Duration takes = random.between(settings.disk_min, settings.disk_max);
    if (random.chance(settings.disk_slow)) takes *= 50;
    // The write may reach the disk before it is confirmed, or never.
    machines.after(n, Part::kernel, random.between(Duration{}, takes), "on disk", [this, n, life = node.geckod_life, state = store->state] {
      if (nodes_[n].geckod_life != life) return;
      nodes_[n].disk = state;
      nodes_[n].is_on_disk = true;
      checker.stored(now(), state);
      (void)machines.step(n, "on disk");
    });
    machines.after(n, Part::daemon, takes, "stored", [this, n, life = node.geckod_life] {
      tell_geckod(n, [this, n, life] {
        if (nodes_[n].geckod_life != life) return;
        nodes_[n].storing = false;
        ++counts.stores;
        outputs(n);
      });
      settle(n);
    });
  } else if (auto* tell = std::get_if<core::Tell>(&output)) {
    if (on_tell) on_tell(n, tell->to, tell->message);
    const char* name = name_of(tell->message);
    packet(n, tell->to, name, [this, from = n, to = tell->to, m = std::make_shared<const core::ViewMessage>(std::move(tell->message))] {
      inject(from, to, *m);
    });
  } else if (const auto* hold = std::get_if<core::HoldGrants>(&output)) {
    node.keeper->hold(hold->token, hold->epoch, hold->removed, local(node));
  } else if (std::get_if<core::ReleaseGrants>(&output)) {
    node.keeper->release();
  } else if (const auto* adopted = std::get_if<core::Adopted>(&output)) {
    trace.add(now(), "adopted", n, adopted->view.epoch, adopted->view.members.size());
    checker.adopted(now(), adopted->view);
    node.keeper->adopt(adopted->view, adopted->incarnation, local(node));
    if (n < settings.nodes && core::owns(adopted->view, n, adopted->incarnation)) {
      node.life = {n, adopted->incarnation};
      owners_.insert(node.life);
      node.serving.insert(node.life);
      for (const Owner& o : adopted->inherited) inherit(n, o);
    }
    if (on_adopted && n < settings.nodes) on_adopted(n, *adopted);
  } else if (const auto* expelled = std::get_if<core::Expelled>(&output)) {
    ++counts.expelled;
    trace.add(now(), "expelled", n, expelled->life.incarnation & 0xfffff);
    machines.after(n, Part::daemon, random.between(1ms, 30ms), "fence", [this, n, life = node.geckod_life] { fence(n, life); });
  }
}

// The heir has the right at once; it takes some time to recover, and some more until it says so.
void MemberWorld::inherit(uint16_t n, const Owner& owner) {
  Node& node = nodes_[n];
  ++counts.inherited;
  trace.add(now(), "inherited", n, owner.node, owner.incarnation & 0xfffff);
  std::set<Owner> all = holdings_[owner];
  all.insert(owner);
  holdings_[node.life].insert(all.begin(), all.end());
  if (on_adopted) return void(node.serving.insert(all.begin(), all.end()));
  machines.after(n, Part::daemon, random.between(1ms, settings.recovery_max), "recover", [this, n, life = node.life, all, owner] {
    Node& heir = nodes_[n];
    if (heir.life != life || !heir.keeper || heir.keeper->incarnation() != life.incarnation) return;
    heir.serving.insert(all.begin(), all.end());
    machines.after(n, Part::daemon, random.between(1ms, 100ms), "recovered", [this, n, owner] { tell_recovered(n, owner); });
    settle(n);
  });
}

void MemberWorld::recovered(uint16_t n, const Owner& owner) {
  machines.after(n, Part::daemon, {}, "recovered", [this, n, owner] { tell_recovered(n, owner); });
}
void MemberWorld::tell_recovered(uint16_t n, const Owner& owner) {
  tell_geckod(n, [this, n, owner] {
    ++counts.recovered;
    nodes_[n].membership->recovered(owner, local(nodes_[n]));
  });
  settle(n);
}

// Harm may come just before it. False: it is not to be done, or later.
bool MemberWorld::may_go_on(uint16_t n, const char* what) {
  const uint32_t life = nodes_[n].geckod_life;
  if (!machines.step(n, what)) {
    if (machines.up(n, Part::daemon)) machines.after(n, Part::daemon, {}, "go on", [this, n] { settle(n); });
    return false;
  }
  return nodes_[n].geckod_life == life && !nodes_[n].geckod_stopped;
}

void MemberWorld::outputs(uint16_t n) {
  Node& node = nodes_[n];
  while (node.membership && !node.geckod_stopped) {
    for (auto& o : node.membership->take()) node.outputs.push_back(std::move(o));
    if (node.storing || node.outputs.empty() || !may_go_on(n, step_of(node.outputs.front()))) return;
    core::MembershipOutput output = std::move(node.outputs.front());
    node.outputs.pop_front();
    carry_out(n, output);
  }
}

void MemberWorld::settle(uint16_t n) {
  Node& node = nodes_[n];
  if (!node.keeper) return;
  const Time t = local(node);
  const auto geckod_runs = [&node] { return node.membership && !node.geckod_stopped; };
  if (geckod_runs()) node.keeper->membership_lives(t);
  if (t >= node.keeper->next()) node.keeper->tick(t);
  if (geckod_runs() && t >= node.membership->next()) node.membership->tick(t);
  for (int i = 0;; ++i) {
    GECKO_ASSERT(i < 1000);   // they go round in circles
    outputs(n);
    if (!machines.running(n, Part::daemon)) return look();   // struck in the middle of it
    auto out = node.keeper->take();
    if (out.empty()) break;
    for (auto& o : out) carry_out(n, o);
  }
  Time next = node.keeper->next();
  if (geckod_runs()) next = std::min(next, node.membership->next());
  if (next != Time::max()) {
    const Time at = std::max(real(node, next), now() + 1us);
    if (node.timer <= now() || at < node.timer) {
      node.timer = at;
      machines.at(n, Part::daemon, at, "timer", [this, n, at] {
        Node& late = nodes_[n];
        if (late.timer == at) late.timer = Time::max();
        if (!late.keeper) return;
        late.keeper->tick(local(late));
        if (late.membership && !late.geckod_stopped) late.membership->tick(local(late));
        settle(n);
      });
    }
  }
  look();
}

bool MemberWorld::transmits(uint16_t n) const {
  const Node& node = nodes_[n];
  return machines.up(n, Part::kernel) && local(node) < node.deadline;
}

bool MemberWorld::has_right(uint16_t n, const Owner& owner) const {
  const wire::View* v = view(n);
  if (!v || !transmits(n)) return false;
  return std::any_of(v->orphans.begin(), v->orphans.end(), [&](const auto& o) { return Owner{o.node, o.incarnation} == owner && o.heir == n; });
}

bool MemberWorld::acts(uint16_t n) const {
  return machines.up(n, Part::daemon) && nodes_[n].keeper && nodes_[n].keeper->acts_as_contact(local(nodes_[n]));
}

void MemberWorld::look() {
  for (uint16_t n = 0; n < nodes_.size(); ++n) {
    const Node& node = nodes_[n];
    Face& face = faces_[n];
    face = {transmits(n), &node.serving, acts(n), 0, 0, 0, 0, 0, 0};
    const wire::View* v = view(n);
    if (!v) continue;
    face.epoch = v->epoch;
    face.members = v->members.size();
    face.needed = core::lease_votes(*v);
    face.voters = core::members(*v);
    for (uint16_t m = 0; m < nodes_.size(); ++m) {
      if (machines.running(n, Part::daemon) && !node.cut[m]) face.to |= core::one(m);
      if (machines.running(m, Part::daemon) && !nodes_[m].cut[n]) face.from |= core::one(m);
    }
  }
  checker.look(now(), faces_);
  if (on_look) on_look();
}

void MemberWorld::run_for(Duration time) { queue.run_until(now() + time); }

void MemberWorld::kill_machine(uint16_t n, bool with_its_disk) {
  Node& node = nodes_[n];
  machines.kill(n, Part::kernel);
  node.keeper.reset();
  geckod_over(n);
  node.serving.clear();
  node.deadline = Time::min();
  node.timer = Time::max();
  if (with_its_disk) node.disk.reset();
  trace.add(now(), with_its_disk ? "kill, disk lost" : "kill", n);
}

void MemberWorld::start_machine(uint16_t n) {
  if (machines.up(n, Part::kernel)) return;
  machines.start(n, Part::kernel);
  machines.start(n, Part::daemon);
  Node& node = nodes_[n];
  node.base_real = now();
  node.base_local = Time(random.between(0s, 100s));
  redraw_clock(n);
  boot(n);
}

void MemberWorld::kill_keeper(uint16_t n) {
  if (!machines.up(n, Part::daemon)) return;
  machines.kill(n, Part::daemon);
  nodes_[n].keeper.reset();
  nodes_[n].timer = Time::max();
  geckod_over(n);
  trace.add(now(), "kill keeper", n);
}

void MemberWorld::start_keeper(uint16_t n) {
  if (machines.up(n, Part::daemon) || !machines.up(n, Part::kernel)) return;
  machines.start(n, Part::daemon);
  boot(n);
}

void MemberWorld::kill_geckod(uint16_t n) {
  if (!machines.running(n, Part::daemon) || !nodes_[n].membership) return;
  geckod_over(n);
  trace.add(now(), "kill geckod", n);
}

void MemberWorld::geckod_over(uint16_t n) {
  Node& node = nodes_[n];
  node.membership.reset();
  node.outputs.clear();
  counts.stores_lost += node.storing && !node.is_on_disk;
  node.storing = false;
  node.geckod_stopped = false;
  node.untold.clear();
  ++node.geckod_life;
}

void MemberWorld::stop_geckod(uint16_t n) {
  if (!nodes_[n].membership) return;
  nodes_[n].geckod_stopped = true;
  trace.add(now(), "stop geckod", n);
}

void MemberWorld::resume_geckod(uint16_t n) {
  if (!nodes_[n].geckod_stopped) return;
  machines.after(n, Part::daemon, {}, "geckod goes on", [this, n, life = nodes_[n].geckod_life] {
    Node& node = nodes_[n];
    if (node.geckod_life != life) return;
    node.geckod_stopped = false;
    while (!node.geckod_stopped && !node.untold.empty()) {   // a blow on its way through empties it
      Task next = std::move(node.untold.front());
      node.untold.pop_front();
      next();
    }
    settle(n);
  });
}

void MemberWorld::start_geckod(uint16_t n) {
  Node& node = nodes_[n];
  if (!node.keeper || node.membership || !machines.running(n, Part::daemon)) return;
  // Before its state was ever stored there is nothing to go on with. Neither when the stored life is another one than the keeper's: it was expelled.
  if (!node.disk || node.disk->incarnation != node.keeper->incarnation()) {
    kill_keeper(n);
    return start_keeper(n);
  }
  core::MembershipSettings m = settings.membership;
  m.self = n;
  m.order = n;
  m.witness = n >= settings.nodes;
  ++node.geckod_life;
  node.membership = std::make_unique<core::Membership>(m, *node.disk, core::Membership::GoesOn{}, local(node));
  node.membership->peers((core::NodeSet{1} << nodes_.size()) - 1);
  if (node.away) node.membership->leave(local(node));
  trace.add(now(), "geckod goes on", n);
  node.membership->contact_is(node.keeper->contact());
  node.membership->suspicions(node.keeper->suspicions().mine, node.keeper->suspicions().agreed, local(node));
  if (!node.membership->is_member())
    machines.after(n, Part::daemon, random.between(1ms, 30ms), "fence", [this, n, life = node.geckod_life] { fence(n, life); });
  settle(n);
}

void MemberWorld::heal_everything() {
  settings.loss = settings.doubled = settings.late = 0;
  for (uint16_t n = 0; n < nodes_.size(); ++n) {
    nodes_[n].cut.assign(nodes_.size(), false);
    resume(n, Part::kernel);
    resume(n, Part::daemon);
    start_machine(n);
    start_keeper(n);
    start_geckod(n);
    resume_geckod(n);
    if (nodes_[n].away) join(n);
  }
}

void MemberWorld::form(uint16_t n) {
  Node& node = nodes_[n];
  if (!node.membership || node.membership->view().epoch != 0 || !machines.running(n, Part::daemon)) return;
  GECKO_ASSERT(node.membership->form(kGroup, settings.lease, settings.two_nodes, local(node)));
  settle(n);
}
void MemberWorld::leave(uint16_t n) {
  Node& node = nodes_[n];
  if (!node.membership || !machines.running(n, Part::daemon)) return;
  node.away = true;
  tell_geckod(n, [this, n] { nodes_[n].membership->leave(local(nodes_[n])); });
  settle(n);
}
void MemberWorld::join(uint16_t n) {
  Node& node = nodes_[n];
  if (!node.membership || !machines.running(n, Part::daemon)) return;
  node.away = false;
  tell_geckod(n, [this, n] { nodes_[n].membership->join(local(nodes_[n])); });
  settle(n);
}
void MemberWorld::remove(uint16_t at, uint16_t n) {
  Node& node = nodes_[at];
  if (!node.membership || !machines.running(at, Part::daemon)) return;
  tell_geckod(at, [this, at, n] { nodes_[at].membership->remove(n, local(nodes_[at])); });
  settle(at);
}
void MemberWorld::appoint(uint16_t at, uint16_t n) {
  Node& node = nodes_[at];
  if (!node.keeper || !machines.running(at, Part::daemon)) return;
  (void)node.keeper->appoint(n, local(node)).has_value();
  settle(at);
}
void MemberWorld::declare_dead(uint16_t at, core::NodeSet dead) {
  Node& node = nodes_[at];
  node.membership->declare_dead(dead, local(node));
  node.membership->tick(local(node));
  settle(at);
}

bool MemberWorld::whole() const { return why_not_whole().empty(); }

bool MemberWorld::all_hear_each_other() const {
  return std::ranges::all_of(nodes_, [](const auto& node) { return node.keeper && node.keeper->suspicions().mine == 0; });
}

std::string MemberWorld::why_not_whole() const { return why_not_settled((core::NodeSet{1} << nodes_.size()) - 1); }

std::string MemberWorld::why_not_settled(core::NodeSet in) const {
  const auto node = [](size_t n) { return "node " + std::to_string(n); };
  const wire::View* first = nullptr;
  uint16_t first_node = 0;
  size_t contacts = 0;
  for (uint16_t n = 0; n < nodes_.size(); ++n) {
    contacts += acts(n);
    if (!(in & core::one(n))) continue;
    const wire::View* v = view(n);
    if (!v) return node(n) + " is down";
    if (!first) first = v, first_node = n;
    if (v->epoch != first->epoch)
      return node(n) + " is in view " + std::to_string(v->epoch) + ", " + node(first_node) + " in " + std::to_string(first->epoch);
    if (!core::owns(*v, n, nodes_[n].keeper->incarnation())) return node(n) + "'s present life is not in view " + std::to_string(v->epoch);
    if (n < settings.nodes && !transmits(n)) return node(n) + " has no lease";
  }
  if (core::members(*first) != in) return std::to_string(first->members.size()) + " members, and not those that there should be";
  if (contacts != 1) return std::to_string(contacts) + " contacts";
  for (const Owner& o : owners_) {
    size_t serving = 0;
    for (uint16_t n = 0; n < nodes_.size(); ++n) serving += transmits(n) && nodes_[n].serving.contains(o);
    if (serving != 1)
      return std::to_string(serving) + " nodes serve what was node " + std::to_string(o.node) + "'s in life " + std::to_string(o.incarnation & 0xfffff);
  }
  return "";
}

}  // namespace gecko::sim
