// One strike of a plan, carried out on real processes and cables: inflicted, endured, mended. Root; the scene's lab is changed through another handle,
// so several strikes may run at once, each on its own thread (plan.hh: never two on one node).
//
// There is no clock to jump: wall time is the machine's (no namespace has its own), and Gecko uses it nowhere; a monotonic clock of a time namespace
// would differ from the one that the kernel's programs enforce leases by, which no real machine does. Clocks that drift are simulated (tests/sim).
#pragma once

#include <atomic>
#include <mutex>
#include <set>
#include <string>

#include "kit/scene.hh"
#include "plan.hh"

namespace gecko::bench {

// Disks that a strike has put under state directories. They must be gone before the lab is.
class Disks {
 public:
  explicit Disks(const lab::Lab& lab) : lab_(lab) {}
  ~Disks();
  Disks(const Disks&) = delete;
  Disks& operator=(const Disks&) = delete;
  Status replace_by_full(const std::string& node);  // nothing of the node runs
  Status make_room(const std::string& node);

 private:
  std::string directory(const std::string& node) const { return lab_.directory() + "/" + node + "/state"; }
  const lab::Lab& lab_;
  std::mutex mutex_;
  std::set<std::string> ours_;
};

struct Inflicted {
  Time began, over;
};
// At `when`: what has to be looked up is looked up before. Ends early when the run is interrupted; mends always. Errors: what could not be done, and where.
// `struck`: set when it has begun, or could not.
Result<Inflicted> inflict(kit::Scene& scene, Disks& disks, const Strike& strike, Time when, std::atomic<bool>& struck);

}  // namespace gecko::bench
