// Links between nodes: mutually authenticated TLS 1.3 over TCP, framed (wire/frame.hh). Promise 8, S1.
//
// The certificate of the other side must be signed by the group's CA, carry "gecko://GROUP/node/NODE" for the group and (when
// dialling) the node that was meant, be within its dates and not be revoked. The group is chosen by SNI, so several groups share one listener.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/address.hh"
#include "net/loop.hh"
#include "wire/frame.hh"

struct ssl_ctx_st;
struct ssl_st;

namespace gecko::net {

// Certificates of one group on this node; reload() reads the files again (rotation, revocation) for links made afterwards.
class TlsContext {
 public:
  static Result<std::shared_ptr<TlsContext>> load(const std::string& group, const std::string& node, const std::string& key_dir);
  Status reload();
  bool is_revoked(const std::string& serial_hex) const;
  const std::string& group() const { return group_; }
  const std::string& node() const { return node_; }
  ssl_ctx_st* raw() const;
  ~TlsContext();

 private:
  TlsContext() = default;
  struct Impl;
  std::string group_, node_, key_dir_;
  std::unique_ptr<Impl> impl_;
};

class TlsLink {
 public:
  struct Events {
    std::function<void()> up;                                   // handshake done: peer_node() and peer_serial() are known
    std::function<void(const wire::FrameView&)> frame;
    std::function<void(const Error&)> down;                     // once; the link may be destroyed inside the call
  };
  // Dials. `expected_node` is who must answer. TCP: NODELAY, user timeout 3 s, bound to `from`.
  static std::unique_ptr<TlsLink> dial(Loop& loop, std::shared_ptr<TlsContext> context, const Address& from, const Endpoint& to,
                                       const std::string& expected_node, Events events);
  ~TlsLink();

  template <wire::Message M>
  void send(uint16_t type, const M& message) {
    wire::put_frame(out_, type, message);
    schedule_flush();
  }
  void flush();                              // now
  bool is_up() const { return up_; }
  const std::string& peer_node() const { return peer_node_; }
  const std::string& peer_serial() const { return peer_serial_; }
  size_t queued_bytes() const { return out_.size() - out_sent_; }
  void set_events(Events events) { events_ = std::move(events); }

 private:
  friend class TlsListener;
  TlsLink(Loop& loop, Fd socket, std::shared_ptr<TlsContext> context, std::string expected_node, Events events);
  void start(bool accept, ssl_ctx_st* server_context);
  void ready(uint32_t events);
  void schedule_flush();
  void die(Error error);
  Status check_peer();
  Loop& loop_;
  Fd socket_;
  std::shared_ptr<TlsContext> context_;
  ssl_st* ssl_ = nullptr;
  std::string expected_node_, peer_node_, peer_serial_;
  Events events_;
  wire::FrameParser parser_;
  wire::Bytes out_;
  size_t out_sent_ = 0;
  bool connecting_ = false, up_ = false, dead_ = false, flush_pending_ = false, want_write_ = false, is_server_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  Loop::TimerId handshake_timer_ = 0;
};

// Accepts links for several groups on one address and port. Handshakes are bounded (64 at once, 3 s each).
class TlsListener {
 public:
  using Accepted = std::function<void(const std::string& group, std::unique_ptr<TlsLink>)>;  // called when the handshake is done
  static Result<std::unique_ptr<TlsListener>> listen(Loop& loop, const Endpoint& on, Accepted accepted);
  void add_group(std::shared_ptr<TlsContext> context);
  ~TlsListener();
  uint64_t refused() const { return refused_; }
  const std::string& last_refusal() const { return last_refusal_; }

 private:
  TlsListener(Loop& loop, Fd socket, Accepted accepted);
  struct Pending;
  void ready();
  Loop& loop_;
  Fd socket_;
  Accepted accepted_;
  std::map<std::string, std::shared_ptr<TlsContext>> contexts_;
  std::map<TlsLink*, std::unique_ptr<TlsLink>> handshaking_;
  uint64_t refused_ = 0;
  std::string last_refusal_;
};

}  // namespace gecko::net
