// A framed message channel over a UNIX stream socket, with descriptors (SCM_RIGHTS): application <-> geckod and
// geckod <-> its privileged half. docs/protocol/framing.md
//
// Writes are collected and flushed once per loop batch (many small messages, one system call; their descriptors share a
// sendmsg too). A peer that does not read makes the queue grow up to `max_queued_bytes`; then the channel is closed with an
// error (promise 10). A peer that closes after its last message: all messages come first, then on_close.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/loop.hh"
#include "wire/frame.hh"

namespace gecko::net {

inline constexpr size_t kMaxFrameDescriptors = 253;  // SCM_MAX_FD of the kernel: what one sendmsg can carry

class Channel {
 public:
  // `fds` hold the frame's descriptors (exactly as many as the frame announces), owned by the handler; what it leaves there is closed.
  using FrameHandler = std::function<void(const wire::FrameView&, std::vector<Fd>& fds)>;
  // Called once, when the peer has gone (Errc::closed) or sent nonsense (invalid) or does not read (limit); never from inside
  // send() or flush(), always from the loop. The channel is dead then.
  using CloseHandler = std::function<void(const Error&)>;
  // The channel may be destroyed inside both handlers (a frame's body lives until the handler returns).

  Channel(Loop& loop, Fd socket, FrameHandler on_frame, CloseHandler on_close, size_t max_queued_bytes = 96u << 20);
  ~Channel();  // what is queued is offered to the kernel once more, then the socket closes; on_close is not called
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Queues a message; it leaves at the end of the loop's batch. Descriptors (at most kMaxFrameDescriptors) are taken over and
  // closed once sent. On a dead channel: both vanish.
  template <wire::Message M>
  void send(uint16_t type, const M& message, std::vector<Fd> fds = {}) {
    GECKO_ASSERT(fds.size() <= kMaxFrameDescriptors);
    if (dead_) return;
    const size_t at = out_.size();
    wire::put_frame(out_, type, message, static_cast<uint8_t>(fds.size()));
    queued(at, std::move(fds));
  }
  void flush();               // now
  // From now on what a callback has written leaves when it returns, before channels and links write what that callback gave them: what
  // others are told may rest on it.
  void leave_first() { first_ = true; }
  // Input that is not a whole frame yet may have so many bytes; more ends the channel (limit). Without: one frame's limit.
  void limit_input(size_t bytes) { max_partial_ = bytes; }
  int fd() const { return socket_.get(); }  // -1 once dead
  bool dead() const { return dead_; }
  size_t queued_bytes() const { return out_.size() - out_sent_; }

 private:
  // What a frame handler that destroys the channel must not pull away under its own feet.
  struct Inbound {
    FrameHandler on_frame;
    CloseHandler on_close;
    wire::FrameParser parser;
    std::deque<Fd> fds;                 // arrived, not yet handed out
    uint64_t bytes = 0;                 // of the stream, so far
    uint64_t fds_arrived = 0, fds_taken = 0;
    struct Mark { uint64_t fds_arrived, bytes; };
    std::deque<Mark> marks;             // descriptors up to number `fds_arrived` came with the bytes up to `bytes`
    bool alive = true;                  // the channel exists and is not dead
  };
  enum class Received { nothing, something, last, failed };  // last: and the socket is drained
  void queued(size_t at, std::vector<Fd> fds);
  void ready(uint32_t events);
  void read_some();
  Received receive();
  bool deliver(const std::shared_ptr<Inbound>& in);
  Status account_descriptors() const;
  bool send_some();
  void die(Error error);

  Loop& loop_;
  Fd socket_;
  size_t max_queued_bytes_;
  size_t max_partial_ = SIZE_MAX;
  std::shared_ptr<Inbound> in_;
  wire::Bytes out_;
  size_t out_sent_ = 0;
  uint64_t out_base_ = 0;     // stream position of out_[0]
  struct OutFds { uint64_t at; std::vector<Fd> fds; };  // travel with the frame that starts at stream position `at`
  std::deque<OutFds> out_fds_;
  bool flush_pending_ = false, want_write_ = false, peer_gone_ = false, dead_ = false, first_ = false;
};

struct PeerCred { uint32_t pid = 0, uid = 0, gid = 0; };
Result<PeerCred> peer_credentials(int fd);        // SO_PEERCRED
// Replaces a dead socket; exists if a live one answers or something else is there; no symlinks followed. The socket's mode is
// `mode` whatever the umask. Non-blocking, close-on-exec; accept4() with SOCK_NONBLOCK | SOCK_CLOEXEC.
Result<Fd> unix_listen(const std::string& path, unsigned mode);
Result<Fd> unix_connect(const std::string& path);  // waits at most 2 s for a listener whose backlog is full

}  // namespace gecko::net
