// Simulated time: events in the order of their time, those of one instant in the order in which they were made.
#pragma once

#include <algorithm>
#include <vector>

#include "base/clock.hh"
#include "sim/engine/task.hh"

namespace gecko::sim {

// Where an event happens; who that is decides the gate.
struct Place {
  uint16_t node = UINT16_MAX;
  uint16_t part = 0;
  uint32_t life = 0;
  const char* what = "";
};

// Asked before every event that has a place: may it happen now? A gate that says no has dropped the task or kept it.
class Gate {
 public:
  virtual ~Gate() = default;
  virtual bool admit(const Place& place, Task& task) = 0;
};

class EventQueue {
 public:
  Time now() const { return now_; }
  uint64_t executed() const { return executed_; }
  void set_gate(Gate* gate) { gate_ = gate; }

  void at(Time when, Task task) { at(when, Place{}, std::move(task)); }
  void at(Time when, const Place& place, Task task) {
    uint32_t slot;
    if (free_.empty()) {
      slot = static_cast<uint32_t>(slots_.size());
      slots_.push_back({place, std::move(task)});
    } else {
      slot = free_.back();
      free_.pop_back();
      slots_[slot] = {place, std::move(task)};
    }
    heap_.push_back({std::max(when, now_), next_++, slot});
    std::push_heap(heap_.begin(), heap_.end(), later);
  }
  bool run_one(Time until) {
    if (heap_.empty() || heap_.front().at > until) return false;
    std::pop_heap(heap_.begin(), heap_.end(), later);
    const Entry entry = heap_.back();
    heap_.pop_back();
    now_ = entry.at;
    ++executed_;
    Slot slot = std::move(slots_[entry.slot]);
    free_.push_back(entry.slot);
    if (slot.place.node == UINT16_MAX || gate_->admit(slot.place, slot.task)) slot.task();
    return true;
  }
  void run_until(Time end) {
    while (run_one(end)) {}
    now_ = std::max(now_, end);
  }

 private:
  struct Entry {
    Time at;
    uint64_t number;
    uint32_t slot;
  };
  struct Slot {
    Place place;
    Task task;
  };
  static bool later(const Entry& a, const Entry& b) { return a.at != b.at ? a.at > b.at : a.number > b.number; }

  Time now_{};
  uint64_t next_ = 0, executed_ = 0;
  std::vector<Entry> heap_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  Gate* gate_ = nullptr;
};

}  // namespace gecko::sim
