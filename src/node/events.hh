// What happened on this node: for whoever follows it (`gecko events`), asks later (`gecko why`) or counts it (`gecko metrics`). docs/adr/0024
//
// One list of all kinds; what is said of them in JSON is in event_json.cc, what is counted in tally.hh. The newest kKept events are kept (7 MB at the
// very most, if every one has a long text), numbered from 1 and never numbered again while this process lives. To add one costs a copy into its place:
// nothing is rendered before somebody asks, and nothing is kept for anybody who is slow. Pure: the time is an argument. One thread.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/address.hh"
#include "base/clock.hh"
#include "core/recovery.hh"
#include "node/tally.hh"

namespace gecko::node {

using WallTime = std::chrono::sys_time<std::chrono::nanoseconds>;

// The donor's instants of one handoff, in this order. Some may be missing: an application that asks by itself is not asked, one that is refused does not
// come far.
enum class Step : uint8_t { started, asked, let_go, held, captured, committed, ended };
inline constexpr size_t kPhases = 6;   // each begins with a step: prepare, yield, settle, capture, restore, activate
inline constexpr std::array<std::string_view, kPhases> kPhaseNames{"prepare", "yield", "settle", "capture", "restore", "activate"};
inline constexpr uint32_t kNever = UINT32_MAX;   // microseconds

class Steps {
 public:
  void mark(Step step, Time now) { at_[static_cast<size_t>(step)] = now; }   // again: the last time counts (a freeze that is tried again)
  // In microseconds; kNever: that phase was not. Whatever it ended in lasts until the end.
  std::array<uint32_t, kPhases> phases() const;
  // From the hold to the end: for so long the donor has held the packets of its client back.
  uint32_t gap() const;

 private:
  std::array<Time, kPhases + 1> at_{};
};

// --- the kinds. Node numbers are the group file's.
struct ViewIs { uint64_t epoch = 0; core::NodeSet members = 0, joined = 0, left = 0; bool member = false; };   // joined and left: another life of it
struct ContactIs { uint16_t contact = wire::kNoNode; uint64_t term = 0; };
struct LeaseIs { bool holds = false; uint16_t term = 0; };
struct SuspicionIs { uint16_t peer = 0; bool begins = false; };
struct LinkIs { uint16_t peer = 0; bool up = false; std::string why{}; };
struct Expelled {};                        // the others went on without this node
struct HandoffEnded {                      // at its donor
  ConnId id;
  Flow flow;
  uint64_t epoch = 0;                      // of its owner now
  uint16_t from = 0, to = 0;
  Origin origin{};
  HandoffResult result = HandoffResult::moved;
  uint32_t view = 0;                       // its number
  std::array<uint32_t, kPhases> phases{};
  uint32_t gap = kNever;
  std::string why{};                       // it stayed, or is lost
};
struct Arrival { ConnId id; Flow flow; uint64_t epoch = 0; uint16_t from = 0; uint32_t view = 0; };   // at the acceptor
// Of a node that is dead; `owner` is this node, or the one that has turned out to have it.
struct Recovered { ConnId id; Flow flow; uint64_t epoch = 0; uint16_t from = 0, owner = 0; bool here = true; uint32_t view = 0, ms = 0; };
struct RecoveryEnded {
  core::Owner life;
  uint16_t heir = 0;
  uint64_t recovered = 0, elsewhere = 0;
  std::array<uint64_t, core::kLostReasons> lost{};
  uint32_t ms = 0;
};
struct ConnectionLost { ConnId id; Flow flow; LostIn reason = LostIn::handoff; std::string why{}; };
enum class DrainStep : uint8_t { start, stop, done };
struct DrainIs { uint16_t node = 0; DrainStep step = DrainStep::start; uint32_t moved = 0, ms = 0; };
enum class ApplicationStep : uint8_t { joined, leaving, left };
struct ApplicationIs { ApplicationStep step = ApplicationStep::joined; std::string program; uint32_t pid = 0, uid = 0; };

using Happening = std::variant<ViewIs, ContactIs, LeaseIs, SuspicionIs, LinkIs, Expelled, HandoffEnded, Arrival, Recovered, RecoveryEnded, ConnectionLost,
                               DrainIs, ApplicationIs>;

struct Event {
  uint64_t seq = 0;
  WallTime when{};
  uint16_t group = 0;
  Happening what;
};

class Events {
 public:
  static constexpr size_t kKept = 16384;
  static constexpr size_t kMaxText = 256;

  explicit Events(size_t groups, size_t keep = kKept) : keep_(keep), tallies_(groups) {}

  void add(uint16_t group, WallTime when, Happening what);   // longer texts are cut
  uint64_t last() const { return last_; }                    // 0: nothing has happened yet
  uint64_t oldest() const { return last_ - events_.size() + 1; }
  uint64_t dropped() const { return oldest() - 1; }          // made room for newer ones
  const Event* find(uint64_t seq) const;                     // null: not here (any more)
  const Tally& tally(uint16_t group) const { return tallies_.at(group); }
  // Called once, from within the next add().
  void tell_next(std::function<void()> told) { told_ = std::move(told); }

 private:
  const size_t keep_;
  std::vector<Event> events_;   // number seq is at (seq - 1) % keep_
  uint64_t last_ = 0;
  std::vector<Tally> tallies_;
  std::function<void()> told_;
};

}  // namespace gecko::node
