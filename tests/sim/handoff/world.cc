#include "sim/handoff/world.hh"

namespace gecko::sim {

using namespace std::chrono_literals;

World::World(uint64_t seed, const Settings& s, bool print_trace)
    : settings(s),
      random(seed),
      trace(print_trace),
      machines(queue, s.nodes),
      network(queue, machines, random.fork(), s.network),
      checker(trace, [this] { return queue.now(); }, s.limits),
      clients(queue, random.fork(), checker, s.client_pause),
      next_incarnation_(random.next()) {
  for (uint16_t n = 0; n < settings.nodes; ++n) {
    hosts_.push_back(std::make_unique<Host>(*this, n));
    nodes_.push_back(std::make_unique<Node>(*this, n));
  }
  network.on_up = [this](uint16_t n, uint16_t peer) { node(n).link_up(peer); };
  network.on_down = [this](uint16_t n, uint16_t peer) { node(n).link_down(peer); };
  clients.transmit = [this](const Segment& segment) { to_group(segment); };
  queue.run_until(Time(10s));   // clocks never start at zero
  for (auto& n : nodes_) n->start(++next_incarnation_);
  network.start();
}

// ---------------------------------------------------------------- packets

void World::to_group(const Segment& segment) {
  if (!machines.up(contact_, Part::kernel)) return;
  machines.after(contact_, Part::kernel, random.between(settings.network.delay_min, settings.network.delay_max), "client's packet",
                 [this, segment, to = contact_] { host(to).receive(segment); });
}

void World::to_client(uint16_t, const Segment& segment) {
  queue.at(now() + random.between(settings.network.delay_min, settings.network.delay_max), [this, segment] { clients.receive(segment); });
}

void World::send(uint16_t from, uint16_t to, core::LinkMessage message) {
  if (record) sent.push_back({from, to, message});
  const char* name = name_of(message);
  network.send(from, to, name, [this, from, to, m = std::make_unique<core::LinkMessage>(std::move(message))] { node(to).receive(from, std::move(*m)); });
}

// The first machine of the order that is up; a change takes a moment, then every daemon tells the new one what it owns.
void World::choose_contact() {
  queue.at(now() + settings.contact_change, [this] {
    uint16_t first = 0;
    while (first + 1 < settings.nodes && !machines.up(first, Part::kernel)) ++first;
    if (first == contact_) return;
    contact_ = first;
    trace.add(now(), "contact", first);
    for (uint16_t n = 0; n < settings.nodes; ++n)
      if (machines.up(n, Part::daemon)) machines.after(n, Part::daemon, {}, "tell contact", [this, n] { node(n).tell_contact_all(); });
  });
}

// ---------------------------------------------------------------- workload

ConnNo World::open(uint16_t n) {
  const ConnNo conn = next_conn_++;
  host(n).open(conn);
  machines.after(n, Part::daemon, settings.api_delay, "opened", [this, n, conn] {
    if (host(n).serves(conn)) node(n).registers(conn, 1);
  });
  trace.add(now(), "open", conn, n);
  clients.open(conn);
  return conn;
}

std::vector<ConnNo> World::open_connections() const {
  std::vector<ConnNo> out;
  for (ConnNo c = 0; c < next_conn_; ++c)
    if (!checker.connection(c).ended) out.push_back(c);
  return out;
}

bool World::hand_off(ConnNo conn, uint16_t target, bool by_application) {
  const uint16_t n = checker.connection(conn).owner;
  if (!machines.running(n, Part::kernel) || !machines.running(n, Part::daemon) || !host(n).serves(conn) || !node(n).owns(conn)) return false;
  if (node(n).engine()->is_moving(conn_id(conn))) return false;
  if (!by_application) return node(n).start_handoff(conn, target, false, {});
  const AppState state = host(n).let_go(conn);
  machines.after(n, Part::daemon, settings.api_delay, "app hands off", [this, n, conn, target, state] {
    if (!node(n).start_handoff(conn, target, true, state)) host(n).give_back(conn);
  });
  return true;
}

bool World::close(ConnNo conn) {
  const uint16_t n = checker.connection(conn).owner;
  if (!machines.running(n, Part::kernel) || !host(n).close(conn)) return false;
  trace.add(now(), "close", conn, n);
  if (machines.up(n, Part::daemon)) machines.after(n, Part::daemon, settings.api_delay, "closed", [this, n, conn] { node(n).closed(conn); });
  return true;
}

size_t World::in_flight() const {
  size_t sum = 0;
  for (const auto& n : nodes_)
    if (n->engine()) sum += n->engine()->donating();
  return sum;
}

bool World::takes_part(uint16_t n) const {
  core::Handoff* engine = nodes_[n]->engine();
  return engine && engine->donating() + engine->accepting() > 0;
}

// ---------------------------------------------------------------- faults

void World::kill_machine(uint16_t n) {
  if (!machines.up(n, Part::kernel)) return;
  trace.add(now(), "KILL machine", n);
  machines.kill(n, Part::kernel);
  checker.node_died(n);
  network.daemon_died(n, true);
  node(n).died();
  host(n).machine_died();
  choose_contact();
}

void World::start_machine(uint16_t n) {
  if (machines.up(n, Part::kernel)) return;
  trace.add(now(), "start machine", n);
  machines.start(n, Part::kernel);
  choose_contact();
  start_daemon(n);
}

void World::kill_daemon(uint16_t n, bool both_halves) {
  if (!machines.up(n, Part::daemon)) return;
  trace.add(now(), both_halves ? "KILL both halves" : "KILL daemon", n);
  machines.kill(n, Part::daemon);
  checker.daemon_died(n);
  network.daemon_died(n, false);
  node(n).died();
  host(n).daemon_died(both_halves);
}

void World::start_daemon(uint16_t n) {
  if (machines.up(n, Part::daemon) || !machines.up(n, Part::kernel)) return;
  trace.add(now(), "start daemon", n);
  machines.start(n, Part::daemon);
  node(n).start(++next_incarnation_);
  network.daemon_started(n);
}

void World::stop(uint16_t n, Part part) {
  if (!machines.up(n, part)) return;
  trace.add(now(), part == Part::kernel ? "STOP machine" : "STOP daemon", n);
  checker.node_unreachable(n);
  machines.stop(n, part);
}

void World::cut(uint16_t a, uint16_t b) {
  trace.add(now(), "CUT", a, b);
  checker.link_unreachable(a, b);
  network.cut(a, b);
}

void World::heal_everything() {
  trace.add(now(), "heal everything");
  for (uint16_t n = 0; n < settings.nodes; ++n) {
    machines.resume(n, Part::kernel);
    machines.resume(n, Part::daemon);
    start_machine(n);
    start_daemon(n);
    for (uint16_t m = 0; m < n; ++m) network.heal(m, n);
  }
}

void World::settle() {
  heal_everything();
  run_for(settings.limits.give_up + 5s);   // longer than every wait of the protocol
  clients.stop_asking();
  run_for(10s);
  for (const ConnNo conn : open_connections()) {
    const auto& c = checker.connection(conn);
    if (c.live != 1 || c.sockets != 1) checker.violation(conn, "hangs: " + std::to_string(c.sockets) + " sockets, " + std::to_string(c.live) + " of them live");
    else if (!host(c.owner).serves(conn)) checker.violation(conn, "hangs: live, but no application has it");
    else if (!node(c.owner).owns(conn)) checker.violation(conn, "its node's daemon does not know it");
    else if (const auto why = clients.unfinished(conn); !why.empty()) checker.violation(conn, "hangs: " + why);
  }
  for (uint16_t n = 0; n < settings.nodes; ++n) {
    const core::Handoff& e = *node(n).engine();
    if (e.donating() + e.accepting() != 0)
      checker.violation(0, "node " + std::to_string(n) + "'s engine leaks: " + std::to_string(e.donating()) + " donating, " + std::to_string(e.accepting()) +
                               " accepting");
    if (e.next_deadline() != Time::max()) checker.violation(0, "node " + std::to_string(n) + "'s engine waits for something for ever");
  }
}

}  // namespace gecko::sim
