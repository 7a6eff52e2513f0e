// Received bytes that are read before the freeze, while the connection still lives: what is at the acceptor already need not be copied
// while nobody answers the client (docs/adr/0012). Nobody may consume meanwhile; `consumed` tells whether somebody did.
//
// Needs no privilege. Linux 6.9 and later (SO_PEEK_OFF of TCP); older kernels answer `unsupported` and the state is captured whole.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.hh"

namespace gecko::tcp {

// How many received bytes have been read from the socket, counted from an arbitrary start that does not change while this kernel has the
// connection: two equal answers mean that nobody has read in between. Two to a few system calls.
Result<uint64_t> consumed(int fd);

// Copies unread bytes from position `offset` of the receive queue on, without taking them out. 0: there are none (or urgent data is in the
// way). Leaves the socket as it was: a process that dies between two calls leaves no peek offset to its application.
// Errors: unsupported (old kernel, or the application uses SO_PEEK_OFF itself).
Result<size_t> peek_ahead(int fd, uint32_t offset, std::span<uint8_t> to);

// How much a peer can still send before its window is closed, if nobody reads.
struct Arrival {
  uint32_t unread = 0;        // bytes
  uint32_t window = 0;        // bytes, as last told to the peer; UINT32_MAX: this kernel does not say (Linux 6.2 does)
  uint32_t segment = 0;       // bytes of the largest that has come lately
  bool closed() const { return window < 2 * segment; }   // no sender splits its last segment over such a window (RFC 9293 section 3.8.6.2.1)
};
Result<Arrival> arrival(int fd);
// Whether anything lies unread; one cheap system call. True also if that cannot be told.
bool has_unread(int fd);

}  // namespace gecko::tcp
