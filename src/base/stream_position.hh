// Where a TCP connection's two streams stand, as this machine's kernel has counted since it has the connection: from its first byte if it was
// accepted here, from where it stood if it was moved here or recovered (StreamBase says how much came before). For geckod, which tells the next
// owner, and for libgecko, whose checkpoints name offsets: counted by the kernel, so that programs may read and write the descriptor directly.
#pragma once

#include <cstdint>

#include "base/result.hh"

namespace gecko {

struct StreamPosition {
  uint64_t read = 0;       // bytes taken out of the socket
  uint64_t written = 0;    // bytes put into it,
  uint64_t acked = 0;      // ... of which the peer has acknowledged so many
};

// All at one moment. Three system calls, more when packets arrive in between. Errors: closed (not a TCP connection any more), busy (it moves too fast).
Result<StreamPosition> stream_position(int fd);

// Bytes of the connection's life before this kernel's count. An older node or library did not count: then `known` is false.
struct StreamBase {
  uint64_t sent = 0, received = 0;
  bool known = false;
  bool operator==(const StreamBase&) const = default;
};

}  // namespace gecko
