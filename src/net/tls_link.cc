#include "net/tls_link.hh"

#include <netinet/in.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "net/certificate.hh"
#include "net/tls_peer.hh"

namespace gecko::net {
namespace {

// The acceptor's first frame: "your certificate is good, the link is up". Empty body.
constexpr uint16_t kWelcome = 0;
// Encrypted at a time: a few system calls per megabyte without holding a large frame twice.
constexpr size_t kCipherChunk = 256 * 1024;
constexpr size_t kReadRoom = 64 * 1024;
// Read per wake-up before others get their turn.
constexpr size_t kReadBatch = 4u << 20;
constexpr size_t kKeepBuffer = 1u << 20;

}  // namespace

// What a handler that destroys the link must not pull away under its own feet.
struct TlsLink::Inbound {
  std::shared_ptr<Events> events;
  wire::FrameParser parser;
  bool alive = true;  // the link exists and is not dead
};

// The BIO under a link: reads come from the socket, records written are collected and sent by us, so that a batch of small
// messages is one system call.
struct TransportBio {
  static TlsLink::Transport& of(BIO* bio) { return *static_cast<TlsLink::Transport*>(BIO_get_data(bio)); }

  static int read(BIO* bio, char* data, int size) {
    auto& transport = of(bio);
    BIO_clear_retry_flags(bio);
    ssize_t got = -1;
    errno = EAGAIN;
    if (!transport.drained) {
      do got = recv(transport.fd, data, static_cast<size_t>(size), MSG_DONTWAIT);
      while (got < 0 && errno == EINTR);
    }
    if (got < 0 && errno == EAGAIN) BIO_set_retry_read(bio);
    transport.drained = got != 0 && got < size;
    transport.ended = got == 0;
    return static_cast<int>(got);
  }
  static int write(BIO* bio, const char* data, int size) {
    BIO_clear_retry_flags(bio);
    const auto* bytes = reinterpret_cast<const uint8_t*>(data);
    of(bio).out.insert(of(bio).out.end(), bytes, bytes + size);
    return size;
  }
  static long control(BIO* bio, int command, long, void*) {
    if (command == BIO_CTRL_EOF) return of(bio).ended ? 1 : 0;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
  }
  static BIO* make(TlsLink::Transport* transport) {
    static BIO_METHOD* const method = [] {
      BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "gecko link");
      if (made != nullptr) {
        BIO_meth_set_read(made, read);
        BIO_meth_set_write(made, write);
        BIO_meth_set_ctrl(made, control);
      }
      return made;
    }();
    BIO* bio = method == nullptr ? nullptr : BIO_new(method);
    if (bio != nullptr) {
      BIO_set_data(bio, transport);
      BIO_set_init(bio, 1);
    }
    return bio;
  }
};

TlsLink::TlsLink(Loop& loop, Fd socket, const Endpoint& peer, Events events, const TlsOptions& options)
    : loop_(loop), socket_(std::move(socket)), peer_address_(peer), options_(options), check_(std::make_unique<PeerCheck>()), in_(std::make_shared<Inbound>()) {
  in_->events = std::make_shared<Events>(std::move(events));
}

TlsLink::~TlsLink() {
  if (phase_ == Phase::up) {
    if (encrypt_some()) SSL_shutdown(ssl_);
    (void)send_records();
  }
  if (phase_ != Phase::dead) {
    loop_.unwatch(socket_.get());
    loop_.cancel(handshake_timer_);
  }
  in_->alive = false;
  in_->events = std::make_shared<Events>();
  SSL_free(ssl_);
}

const std::string& TlsLink::peer_node() const { return check_->peer.node; }
const std::string& TlsLink::peer_serial() const { return check_->serial; }
// The context that a link was made with lives as long as the link: no later one has its address.
bool TlsLink::has_present_keys() const { return SSL_get_SSL_CTX(ssl_) == check_->context->raw(); }
void TlsLink::set_events(Events events) { in_->events = std::make_shared<Events>(std::move(events)); }

