// What `gecko lab link` and the lab's wire (wire.hh) say to each other, framed, over wire.sock in the lab's directory (root only): one question,
// one answer. Both are the same program; there are no versions.
#pragma once

#include <string>
#include <vector>

#include "lab/line.hh"
#include "lab/link_faults.hh"

namespace gecko::lab {

inline constexpr size_t kMaxDirections = 128;  // with a link; each has a device and up to kMaxUnderWay packets
inline constexpr size_t kMaxHostName = 8;      // "client", "n64"

struct Direction {
  std::string from, to;
  auto operator<=>(const Direction&) const = default;
  GECKO_FIELDS(wire::limited<kMaxHostName>(from), wire::limited<kMaxHostName>(to))
};

struct LinkReport {
  Direction direction;
  LinkFaults faults;
  LinkCounters counters;
  GECKO_FIELDS(direction, faults, counters)
};

enum class WireType : uint16_t { question = 1, answer = 2 };

// First `clear`, then `set`; neither: only look.
struct WireQuestion {
  std::vector<Direction> clear, set;
  LinkFaults faults;
  GECKO_FIELDS(wire::limited<kMaxDirections>(clear), wire::limited<kMaxDirections>(set), faults)
};
struct WireAnswer {
  std::string error;              // empty: done
  std::vector<LinkReport> links;  // all there are now
  GECKO_FIELDS(wire::limited<1024>(error), wire::limited<kMaxDirections>(links))
};

}  // namespace gecko::lab
