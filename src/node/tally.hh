// What one group's events add up to since this process began, for `gecko metrics`: counted where events are added (events.cc), so that the stream and the
// numbers are never at odds.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <string_view>

#include "core/recovery.hh"

namespace gecko::node {

// Why a connection was to move. `operator_word` is also an application's wish for all connections of a client, and whatever another node asks for its
// operator; former_life: a geckod before this one had begun it.
enum class Cause : uint8_t { application, operator_word, policy, drain, balance, former_life };
std::string_view to_string(Cause cause);
struct Origin {
  Cause cause = Cause::application;
  uint16_t decided_by = wire::kNoNode;   // at which node
};

enum class HandoffResult : uint8_t { moved, stayed, lost };
std::string_view to_string(HandoffResult result);

// How a connection came to its end by our doing: the reasons of core::LostBy, and before them those of handoffs.
enum class LostIn : uint8_t { handoff, no_application, first_of_recovery };
inline constexpr size_t kLostIn = static_cast<size_t>(LostIn::first_of_recovery) + core::kLostReasons;
inline LostIn lost_in(core::LostBy by) { return static_cast<LostIn>(static_cast<size_t>(LostIn::first_of_recovery) + static_cast<size_t>(by)); }
std::string_view to_string(LostIn reason);

struct Histogram {
  // Seconds. Around the goal for a handoff (a millisecond), up to a client's patience.
  static constexpr std::array kBounds{0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0};
  void add(double seconds);
  std::array<uint64_t, kBounds.size() + 1> counts{};   // of each bound alone; the last: above all of them
  double sum = 0;
};

struct Tally {
  struct Handoff {
    uint16_t from = 0, to = 0;
    Cause cause{};
    HandoffResult result{};
    auto operator<=>(const Handoff&) const = default;
  };
  std::map<Handoff, uint64_t> handoffs;   // of this node as donor
  Histogram gaps;
  uint64_t recovered = 0, elsewhere = 0;
  Histogram recoveries;                   // of the recovered ones: since this node knew that it is their heir
  std::array<uint64_t, kLostIn> lost{};
  uint64_t view_changes = 0, lease_expiries = 0;
};

}  // namespace gecko::node