Result<std::array<uint8_t, 32>> TlsLink::export_key(std::string_view label) const {
  std::array<uint8_t, 32> key{};
  if (phase_ != Phase::up) return make_error(Errc::unavailable, "a link that is not up has no session to take a key from");
  if (SSL_export_keying_material(ssl_, key.data(), key.size(), label.data(), label.size(), nullptr, 0, 0) != 1)
    return make_error(Errc::internal, "taking a key from the session with " + whom() + ": " + openssl_reasons());
  return key;
}

std::string TlsLink::whom() const {
  const std::string& name = is_server_ ? check_->peer.node : check_->expected_node;
  return name.empty() ? peer_address_.str() : name + " at " + peer_address_.str();
}

// --- beginning --------------------------------------------------------------------------------------------------------

std::unique_ptr<TlsLink> TlsLink::dial(Loop& loop, std::shared_ptr<TlsContext> context, const Address& from, const Endpoint& to,
                                       const std::string& expected_node, Events events, const TlsOptions& options) {
  Fd socket(::socket(to.address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  std::unique_ptr<TlsLink> link(new TlsLink(loop, std::move(socket), to, std::move(events), options));
  link->check_->context = context;
  link->check_->expected_node = expected_node;
  const int fd = link->socket_.get();
  const auto fail = [&](Error error) {
    link->die(std::move(error));
    return std::move(link);
  };
  if (fd < 0) return fail(os_error("create a socket"));
  if (auto prepared = prepare_link_socket(fd); !prepared) return fail(prepared.error());
  sockaddr_storage address{};
  if (!from.is_unspecified()) {
    const int on = 1;
    // The port is chosen at connect: several links may leave from one port of this address.
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    const socklen_t size = Endpoint{from, 0}.to_sockaddr(address);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&address), size) != 0)
      return fail(os_error("bind a link to " + from.str() + " (is it an address of this machine?)"));
  }
  const socklen_t size = to.to_sockaddr(address);
  const int rc = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), size);
  if (rc != 0 && errno != EINPROGRESS) {
    Error error = os_error("cannot be reached");
    error.code = Errc::unavailable;
    return fail(std::move(error));
  }
  link->start(Phase::connecting, context->raw(), false);
  return link;
}

void TlsLink::start(Phase phase, SSL_CTX* context, bool accept) {
  phase_ = phase;
  is_server_ = accept;
  ERR_clear_error();
  ssl_ = SSL_new(context);
  transport_.fd = socket_.get();
  BIO* bio = ssl_ == nullptr ? nullptr : TransportBio::make(&transport_);
  if (bio == nullptr) return die(make_error(Errc::internal, "TLS cannot be set up: " + openssl_reasons()));
  SSL_set_bio(ssl_, bio, bio);  // owns it
  set_peer_check(ssl_, check_.get());
  if (accept) {
    SSL_set_accept_state(ssl_);
  } else {
    SSL_set_connect_state(ssl_);
    if (SSL_set_tlsext_host_name(ssl_, check_->context->group().c_str()) != 1)
      return die(make_error(Errc::internal, "TLS cannot be set up: " + openssl_reasons()));
  }
  watched_ = phase == Phase::connecting ? EPOLLOUT : EPOLLIN;
  if (auto watched = loop_.watch(socket_.get(), watched_, [this](uint32_t events) { ready(events); }); !watched) return die(watched.error());
  limit_time(phase == Phase::connecting ? std::min(options_.connect_timeout, options_.handshake_timeout) : options_.handshake_timeout);
}

void TlsLink::limit_time(Duration at_most) {
  loop_.cancel(std::exchange(handshake_timer_, 0));
  handshake_timer_ = loop_.at(monotonic_now() + at_most, [this, at_most, in_copy = in_] {
    if (!in_copy->alive) return;
    handshake_timer_ = 0;
    const std::string limit = std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(at_most).count()) + " ms";
    die(phase_ == Phase::connecting ? make_error(Errc::timeout, "does not answer (tried for " + limit + "); is the machine up, and TCP to this port allowed?")
                                    : make_error(Errc::timeout, "did not finish the handshake within " + limit));
  });
}

// --- events -------------------------------------------------------------------------------------------------------------

void TlsLink::ready(uint32_t events) {
  const auto in = in_;
  if (phase_ == Phase::connecting) connected();
  if (!in->alive || phase_ == Phase::connecting) return;
  if (events & EPOLLOUT) flush();
  if (in->alive) advance();
}

