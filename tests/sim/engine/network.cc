#include "sim/engine/network.hh"

namespace gecko::sim {

Network::Network(EventQueue& queue, Machines& machines, Random random, NetworkShape shape)
    : queue_(queue), machines_(machines), random_(random), shape_(shape), pairs_(size_t{machines.count()} * machines.count()) {
  for (uint16_t a = 0; a < machines_.count(); ++a)
    for (uint16_t b = static_cast<uint16_t>(a + 1); b < machines_.count(); ++b) {
      pair(a, b).low = a;
      pair(a, b).high = b;
    }
}

void Network::start() {
  for (Pair& p : pairs_)
    if (p.low != p.high) connect(p);
}

void Network::send(uint16_t from, uint16_t to, const char* what, Task deliver) {
  Pair& p = pair(from, to);
  const uint64_t session = p.known[from > to];
  if (session != 0 && session == p.session) carry(p, to > from, session, what, std::move(deliver));
}

// In order, also around a cut: whatever event comes first brings what was sent first.
void Network::carry(Pair& p, bool to_high, uint64_t session, const char* what, Task deliver) {
  p.line[to_high].push_back({what, std::move(deliver)});
  arrive_later(p, to_high, session);
}

void Network::arrive_later(Pair& p, bool to_high, uint64_t session) {
  Time& floor = p.floor[to_high];
  floor = std::max(floor, queue_.now() + delay());
  queue_.at(floor, [this, &p, to_high, session] {
    if (p.session != session) return;
    if (p.cut) {
      ++p.stalled[to_high];
      return;
    }
    Message first = std::move(p.line[to_high].front());
    p.line[to_high].pop_front();
    const uint16_t node = to_high ? p.high : p.low;
    // Arrived: in the receiver's socket buffer, read when its daemon runs, unless it has given the session up before.
    machines_.after(node, Part::daemon, {}, first.what, [&p, to_high, session, deliver = std::move(first.deliver)]() mutable {
      if (p.known[to_high] == session) deliver();
    });
  });
}

void Network::packet(uint16_t from, uint16_t to, Task deliver) {
  if (is_cut(from, to)) return;
  Pair& p = pair(from, to);
  machines_.after(to, Part::kernel, delay(), "packet", [&p, cuts = p.cuts, deliver = std::move(deliver)]() mutable {
    if (p.cuts == cuts) deliver();
  });
}

void Network::cut(uint16_t a, uint16_t b) {
  Pair& p = pair(a, b);
  if (p.cut) return;
  p.cut = true;
  ++p.cuts;
  for (const bool high : {false, true})
    if (const uint64_t session = p.known[high]; session != 0) {
      queue_.at(queue_.now() + random_.between(shape_.detect_min, shape_.detect_max), [this, &p, high, session, cuts = p.cuts] {
        if (!p.cut || p.cuts != cuts) return;
        if (p.session == session) end_session(p);
        notice(p, high, session, {});
      });
    }
}

void Network::heal(uint16_t a, uint16_t b) {
  Pair& p = pair(a, b);
  if (!p.cut) return;
  p.cut = false;
  for (const bool high : {false, true})
    for (size_t n = std::exchange(p.stalled[high], 0); n > 0; --n) arrive_later(p, high, p.session);
  if (p.session == 0) connect(p);
}

void Network::end_session(Pair& p) {
  p.session = 0;
  for (const bool high : {false, true}) {
    p.line[high].clear();
    p.stalled[high] = 0;
  }
}

void Network::notice(Pair& p, bool high, uint64_t session, Duration after) {
  machines_.after(high ? p.high : p.low, Part::daemon, after, "link down", [this, &p, high, session] {
    if (p.known[high] != session) return;
    p.known[high] = 0;
    on_down(high ? p.high : p.low, high ? p.low : p.high);
  });
}

void Network::reset(uint16_t a, uint16_t b) {
  Pair& p = pair(a, b);
  if (p.session == 0) return;
  end_session(p);
  for (const bool high : {false, true})
    if (p.known[high] != 0 && random_.chance(0.7)) notice(p, high, p.known[high], delay());  // else it learns by the next session
  connect(p);
}

void Network::daemon_died(uint16_t node, bool with_its_kernel) {
  for (Pair& p : pairs_) {
    if (p.low == p.high || (p.low != node && p.high != node)) continue;
    const bool dead_is_high = p.high == node;
    p.known[dead_is_high] = 0;
    const uint64_t session = p.known[!dead_is_high];
    end_session(p);
    if (session == 0) continue;
    notice(p, !dead_is_high, session, with_its_kernel || p.cut ? random_.between(shape_.detect_min, shape_.detect_max) : delay());
  }
}

void Network::daemon_started(uint16_t node) {
  for (Pair& p : pairs_)
    if (p.low != p.high && (p.low == node || p.high == node)) connect(p);
}

// Tries until it stands: both daemons must run and reach each other.
void Network::connect(Pair& p) {
  if (p.connecting) return;
  p.connecting = true;
  queue_.at(queue_.now() + random_.between(shape_.connect_min, shape_.connect_max), [this, &p] {
    p.connecting = false;
    if (p.session != 0 || p.cut || !machines_.up(p.low, Part::daemon) || !machines_.up(p.high, Part::daemon)) return;
    if (!machines_.running(p.low, Part::daemon) || !machines_.running(p.high, Part::daemon)) return connect(p);
    p.session = next_session_++;
    for (const bool high : {false, true}) {
      p.floor[high] = queue_.now() + delay();
      machines_.at(high ? p.high : p.low, Part::daemon, p.floor[high], "link up", [this, &p, high, session = p.session] {
        if (p.session != session) return;
        p.known[high] = session;
        on_up(high ? p.high : p.low, high ? p.low : p.high);
      });
    }
  });
}

}  // namespace gecko::sim
