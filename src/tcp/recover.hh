// Bringing a connection back to life whose machine has died, without a captured state (papers: D3.2.2 section 2.2, connection recovery).
//
// What is left of it is a mirror (wire/tcp_mirror.hh), and the peer, who knows the rest: asked with one byte that it has acknowledged long ago, it
// says at once what it has received, what it has sent and how much room it has (RFC 9293 section 3.10.7.4: an unacceptable segment is answered).
//     build_probe -> Injector::to_peer -> read_packet -> recover -> restore, activate (tcp/connection.hh)
// Whoever recovers sees to it that the dead node sends nothing any more (its lease has run out), that the flow's packets come to this machine, and
// that they are held until activate has returned: this kernel would reset them.
//
// Pure functions; errors name the connection.
#pragma once

#include "tcp/packet.hh"
#include "wire/tcp_mirror.hh"
#include "wire/tcp_state.hh"

namespace gecko::tcp {

// How far each direction may have come after the mirror was written: two heartbeats of 10 ms at 10 Gbit/s, and some.
inline constexpr uint32_t kMostMovedSince = 32u << 20;

// A whole IP packet. Always answered, however often (answers to empty probes are rate limited: tcp_invalid_ratelimit of the kernel).
wire::Bytes build_probe(const wire::TcpMirror& mirror);

struct Recovered {
  wire::TcpState state;     // for restore and activate; its queues are empty
  // Bytes of the stream, from the connection's birth.
  uint64_t sent = 0;        // have reached the peer: the application goes on with the next one
  uint64_t received = 0;    // have been given to the dead application, or were lost with it
  // Sent by the peer beyond `received`, as far as it has told. It sends them again, unless the dead machine had acknowledged them after the mirror was
  // written: then they are lost, and the connection with them. The peer's next segment that begins beyond `received` tells.
  uint32_t outstanding = 0;
};

// From any segment that the peer has sent after the death, best the answer to the probe. Errors: invalid (another connection's segment, no
// acknowledgement, positions that this mirror's connection cannot have), closed (the peer has reset it).
// A connection whose own side had been shut down needs no mirror: what it still had to send is lost with its machine.
Result<Recovered> recover(const wire::TcpMirror& mirror, const Segment& answer);

}  // namespace gecko::tcp
