// What a chaos run does to a group, from a seed alone: which fault strikes which node when, for how long, and which connections are moved meanwhile.
// Pure: the same options give the same plan, so that a seed repeats a run as far as a machine can be repeated.
//
// Two modes. `promised`: nothing beyond what a group with one backup for each connection survives (docs/guarantees.md): one node is struck at a time,
// and kProtectedAgain passes between the end of a strike and the next one; whoever carries the plan out waits longer if protection does. `beyond`:
// nodes are struck while others are, two at once now and then; of that only "never two owners, no wrong byte" is promised.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.hh"
#include "base/result.hh"

namespace gecko::bench {

enum class Fault : uint8_t {
  kill,       // SIGKILL to `part`; what a service manager would start again is started after `length`
  stop,       // SIGSTOP to `part` for `length`
  cut,        // the node's cable is out for `length`
  one_way,    // nothing that it says arrives anywhere, or nothing that is said to it (`outward`)
  bad_cable,  // its cable loses and reorders
  flap,       // its cable is out, in, out, ... with `period` between
  full_disk,  // it dies and comes back with a new, full disk under its state directory, which gets room after `length`
};
enum class Part : uint8_t { privileged, network, geckod, keeper, echo, stream, node };  // geckod: both halves; echo, stream: applications

// Asked for by the operator while nodes are struck. Connections belong to client addresses 0, 1, ...
struct Move {
  enum class What : uint8_t {
    round,    // all connections of an address to `node`, the next one, the next one, ... until the strike has begun: it meets a handoff
    handoff,  // all connections of an address to `node`
    drain,    // of `node`
    contact,  // `node` is to be it
    balance,
  };
  What what = What::handoff;
  Duration after{};   // since the strike's turn; the strike itself comes kLead after it
  size_t client = 0;  // whose connections
  int node = 1;
};

struct Strike {
  Duration at{};  // since the run's start, at the earliest
  Fault fault = Fault::kill;
  Part part = Part::node;
  int victim = 1;  // n1 is 1
  Duration length{};
  bool outward = false;                    // one_way
  uint32_t loss_ppm = 0, reorder_ppm = 0;  // bad_cable
  Duration period{};                       // flap
  std::vector<Move> meanwhile;             // by `after`; one of them is a round
};

struct PlanOptions {
  uint64_t seed = 1;
  int nodes = 3;
  size_t client_addresses = 4;
  Duration length = std::chrono::minutes(1);
  bool beyond = false;
};
struct Plan {
  PlanOptions options;
  std::vector<Strike> strikes;  // by `at`
};

inline constexpr std::chrono::milliseconds kLead{100}, kRound{40};  // before a strike: its turn, and its round begins
inline constexpr Duration kProtectedAgain = std::chrono::seconds(3);

Plan make_plan(const PlanOptions& options);
// Nodes that are struck, or were within `again` before, at the worst instant: 1 in every promised plan.
size_t most_at_once(const Plan& plan, Duration again = kProtectedAgain);
bool is_promised(const Plan& plan);

std::string name_of(Fault fault);
std::string name_of(Part part);
std::string name_of(const Strike& strike);  // "stop lease keeper of n2 for 1.3 s"
std::string text_of(const Plan& plan);      // a line for each strike, as the bench prints and keeps them

}  // namespace gecko::bench
