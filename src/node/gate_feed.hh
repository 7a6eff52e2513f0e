// The gate as the unprivileged half has it: its table, and what it reports. New connections and moved ones are looked at together, at most once per
// interval; while nothing moves, nothing runs.
//
// One per daemon, none where no group asks for recovery. Who the news is about is the groups' matter (node/shield.hh).
#pragma once

#include <functional>

#include "bpf/birth_reader.hh"
#include "bpf/gate.hh"
#include "bpf/lease_table.hh"
#include "bpf/moved_reader.hh"
#include "net/loop.hh"

namespace gecko::node {

class GateFeed {
 public:
  struct Descriptors {
    Fd table, setter, births, moved, rounds, leases, counters;
    explicit operator bool() const { return bool(table); }
  };
  struct Events {
    std::function<void(const bpf::Birth&)> born;   // also for a repeated SYN-ACK
    std::function<void(const Flow&)> moved;
    std::function<void()> looked;                  // at all of a round
  };
  static Result<std::unique_ptr<GateFeed>> open(net::Loop& loop, Descriptors descriptors, Duration interval, Events events);
  ~GateFeed();

  bpf::GateTable& table() { return table_; }
  uint16_t term(uint16_t row) const { return leases_.term(row); }   // 0: there never was a lease
  void close(uint16_t row) { leases_.close(row); }                  // until its keeper, or the next one, renews the lease
  Result<bpf::GateCounters> counters() const { return bpf::read_gate_counters(descriptors_.counters.get()); }
  // Births that wait to be read: before anything is decided about a connection that nobody has heard of.
  void catch_up();
  // Something has changed that the gate does not report: looked() follows within the interval.
  void look_soon();
  void look();                                                      // at all that has moved, now

 private:
  GateFeed(net::Loop& loop, Descriptors descriptors, Duration interval, Events events, bpf::LeaseTable leases, bpf::BirthReader births,
           bpf::MovedReader moved);

  net::Loop& loop_;
  Descriptors descriptors_;
  const Duration interval_;
  Events events_;
  bpf::GateTable table_;
  bpf::LeaseTable leases_;
  bpf::BirthReader births_;
  bpf::MovedReader moved_;
  bool due_ = false;
  Time looked_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gecko::node
