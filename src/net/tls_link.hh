// Links between nodes: mutually authenticated TLS 1.3 over TCP, framed (wire/frame.hh). Promise 8, S1. docs/protocol/links.md
//
// The certificate of the other side must be signed by the group's CA, carry "gecko://GROUP/node/NODE" for the group and (when
// dialling) the node that was meant, be within its dates and not be revoked. The group is chosen by SNI, so several groups share one listener.
// A link is up at the dialling side only when the other side has accepted it (its first frame, type 0, says so): a refused
// certificate is never up first and down later.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/address.hh"
#include "net/loop.hh"
#include "net/tls_context.hh"
#include "wire/frame.hh"

struct ssl_st;

namespace gecko::net {

struct PeerCheck;

struct TlsOptions {
  // A SYN that was sent into a cut cable is repeated by the kernel after one second; a new dial is there sooner. Twice the longest way
  // round the Earth.
  Duration connect_timeout = std::chrono::milliseconds(500);
  Duration handshake_timeout = std::chrono::seconds(3);  // from connected or accepted to up
  size_t max_handshakes = 64;                            // of a listener at once; the oldest gives way to a new one
  // Two of the largest frames: while one is being sent another may be queued.
  size_t max_queued_bytes = 2 * wire::kMaxFrameBody;
};

class TlsLink {
 public:
  struct Events {
    std::function<void()> up;                                   // handshake done: peer_node() and peer_serial() are known
    std::function<void(const wire::FrameView&)> frame;          // only after up; frames without descriptors, type never 0
    // Once, always from the loop, never from inside dial(), send() or flush(). The text names the peer and the reason. Codes:
    // unavailable (nobody there), timeout, permission (its certificate), refused (it refuses ours), version, invalid, limit, closed.
    std::function<void(const Error&)> down;
  };
  // The link may be destroyed inside every one of them, and set_events called.

  // Dials. `expected_node` is who must answer. TCP: NODELAY, user timeout 3 s, bound to `from` (unspecified: not bound).
  static std::unique_ptr<TlsLink> dial(Loop& loop, std::shared_ptr<TlsContext> context, const Address& from, const Endpoint& to,
                                       const std::string& expected_node, Events events, const TlsOptions& options = {});
  ~TlsLink();  // says goodbye as far as the socket takes it; down is not called
  TlsLink(const TlsLink&) = delete;
  TlsLink& operator=(const TlsLink&) = delete;

  // Queues a message; it leaves at the end of the loop's batch, once the link is up. On a dead link it vanishes.
  template <wire::Message M>
  void send(uint16_t type, const M& message) {
    if (phase_ == Phase::dead) return;
    wire::put_frame(out_, type, message);
    schedule_flush();
  }
  void flush();                              // now
  bool is_up() const { return phase_ == Phase::up; }
  const std::string& peer_node() const;
  const std::string& peer_serial() const;
  bool has_present_keys() const;             // false: the context was updated since its handshake began
  const Endpoint& peer_address() const { return peer_address_; }
  // 32 bytes that only the two ends of this session know (RFC 5705), for the use that `label` names; while it is up.
  Result<std::array<uint8_t, 32>> export_key(std::string_view label) const;
  size_t queued_bytes() const { return out_.size() - out_sent_ + transport_.out.size() - sent_; }
  void set_events(Events events);

 private:
  friend class TlsListener;
  friend struct TransportBio;
  enum class Phase { connecting, handshaking, welcoming, up, dead };
  struct Inbound;
  TlsLink(Loop& loop, Fd socket, const Endpoint& peer, Events events, const TlsOptions& options);
  void start(Phase phase, ssl_ctx_st* context, bool accept);
  void ready(uint32_t events);
  void connected();
  void limit_time(Duration at_most);
  void advance();
  bool handshake();
  void become_up();
  void read_some();
  bool deliver(const std::shared_ptr<Inbound>& in);
  void schedule_flush();
  bool encrypt_some();
  bool send_records();
  void update_watch();
  void fail_tls(int rc);
  void die(Error error);
  std::string whom() const;

  Loop& loop_;
  Fd socket_;
  Endpoint peer_address_;
  TlsOptions options_;
  std::unique_ptr<PeerCheck> check_;
  ssl_st* ssl_ = nullptr;
  std::shared_ptr<Inbound> in_;
  wire::Bytes out_;           // frames, plain
  size_t out_sent_ = 0;
  // What OpenSSL reads from and writes to in place of the socket.
  struct Transport {
    int fd = -1;
    wire::Bytes out;          // TLS records on their way to the socket
    bool drained = false;     // the last read of this wake-up took all there was: no system call to hear "nothing"
    bool ended = false;       // the peer has closed its side
  };
  Transport transport_;
  size_t sent_ = 0;           // of transport_.out
  Phase phase_ = Phase::handshaking;
  uint32_t watched_ = 0;
  bool is_server_ = false, flush_pending_ = false, blocked_ = false;
  Loop::TimerId handshake_timer_ = 0;
};

// Accepts links for several groups on one address and port. Handshakes are bounded in number and time (TlsOptions).
class TlsListener {
 public:
  // Called when the handshake is done: the link is up; set its events inside the call, frames may follow at once.
  using Accepted = std::function<void(const std::string& group, std::unique_ptr<TlsLink>)>;
  static Result<std::unique_ptr<TlsListener>> listen(Loop& loop, const Endpoint& on, Accepted accepted, const TlsOptions& options = {});
  void add_group(std::shared_ptr<TlsContext> context);   // or replaces it
  void remove_group(const std::string& group);           // links that stand are not touched
  ~TlsListener();
  Endpoint local() const;                                // with the port the kernel chose
  uint64_t refused() const { return refused_; }
  const std::string& last_refusal() const { return last_refusal_; }
  // Called for every refusal, with the text of last_refusal(), for the log.
  void set_refused(std::function<void(const Error&)> refused) { on_refused_ = std::move(refused); }
  size_t handshaking() const { return pending_.size(); }

 private:
  TlsListener(Loop& loop, Fd socket, Accepted accepted, const TlsOptions& options);
  static int choose_group(ssl_st* ssl, int* alert, void* self);
  void ready();
  void begin(Fd socket, const Endpoint& peer);
  void finished(uint64_t number);
  void refuse(Error error);
  Loop& loop_;
  Fd socket_;
  Accepted accepted_;
  TlsOptions options_;
  ssl_ctx_st* base_ = nullptr;                           // no certificate; the group's is put in when the client has named it
  std::map<std::string, std::shared_ptr<TlsContext>> contexts_;
  std::map<uint64_t, std::unique_ptr<TlsLink>> pending_; // by arrival
  uint64_t next_ = 1;
  uint64_t refused_ = 0;
  std::string last_refusal_;
  std::function<void(const Error&)> on_refused_;
  Loop::TimerId pause_timer_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gecko::net
