// The machines of a simulated group: each has a kernel (with its applications) and a daemon (geckod, both halves). Either can stop and go
// on, which delays what it would have done; either can die, which cancels it.
//
// Every event of a machine is made here; a hook sees each daemon event before it happens and may do harm at exactly that point.
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "sim/engine/event_queue.hh"

namespace gecko::sim {

enum class Part : uint16_t { kernel, daemon };

class Machines final : public Gate {
 public:
  using Hook = std::function<void(uint16_t node, const char* what)>;

  Machines(EventQueue& queue, uint16_t count) : queue_(queue), machines_(count) { queue_.set_gate(this); }
  uint16_t count() const { return static_cast<uint16_t>(machines_.size()); }

  // Happens at that time, later if that part is stopped then, never if it dies before.
  void at(uint16_t node, Part part, Time when, const char* what, Task task) { queue_.at(when, place(node, part, what), std::move(task)); }
  void after(uint16_t node, Part part, Duration delay, const char* what, Task task) { at(node, part, queue_.now() + delay, what, std::move(task)); }

  bool up(uint16_t node, Part part) const { return part == Part::kernel ? machines_[node].kernel.up : machines_[node].daemon.up; }
  bool stopped(uint16_t node, Part part) const {
    const Machine& m = machines_[node];
    return m.kernel.stopped || (part == Part::daemon && m.daemon.stopped);
  }
  bool running(uint16_t node, Part part) const { return up(node, part) && !stopped(node, part); }
  uint32_t life(uint16_t node, Part part) const { return part == Part::kernel ? machines_[node].kernel.life : machines_[node].daemon.life; }

  void kill(uint16_t node, Part part);     // the kernel takes the daemon with it
  void start(uint16_t node, Part part);    // the kernel alone; the daemon when its kernel is up
  void stop(uint16_t node, Part part);     // SIGSTOP, or a whole machine that is not scheduled
  void resume(uint16_t node, Part part);

  void set_hook(Hook hook) { hook_ = std::move(hook); }
  // For what happens inside an event, action by action: false if the daemon may not go on (dead, or stopped: it will be resumed).
  bool step(uint16_t node, const char* what) {
    const uint32_t before = life(node, Part::daemon);
    if (hook_) hook_(node, what);
    return life(node, Part::daemon) == before && running(node, Part::daemon);
  }

 private:
  struct Half {
    bool up = true, stopped = false;
    uint32_t life = 1;
    std::deque<std::pair<Place, Task>> waiting;
  };
  struct Machine {
    Half kernel, daemon;
  };

  Place place(uint16_t node, Part part, const char* what) const { return {node, static_cast<uint16_t>(part), life(node, part), what}; }
  bool admit(const Place& place, Task& task) override;
  void release(Half& half);

  EventQueue& queue_;
  std::vector<Machine> machines_;
  Hook hook_;
};

}  // namespace gecko::sim
