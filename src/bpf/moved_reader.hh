// Which protected connections have moved: the gate reports each at most once per round (docs/adr/0018). One reader at a time. Needs no right.
//
//   readable -> wait as long as the mirrors may be old -> collect() -> look at each (GateTable::get)
// An idle connection costs nothing, a busy one a report and a look per round.
#pragma once

#include <functional>
#include <memory>

#include "base/address.hh"
#include "base/fd.hh"
#include "base/result.hh"

namespace gecko::bpf {

class MovedReader {
 public:
  // Of Gate::dup_moved_ring, Gate::dup_round_map.
  static Result<MovedReader> open(const Fd& ring, Fd round_map);
  int fd() const;   // readable when a connection has moved in this round
  // Begins the next round, then names those of the last: what moves from now on is reported again. A connection may be named twice.
  Status collect(const std::function<void(const Flow&)>& moved);

  MovedReader(MovedReader&&) noexcept;
  MovedReader& operator=(MovedReader&&) noexcept;
  ~MovedReader();

 private:
  MovedReader();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gecko::bpf
