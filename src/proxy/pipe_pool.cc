#include "proxy/pipe_pool.hh"

#include <fcntl.h>

namespace gecko::proxy {
namespace {

// Large enough that one splice takes what a socket has ready; /proc/sys/fs/pipe-max-size allows it to everybody.
constexpr int kPipeSize = 1 << 20;
// Below this (the kernel's default is 64 KiB, one page when the user's share is used up) copying is as good.
constexpr int kLeastSize = 64 << 10;
constexpr size_t kMostIdle = 16;

}  // namespace

Pipe PipePool::take() {
  if (!idle_.empty()) {
    Pipe pipe = std::move(idle_.back());
    idle_.pop_back();
    return pipe;
  }
  int ends[2] = {-1, -1};
  Pipe pipe;
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return pipe;
  pipe.out.reset(ends[0]);
  pipe.in.reset(ends[1]);
  int size = ::fcntl(ends[1], F_SETPIPE_SZ, kPipeSize);
  if (size < 0) size = ::fcntl(ends[1], F_GETPIPE_SZ);
  if (size < kLeastSize) return {};
  pipe.size = static_cast<size_t>(size);
  return pipe;
}

void PipePool::give_back(Pipe pipe) {
  if (pipe.out.get() >= 0 && pipe.filled == 0 && idle_.size() < kMostIdle) idle_.push_back(std::move(pipe));
}

}  // namespace gecko::proxy
