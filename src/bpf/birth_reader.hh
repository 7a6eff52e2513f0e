// New connections of protected ports, as the gate reports them with their SYN-ACK (docs/adr/0018). One reader at a time: two would share
// the births between them. Needs no right.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/address.hh"
#include "base/fd.hh"
#include "bpf/gate.hh"

namespace gecko::bpf {

struct Birth {
  Flow flow;
  uint16_t lease = 0;  // row
  std::vector<uint8_t> syn_ack;  // the IP packet; its TCP checksum may be unfinished

  // As the SYN-ACK has it, not clamped; the client has been told nothing but that. A retransmission of a SYN-ACK is reported like the first.
  Protection protection(uint16_t term) const;
};

class BirthReader {
 public:
  // Of Gate::dup_birth_ring.
  static Result<BirthReader> open(const Fd& ring);
  int fd() const;                                       // readable when there are births
  Status read(const std::function<void(Birth)>& born);  // all there are

  BirthReader(BirthReader&&) noexcept;
  BirthReader& operator=(BirthReader&&) noexcept;
  ~BirthReader();

 private:
  BirthReader();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A birth from the program's record; error: it is not a SYN-ACK.
Result<Birth> to_birth(const gecko_birth& record);

}  // namespace gecko::bpf
