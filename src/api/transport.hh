// The library's end of geckod's UNIX socket: frames with descriptors, never blocking, no event loop of its own because it lives inside
// somebody else's process. SIGPIPE is never raised. docs/protocol/framing.md
//
// Threads: send() and flush() under the session's mutex; receive() and disconnect by whoever holds the session's reader role, and they
// touch the shared part (the descriptor) under the mutex too.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <vector>

#include "base/fd.hh"
#include "wire/api.hh"
#include "wire/frame.hh"

namespace gecko::api {

// geckod takes what we send at once; if it does not for this many bytes it is stuck, and the connection to it is given up.
inline constexpr size_t kMaxQueued = 64u << 20;
// The largest message for an application is arrive with its blob.
inline constexpr size_t kMaxIncoming = wire::kMaxBlob + (64u << 10);

// Connects without blocking. unavailable: nobody listens there; the text says what to do.
Result<Fd> connect_daemon(const std::string& path);
// $GECKO_SOCKET, else the standard place. Set-user-id programs ignore the environment.
std::string daemon_path();

class Transport {
 public:
  using Handler = std::function<void(const wire::FrameView&, std::vector<Fd>& fds)>;

  Transport() = default;
  void attach(Fd socket);               // forgets everything of the one before
  Fd detach();                          // for the caller to close; nothing is queued any more
  int fd() const { return socket_.get(); }

  // Queues a message and offers the queue to the kernel. `fd` (borrowed until sent or detached; -1: none) travels with it.
  template <wire::Message M>
  Status send(wire::ApiType type, const M& message, int fd = -1) {
    if (!socket_) return make_error(Errc::unavailable, "not connected to geckod");
    if (fd >= 0) out_fds_.push_back({out_.size(), fd});
    wire::put_frame(out_, static_cast<uint16_t>(type), message, fd >= 0 ? 1 : 0);
    if (out_.size() - sent_ > kMaxQueued) return make_error(Errc::limit, "geckod does not read what this process sends");
    if (corked_) return {};
    return flush();
  }
  Status flush();
  void cork() { corked_ = true; }                        // many messages, one system call: until flush()
  bool blocked() const { return !corked_ && sent_ < out_.size(); }   // wants EPOLLOUT
  size_t queued() const { return out_.size() - sent_; }
  bool throttled() const { return throttled_; }          // blocked, and no event will tell when that ends: flush again soon

  bool crowded() const { return crowded_; }              // something is there, but no descriptors are left to take it: receive() again soon

  // Reads what is there and hands out whole frames. False: nothing was there, or crowded(). Error: the connection is unusable (ended, malformed).
  Result<bool> receive(const Handler& handler);

 private:
  struct OutFd { size_t at; int fd; };  // goes with the byte at offset `at` of out_
  Fd socket_;
  wire::Bytes out_;
  size_t sent_ = 0;
  bool corked_ = false, throttled_ = false;
  std::atomic<bool> crowded_{false};  // written by the reader
  std::deque<OutFd> out_fds_;
  wire::FrameParser parser_{kMaxIncoming};
  std::deque<Fd> in_fds_;
};

}  // namespace gecko::api