void TlsLink::connected() {
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0) {
    Error problem = os_error("cannot be reached", error);
    if (error == ECONNREFUSED) problem.message += "; is geckod running there?";
    problem.code = Errc::unavailable;
    return die(std::move(problem));
  }
  phase_ = Phase::handshaking;
  limit_time(options_.handshake_timeout);
}

void TlsLink::advance() {
  const auto in = in_;
  transport_.drained = false;
  if (phase_ == Phase::handshaking && !handshake()) return;
  if (in->alive) read_some();
  // Answers of TLS itself (a key update); frames queued by handlers leave at the end of the batch.
  if (in->alive && transport_.out.size() != sent_ && !blocked_) schedule_flush();
}

bool TlsLink::handshake() {
  const auto in = in_;
  ERR_clear_error();
  errno = 0;
  const int rc = SSL_do_handshake(ssl_);
  if (rc != 1 && SSL_get_error(ssl_, rc) != SSL_ERROR_WANT_READ) {
    fail_tls(rc);
    return false;
  }
  if (rc == 1) phase_ = Phase::welcoming;
  if (rc == 1 && is_server_) {
    wire::Bytes welcome;
    wire::put_frame(welcome, kWelcome, 0, {});
    welcome.insert(welcome.end(), out_.begin() + static_cast<ptrdiff_t>(out_sent_), out_.end());
    out_ = std::move(welcome);
    out_sent_ = 0;
    become_up();
    return in->alive;
  }
  if (send_records()) update_watch();
  return in->alive && rc == 1;
}

void TlsLink::become_up() {
  const auto in = in_;
  phase_ = Phase::up;
  loop_.cancel(std::exchange(handshake_timer_, 0));
  flush();
  if (!in->alive) return;
  const auto events = in->events;
  if (events->up) events->up();
}

void TlsLink::read_some() {
  const auto in = in_;
  size_t total = 0;
  for (;;) {
    const auto room = in->parser.room(kReadRoom);
    ERR_clear_error();
    errno = 0;
    const int got = SSL_read(ssl_, room.data(), static_cast<int>(std::min<size_t>(room.size(), 1u << 30)));
    if (got <= 0) {
      if (SSL_get_error(ssl_, got) == SSL_ERROR_WANT_READ) return;
      return fail_tls(got);
    }
    in->parser.filled(static_cast<size_t>(got));
    total += static_cast<size_t>(got);
    if (!deliver(in)) return;
    if (total < kReadBatch) continue;
    // OpenSSL may hold records that epoll knows nothing of.
    loop_.defer([this, in] {
      if (in->alive) advance();
    });
    return;
  }
}

// Hands out complete frames; false: the link is gone.
bool TlsLink::deliver(const std::shared_ptr<Inbound>& in) {
  for (;;) {
    wire::FrameView frame;
    const auto more = in->parser.next(frame);
    if (!more) {
      die(make_error(more.error().code, "sent nonsense: " + more.error().message));
      return false;
    }
    if (!*more) return true;
    if (phase_ == Phase::welcoming) {
      if (frame.type != kWelcome || !frame.body.empty() || frame.descriptors != 0) {
        die(make_error(Errc::invalid, "does not begin the link as a geckod does"));
        return false;
      }
      become_up();
      if (!in->alive) return false;
      continue;
    }
    if (frame.type == kWelcome || frame.descriptors != 0) {
      die(make_error(Errc::invalid, frame.descriptors != 0 ? "sent nonsense: a frame on a link announces descriptors" : "sent nonsense: a second welcome"));
      return false;
    }
    const auto events = in->events;
    if (events->frame) events->frame(frame);
    if (!in->alive) return false;
  }
}

// --- sending ------------------------------------------------------------------------------------------------------------

void TlsLink::schedule_flush() {
  if (queued_bytes() > options_.max_queued_bytes)
    return die(make_error(Errc::limit, "does not read: " + std::to_string(queued_bytes()) + " bytes are queued, the limit is " +
                                           std::to_string(options_.max_queued_bytes)));
  if (flush_pending_ || blocked_ || phase_ != Phase::up) return;
  flush_pending_ = true;
  loop_.defer([this, in = in_] {
    if (in->alive) flush();
  });
}

