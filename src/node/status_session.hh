// One program at a witness's socket: it may ask how the witness is (`gecko status`), and nothing else. The same greeting and messages as geckod's own
// socket (wire/api.hh), so the same command asks.
#pragma once

#include "net/channel.hh"
#include "wire/api.hh"

namespace gecko::node {

class Witness;

class StatusSession {
 public:
  StatusSession(Witness& witness, net::Loop& loop, Fd socket, net::PeerCred who);
  ~StatusSession();
  const net::PeerCred& who() const { return who_; }

 private:
  void frame(const wire::FrameView& frame);
  Status handle(const wire::FrameView& frame, uint64_t& request);
  template <wire::Message M>
  void send(wire::ApiType type, const M& message) {
    channel_.send(static_cast<uint16_t>(type), message);
  }
  Witness& witness_;
  net::Loop& loop_;
  const net::PeerCred who_;
  bool greeted_ = false;
  net::Loop::TimerId hello_due_ = 0;
  net::Channel channel_;
};

}  // namespace gecko::node
