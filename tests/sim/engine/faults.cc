#include "sim/engine/faults.hh"

namespace gecko::sim {

using namespace std::chrono_literals;

void Faults::plan() {
  if (!on_) return;
  later(random_.between(pause_min_, pause_max_), [this] {
    due_ = true;
    later(30s, [this, number = counts_.all] {   // nothing begins: strike at rest
      if (due_ && number == counts_.all) strike();
    });
  });
}

void Faults::operation_begins(Duration about) {
  if (!due_) return;
  due_ = false;
  later(random_.between({}, about), [this] { strike(); });
}

uint16_t Faults::pick() {
  const auto start = static_cast<uint16_t>(random_.below(nodes_));
  if (random_.chance(0.9))
    for (uint16_t i = 0; i < nodes_; ++i)
      if (const auto n = static_cast<uint16_t>((start + i) % nodes_); victim_.takes_part(n)) return n;
  return start;
}

// Mostly short, some longer than every patience of the protocols.
Duration Faults::outage() {
  const auto kind = random_.below(10);
  if (kind < 4) return random_.between(5ms, 300ms);
  if (kind < 8) return random_.between(300ms, 4s);
  return random_.between(4s, 22s);
}

void Faults::strike() {
  due_ = false;
  if (!on_) return;
  ++counts_.all;
  if (victim_.in_flight() > 0) ++counts_.with_operation_in_flight;
  const uint16_t n = pick();
  auto other = pick();
  if (other == n) other = static_cast<uint16_t>((n + 1 + random_.below(nodes_ - 1u)) % nodes_);
  const auto kind = random_.below(14);
  if (kind < 1) {
    size_t up = 0;
    for (uint16_t i = 0; i < nodes_; ++i) up += victim_.up(i);
    if (up > 1) {
      ++counts_.kills;
      victim_.kill_machine(n);
      later(random_.between(100ms, 5s), [this, n] { victim_.start_machine(n); });
    }
  } else if (kind < 4) {
    ++counts_.daemon_kills;
    victim_.kill_daemon(n);
    later(random_.between(5ms, 3s), [this, n] { victim_.start_daemon(n); });
  } else if (kind < 7) {
    ++counts_.stops;
    const Part part = random_.chance(0.6) ? Part::daemon : Part::kernel;
    victim_.stop(n, part);
    later(random_.chance(0.5) ? 3s : outage(), [this, n, part] { victim_.resume(n, part); });
  } else if (kind < 10) {
    ++counts_.cuts;
    victim_.cut(n, other);
    later(outage(), [this, n, other] { victim_.heal(n, other); });
  } else if (kind < 13) {
    ++counts_.resets;
    victim_.reset_link(n, other);
  } else {
    ++counts_.partitions;
    for (uint16_t i = 0; i < nodes_; ++i)
      if (i != n) victim_.cut(n, i);
    later(outage(), [this, n] {
      for (uint16_t i = 0; i < nodes_; ++i)
        if (i != n) victim_.heal(n, i);
    });
  }
  plan();
}

}  // namespace gecko::sim
