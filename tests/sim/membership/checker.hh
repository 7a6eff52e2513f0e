// What must be true of a group whatever happens to it (docs/adr/0017, "Checked as invariants"). It sees the model's kernels, disks and network, and
// is told nothing by the engines under test but which views they adopt.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/view.hh"
#include "sim/engine/trace.hh"
#include "sim/membership/settings.hh"

namespace gecko::sim {

// What a node's kernel would do at this instant.
struct Face {
  bool transmits = false;                            // its gate's deadline has not passed
  const std::set<core::Owner>* serves = nullptr;     // whose connections it has sockets for
  bool acts = false;                                 // as contact
  uint64_t epoch = 0;                                // of its view
  size_t members = 0;                                // of its view
  core::NodeSet voters = 0;                          // of its view
  core::NodeSet to = 0, from = 0;                    // whom it could reach now, and who could reach it
  size_t needed = 0;                                 // of them, itself included, for a lease
};

class Checker {
 public:
  Checker(const MemberSettings& settings, Trace& trace);

  void look(Time now, const std::vector<Face>& faces);                      // after every step
  void adopted(Time now, const wire::View& view);                           // by whomever
  void stored(Time now, const wire::MembershipState& state);                // reached a disk
  void violation(Time now, const std::string& what);

  const std::vector<std::string>& violations() const { return violations_; }
  uint64_t checks() const { return checks_; }
  uint64_t views() const { return views_.size(); }
  const std::map<uint64_t, wire::View>& decided() const { return views_; }
  Duration longest_two_contacts() const { return longest_two_contacts_; }

 private:
  const MemberSettings settings_;
  Trace& trace_;
  std::map<uint64_t, wire::View> views_;                                    // by epoch
  std::map<uint64_t, std::pair<uint64_t, uint64_t>> disks_;                 // highest epoch and incarnation stored
  std::map<std::pair<uint16_t, uint16_t>, Time> both_act_since_;
  struct Path {
    Time to = Time::min(), from = Time::min();                              // when it was last open
  };
  std::vector<std::pair<uint64_t, Time>> epochs_;                           // per node: of its view, and since when
  std::vector<std::vector<Path>> paths_;                                    // per node, per voter
  Duration longest_two_contacts_{};
  std::vector<std::string> violations_;
  uint64_t checks_ = 0;
};

}  // namespace gecko::sim
