// A heartbeat and its answer: what lease keepers say to each other over UDP (docs/protocol/membership.md). These are the fields;
// wire/heartbeat_seal.hh makes the authenticated datagram of them.
#pragma once

#include "wire/codec.hh"

namespace gecko::wire {

// Who is contact within a view, as far as its sender knows. The highest (term, node) wins.
struct ContactClaim {
  uint64_t term = 0;               // 0: the view's own contact
  uint16_t node = 0;
  auto operator<=>(const ContactClaim&) const = default;
  GECKO_FIELDS(term, node)
};

struct Heartbeat {
  uint16_t from = 0, to = 0;
  uint64_t incarnation = 0;        // the sender's
  uint64_t counter = 0;            // grows with everything the sender sends to this peer in this incarnation
  bool answer = false;             // else it asks for an answer
  bool grant = false;              // answer: "I agree to no removal of you for lease + margin"
  uint64_t echo = 0;               // answer: counter and incarnation of what is answered
  uint64_t echo_incarnation = 0;
  uint64_t epoch = 0;              // the sender's view
  uint64_t suspects = 0;           // bit n: it suspects node n
  ContactClaim claim;
  bool operator==(const Heartbeat&) const = default;
  GECKO_FIELDS(from, to, incarnation, counter, answer, grant, echo, echo_incarnation, epoch, suspects, claim)
};

}  // namespace gecko::wire
