// One direction of a link: packets that arrive, each with its fate (fate.hh), and when they come out. The wire's data structure; it neither
// reads a clock nor touches a device, so that tests drive it.
//
// Packets keep their order, whatever the jitter, but for those that are to be overtaken.
#pragma once

#include <map>
#include <optional>

#include "base/clock.hh"
#include "lab/fate.hh"
#include "wire/codec.hh"

namespace gecko::lab {

// What is under way in one direction: 10 s at 1,000 packets/s, 20 ms at 500,000; about 15 MB. What comes when it is full is dropped (overflowed).
inline constexpr size_t kMaxUnderWay = 10'000;

// Since the link was set the last time.
struct LinkCounters {
  uint64_t packets = 0;  // that arrived, whatever became of them
  uint64_t lost = 0, duplicated = 0, reordered = 0, corrupted = 0;
  uint64_t overflowed = 0;   // no room under way
  uint64_t undelivered = 0;  // the port at the other end did not take it: cut, its queue full, longer than its MTU
  uint64_t under_way = 0;    // now
  GECKO_FIELDS(packets, lost, duplicated, reordered, corrupted, overflowed, undelivered, under_way)
};

class Line {
 public:
  // Counts from 0 again. What is under way keeps its time, and is not overtaken because of this.
  void set(const LinkFaults& faults, uint64_t stream);
  const LinkFaults& faults() const { return faults_; }

  void arrive(Time now, wire::ByteView packet);      // a whole Ethernet frame
  std::optional<Time> due() const;                   // of the next packet to come out; nothing: none is under way
  std::optional<wire::Bytes> take(Time now);         // the next that is due
  void not_delivered() { ++counters_.undelivered; }  // said by whoever took it
  LinkCounters counters() const;

 private:
  LinkFaults faults_;
  uint64_t stream_ = 0;
  LinkCounters counters_;
  std::multimap<Time, wire::Bytes> under_way_;  // equal times: in the order of arrival
  Time turn_{};                                 // when the last one comes out of those that keep their order
};

}  // namespace gecko::lab
