// Until when this node may speak for its protected connections: the rows that the gate reads for every packet (docs/adr/0018).
//
// Written by the lease keeper alone while it runs: a row is one word of memory shared with the kernel, renewing it is one store, without
// a system call or a right (so it can be made with seccomp's shortest list and all memory locked).
//
// A deadline counts from when the question was *sent* that a majority answered, never from when an answer is read: an owner that was
// stopped in between then writes a moment that has passed, which lets nothing out.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>

#include "base/fd.hh"
#include "base/result.hh"

namespace gecko::bpf {

// CLOCK_BOOTTIME, the gate's clock: it goes on while the machine sleeps, when the others' clocks do.
struct BootClock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootClock>;
  static constexpr bool is_steady = true;
  static time_point now() noexcept {
    timespec ts{};
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return time_point(std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec));
  }
};
using BootTime = BootClock::time_point;

class LeaseTable {
 public:
  // Of Gate::dup_lease_map. The mapping outlives the descriptor, which may be closed.
  static Result<LeaseTable> map(const Fd& lease_map);

  // A lease of a new term: connections that were protected under another one stay silent until they are confirmed (GateTable::set_term).
  void open(uint16_t row, uint16_t term, BootTime deadline);
  // Moves the deadline of this term forward, also after it has passed; a deadline before the present one changes nothing.
  // false: the row is of another term, this writer has been superseded.
  bool renew(uint16_t row, uint16_t term, BootTime deadline);
  void close(uint16_t row);  // nothing leaves until it is renewed
  uint16_t term(uint16_t row) const;
  BootTime deadline(uint16_t row) const;  // in steps of 1024 ns, rounded down

  LeaseTable(LeaseTable&& other) noexcept;
  LeaseTable& operator=(LeaseTable&& other) noexcept;
  ~LeaseTable();

 private:
  LeaseTable(uint64_t* words, size_t bytes) : words_(words), bytes_(bytes) {}
  uint64_t* words_;
  size_t bytes_;
};

}  // namespace gecko::bpf
