// What is promised to a client while nodes are struck, and whether what it saw keeps that. Pure.
//
//   never      a wrong byte, a byte twice or lost (every byte is compared at its position); two owners of one connection; a hang: every client speaks
//              again within kSpeaks of the end of a fault, or has been told that its connection is over
//   only if    its application was killed alone: then it must be told, within kTold
//   it ends    `recovery = "fast"`: its node died while something of it was under way that no mirror had; what rested goes on
//              `recovery = "replicated"`: its node died while it was new, nothing else
//              `recovery = "none"`: its node was killed
//              a handoff of it met the death of one of both nodes
//              two nodes died that the plan had not struck (a machine full of work can do that): counted by itself
//   else       it goes on
//
// "Died" is not the plan's word but the group's: a node whose life is another one afterwards. So a stop of 20 ms allows nothing, and one of 5 s what a
// death allows. A plan that goes beyond the promise is judged by the first line without its hang.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "plan.hh"

namespace gecko::bench {

// Three heartbeats of 10 ms and a lease of 40 ms, on two processors that do the work of all nodes: by then a fault has had its effect on who is a member.
inline constexpr Duration kDecided = std::chrono::milliseconds(250);
// After its last repetition during an outage of 5 s a client's TCP waits for 6.4 s, and on a bad cable it may lose the next one.
inline constexpr Duration kSpeaks = std::chrono::seconds(20);
// A second is promised (guarantee 29); as much again is the machine's, whose two processors do the work of all nodes.
inline constexpr Duration kTold = std::chrono::seconds(2);
// A node that has flapped is trusted again after up to 10 s (docs/adr/0017), and one that comes back has its programs started first.
inline constexpr Duration kSurelyProtected = std::chrono::seconds(30);

// echo, ping: always in the middle of an exchange; idle: silent until a fault is over and kDecided past; visit: a new connection for each small download.
enum class Kind : uint8_t { echo, ping, idle, download, upload, visit };
enum class End : uint8_t { none, reset, closed, wrong, failed, stuck };
enum class Cause : uint8_t { application_killed, beyond_mirror, newborn, owner_killed, in_a_move, no_server, more_died, beyond_promise };
inline constexpr size_t kCauses = 8;

// What became of a strike. Times are since the run's start.
struct Struck {
  Strike strike;
  Duration began{}, over{};
  std::set<int> died;  // nodes with another life than before
};

struct Seen {
  Kind kind = Kind::ping;
  std::set<int> owners;  // the node that had it, and those it may have been moved to since. A visit: all
  End end = End::none;
  Duration ended{};
  bool spoke = false;  // since the strike was over
  Duration last{};     // when it last got something: what its kernel had of a dead program's words it reads first
  std::string text;    // for people: which connection, and its first failure
};

// Of a connection, beside its node: none, fast, replicated.
enum class Kept : uint8_t { nothing, mirror, everything };

struct Rules {
  Kept kept = Kept::mirror;
  bool beyond = false;
};

struct Verdict {
  std::string wrong;           // empty: as promised
  std::optional<Cause> cause;  // of an end that is allowed
};
Verdict judge(const Struck& struck, const Seen& seen, const Rules& rules);

// As in the group file. Nothing: no such word.
std::optional<Kept> kept_by(const std::string& recovery);

std::string name_of(Kind kind);
std::string name_of(End end);
std::string name_of(Cause cause);

// What a run did, beside its strikes.
struct Effort {
  size_t planned = 0;        // strikes
  size_t met = 0;            // strikes that came while connections were being handed off
  double exchanges_per_s = 0;  // of all clients, while nothing was struck
};

// The verdicts of a run.
class Tally {
 public:
  explicit Tally(Rules rules) : rules_(rules) {}
  // Everything that was seen of one strike, until the group was whole again. Connections that ended before, in peace: `peace`.
  void strike(const Struck& struck, const std::vector<Seen>& seen);
  void peace(const Seen& seen);
  void wrong(std::string what);  // two owners, not protected again, a process that is gone

  std::vector<std::string> faults() const;
  // Why it shows nothing: most strikes hit nobody or met no move, or too little was said between them. Empty: it does show something.
  std::vector<std::string> invalid(const Effort& effort) const;
  size_t strikes() const { return strikes_; }
  size_t allowed(Cause cause) const;
  size_t allowed() const;
  size_t touched() const { return touched_; }  // connections whose node was struck while nothing moved them, over all strikes
  std::map<std::string, size_t> by_fault() const { return by_fault_; }
  nlohmann::json json() const;

 private:
  static constexpr size_t kMostFaults = 50;
  Rules rules_;
  std::vector<std::string> faults_;
  std::map<Cause, std::map<Kind, size_t>> allowed_;
  std::map<std::string, size_t> by_fault_;  // how many strikes of a kind
  size_t strikes_ = 0, hits_ = 0, touched_ = 0, more_faults_ = 0;
  struct Orphans {
    size_t all = 0, ended = 0;
  };
  std::map<Kind, Orphans> orphans_;  // whose node died, the only one, and nothing moved them
  size_t strangers_ = 0;             // nodes that died and were not struck
};

}  // namespace gecko::bench
