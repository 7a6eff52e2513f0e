// What goes wrong in a random run, when, and for how long. Knows nothing of what the group does: it asks who is busy, and strikes there.
#pragma once

#include <functional>

#include "sim/engine/machines.hh"
#include "sim/engine/random.hh"

namespace gecko::sim {

// The group under attack.
class Victim {
 public:
  virtual ~Victim() = default;
  virtual void kill_machine(uint16_t node) = 0;
  virtual void start_machine(uint16_t node) = 0;
  virtual void kill_daemon(uint16_t node) = 0;
  virtual void start_daemon(uint16_t node) = 0;
  virtual void stop(uint16_t node, Part part) = 0;
  virtual void resume(uint16_t node, Part part) = 0;
  virtual void cut(uint16_t a, uint16_t b) = 0;
  virtual void heal(uint16_t a, uint16_t b) = 0;
  virtual void reset_link(uint16_t a, uint16_t b) = 0;
  virtual bool up(uint16_t node) const = 0;        // its machine
  virtual size_t in_flight() const = 0;            // operations that a fault could hit
  virtual bool takes_part(uint16_t node) const = 0;
};

class Faults {
 public:
  Faults(EventQueue& queue, Random random, Victim& victim, uint16_t nodes, Duration pause_min, Duration pause_max)
      : queue_(queue), random_(random), victim_(victim), nodes_(nodes), pause_min_(pause_min), pause_max_(pause_max) {}

  void start() { plan(); }
  void stop() { on_ = false; }
  // The workload has just begun an operation that takes about so long: the fault that is due strikes inside it.
  void operation_begins(Duration about);

  struct Counts {
    uint64_t all = 0, with_operation_in_flight = 0, kills = 0, daemon_kills = 0, stops = 0, cuts = 0, resets = 0, partitions = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  void plan();
  void strike();
  uint16_t pick();
  void later(Duration time, Task task) { queue_.at(queue_.now() + time, std::move(task)); }
  Duration outage();

  EventQueue& queue_;
  Random random_;
  Victim& victim_;
  const uint16_t nodes_;
  const Duration pause_min_, pause_max_;
  bool on_ = true, due_ = false;
  Counts counts_;
};

}  // namespace gecko::sim
