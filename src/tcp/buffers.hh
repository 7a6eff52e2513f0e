// Socket buffer sizes of a moved connection. A buffer the user sized is sized and locked again. One the kernel sized stays
// under its control: it gets the size it had only where bytes or a promised window need it, and is unlocked again. (Sized by
// the queue's length and left locked, it grew at every hop.)
//
// Sizes are the kernel's own, bookkeeping included, as getsockopt tells them.
#pragma once

#include "wire/tcp_state.hh"

namespace gecko::tcp {

// Before connect. False: errno says why.
bool set_buffers(int fd, const wire::TcpState& state);

// While bytes are put into a queue: the kernel lets a writer go over the limit by one segment, and the same bytes cut into
// other segments need not fit again. Grown by `bytes` and then some, low water mark lifted; put_back returns to the
// state's own sizes and locks, which does not disturb what is queued.
void grow_send_buffer(int fd, const wire::TcpState& state, size_t bytes);
void grow_receive_buffer(int fd, const wire::TcpState& state, size_t bytes);
void put_back_buffers(int fd, const wire::TcpState& state);

}  // namespace gecko::tcp
