#include "sim/engine/machines.hh"

namespace gecko::sim {

bool Machines::admit(const Place& place, Task& task) {
  const Part part = static_cast<Part>(place.part);
  Machine& m = machines_[place.node];
  Half& half = part == Part::kernel ? m.kernel : m.daemon;
  if (place.life != half.life || !half.up) return false;
  if (part == Part::daemon && hook_ && !stopped(place.node, part)) hook_(place.node, place.what);
  if (place.life != half.life || !half.up) return false;
  if (!stopped(place.node, part)) return true;
  half.waiting.emplace_back(place, std::move(task));
  return false;
}

void Machines::kill(uint16_t node, Part part) {
  Machine& m = machines_[node];
  for (Half* half : {&m.daemon, &m.kernel}) {
    if (half == &m.kernel && part == Part::daemon) continue;
    ++half->life;
    half->up = half->stopped = false;
    half->waiting.clear();
  }
}

void Machines::start(uint16_t node, Part part) { (part == Part::kernel ? machines_[node].kernel : machines_[node].daemon).up = true; }

void Machines::stop(uint16_t node, Part part) { (part == Part::kernel ? machines_[node].kernel : machines_[node].daemon).stopped = true; }

void Machines::resume(uint16_t node, Part part) {
  Machine& m = machines_[node];
  (part == Part::kernel ? m.kernel : m.daemon).stopped = false;
  if (!m.kernel.stopped) release(m.kernel);
  if (!m.kernel.stopped && !m.daemon.stopped) release(m.daemon);
}

// In the order in which it would have happened, each as an event of its own.
void Machines::release(Half& half) {
  for (auto& [place, task] : half.waiting) queue_.at(queue_.now(), place, std::move(task));
  half.waiting.clear();
}

}  // namespace gecko::sim
