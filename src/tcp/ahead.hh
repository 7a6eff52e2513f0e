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

}  // namespace gecko::tcp