void TlsLink::flush() {
  flush_pending_ = false;
  if (phase_ != Phase::up && phase_ != Phase::handshaking && phase_ != Phase::welcoming) return;
  while (send_records() && phase_ == Phase::up && out_.size() != out_sent_)
    if (!encrypt_some()) return;
  if (phase_ != Phase::dead) update_watch();
}

// Turns some of the queued frames into records. False: the link is dead.
bool TlsLink::encrypt_some() {
  while (out_.size() != out_sent_ && transport_.out.size() - sent_ < kCipherChunk) {
    ERR_clear_error();
    const int written = SSL_write(ssl_, out_.data() + out_sent_, static_cast<int>(std::min<size_t>(out_.size() - out_sent_, SSL3_RT_MAX_PLAIN_LENGTH)));
    if (written <= 0) {
      fail_tls(written);
      return false;
    }
    out_sent_ += static_cast<size_t>(written);
  }
  if (out_sent_ == out_.size()) {
    if (out_.capacity() > kKeepBuffer)
      wire::Bytes().swap(out_);
    else
      out_.clear();
    out_sent_ = 0;
  } else if (out_sent_ > kKeepBuffer && out_sent_ > out_.size() / 2) {
    out_.erase(out_.begin(), out_.begin() + static_cast<ptrdiff_t>(out_sent_));
    out_sent_ = 0;
  }
  return true;
}

// True: everything is in the socket. False: it is full, or the link is dead.
bool TlsLink::send_records() {
  while (sent_ != transport_.out.size()) {
    const ssize_t sent = ::send(socket_.get(), transport_.out.data() + sent_, transport_.out.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      blocked_ = true;
      update_watch();
      return false;
    }
    if (sent < 0 && errno != EPIPE && errno != ECONNRESET) {
      die(connection_problem(errno));
      return false;
    }
    // Closed by the peer: what it sent before (an alert with its reason) may still wait to be read, and the reading side ends the link.
    sent_ += sent < 0 ? transport_.out.size() - sent_ : static_cast<size_t>(sent);
  }
  transport_.out.clear();
  sent_ = 0;
  blocked_ = false;
  return true;
}

void TlsLink::update_watch() {
  const uint32_t wanted = blocked_ ? EPOLLIN | EPOLLOUT : EPOLLIN;
  if (phase_ == Phase::dead || phase_ == Phase::connecting || wanted == watched_) return;
  watched_ = wanted;
  if (auto changed = loop_.change(socket_.get(), wanted); !changed) die(changed.error());
}

// --- ending -------------------------------------------------------------------------------------------------------------

void TlsLink::fail_tls(int rc) {
  const int saved_errno = errno;
  const int ssl_error = SSL_get_error(ssl_, rc);
  const bool handshaking = phase_ == Phase::handshaking || phase_ == Phase::welcoming;
  die(tls_problem(*check_, ssl_error, saved_errno, handshaking));
}

void TlsLink::die(Error error) {
  if (phase_ == Phase::dead) return;
  error.message = whom() + ": " + error.message;
  // An alert tells the peer what was wrong with it. What it has sent must be read first: closing with unread data would make the
  // kernel reset the connection, and the alert would be lost.
  if (phase_ != Phase::connecting && transport_.out.size() != sent_) {
    (void)::send(socket_.get(), transport_.out.data() + sent_, transport_.out.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    char rest[4096];
    for (int i = 0; i < 64 && recv(socket_.get(), rest, sizeof rest, MSG_DONTWAIT) > 0; ++i) {}
  }
  phase_ = Phase::dead;
  if (socket_) loop_.unwatch(socket_.get());
  socket_.reset();
  loop_.cancel(std::exchange(handshake_timer_, 0));
  wire::Bytes().swap(out_);
  wire::Bytes().swap(transport_.out);
  out_sent_ = sent_ = 0;
  in_->alive = false;
  // Later, from the loop: whoever called send() must not find its link destroyed when send() returns.
  loop_.defer([in = in_, error = std::move(error)] {
    const auto events = std::exchange(in->events, std::make_shared<Events>());
    if (events->down) events->down(error);
  });
}

}  // namespace gecko::net
