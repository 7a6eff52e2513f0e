// A framed message channel over a UNIX stream socket, with descriptors (SCM_RIGHTS): application <-> geckod and
// geckod <-> its privileged half.
//
// Writes are collected and flushed once per loop batch (many small messages, one system call). A peer that does not read makes the
// queue grow up to `max_queued_bytes`; then the channel is closed with an error (promise 10).
#pragma once

#include <deque>
#include <functional>
#include <string>

#include "net/loop.hh"
#include "wire/frame.hh"

namespace gecko::net {

class Channel {
 public:
  // `fds` hold the frame's descriptors (as many as the frame announces), owned by the handler.
  using FrameHandler = std::function<void(const wire::FrameView&, std::vector<Fd>& fds)>;
  // Called once, when the peer has gone or sent nonsense. The channel is dead then and may be destroyed inside the call.
  using CloseHandler = std::function<void(const Error&)>;

  Channel(Loop& loop, Fd socket, FrameHandler on_frame, CloseHandler on_close, size_t max_queued_bytes = 96u << 20);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Queues a message; it leaves at the end of the loop's batch. Descriptors are taken over and closed once sent.
  template <wire::Message M>
  void send(uint16_t type, const M& message, std::vector<Fd> fds = {}) {
    wire::put_frame(out_, type, message, static_cast<uint8_t>(fds.size()));
    queued(std::move(fds));
  }
  void flush();               // now
  int fd() const { return socket_.get(); }
  size_t queued_bytes() const { return out_.size() - out_sent_; }

 private:
  void queued(std::vector<Fd> fds);
  void ready(uint32_t events);
  void read_some();
  void die(Error error);
  Loop& loop_;
  Fd socket_;
  FrameHandler on_frame_;
  CloseHandler on_close_;
  size_t max_queued_bytes_;
  wire::FrameParser parser_;
  std::deque<Fd> in_fds_;
  wire::Bytes out_;
  size_t out_sent_ = 0;
  struct OutFds { size_t at; std::vector<Fd> fds; };  // descriptors go with the byte at offset `at` of out_
  std::deque<OutFds> out_fds_;
  bool flush_pending_ = false, want_write_ = false, dead_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

struct PeerCred { uint32_t pid = 0, uid = 0, gid = 0; };
Result<PeerCred> peer_credentials(int fd);        // SO_PEERCRED
Result<Fd> unix_listen(const std::string& path, unsigned mode);   // replaces a dead socket; exists if a live one answers; no symlinks followed
Result<Fd> unix_connect(const std::string& path);

}  // namespace gecko::net
