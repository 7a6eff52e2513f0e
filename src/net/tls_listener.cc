#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "net/certificate.hh"
#include "net/tls_link.hh"
#include "net/tls_peer.hh"

namespace gecko::net {
namespace {

constexpr int kBacklog = 256;
// Connections taken per wake-up before others get their turn.
constexpr int kAcceptBatch = 32;
// No descriptor is left: try again after this long instead of spinning on the waiting connection.
constexpr auto kPause = std::chrono::milliseconds(100);

}  // namespace

TlsListener::TlsListener(Loop& loop, Fd socket, Accepted accepted, const TlsOptions& options)
    : loop_(loop), socket_(std::move(socket)), accepted_(std::move(accepted)), options_(options) {}

TlsListener::~TlsListener() {
  *alive_ = false;
  loop_.cancel(pause_timer_);
  loop_.unwatch(socket_.get());
  pending_.clear();
  SSL_CTX_free(base_);
}

Result<std::unique_ptr<TlsListener>> TlsListener::listen(Loop& loop, const Endpoint& on, Accepted accepted, const TlsOptions& options) {
  const std::string doing = "listen for node links on " + on.str();
  Fd fd(socket(on.address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return os_error(doing);
  const int on_flag = 1;
  if (setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on_flag, sizeof on_flag) != 0) return os_error(doing);
  if (!on.address.is_v4() && setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on_flag, sizeof on_flag) != 0) return os_error(doing);
  sockaddr_storage address{};
  const socklen_t size = on.to_sockaddr(address);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    Error error = os_error(doing);
    if (error.code == Errc::exists) error.message += "; is another geckod running on this machine?";
    if (errno == EADDRNOTAVAIL) error.message += "; is it an address of this machine?";
    return error;
  }
  std::unique_ptr<TlsListener> listener(new TlsListener(loop, std::move(fd), std::move(accepted), options));
  ERR_clear_error();
  listener->base_ = SSL_CTX_new(TLS_method());
  if (listener->base_ == nullptr) return make_error(Errc::internal, doing + ": " + openssl_reasons());
  configure_tls(listener->base_);
  SSL_CTX_set_tlsext_servername_callback(listener->base_, &TlsListener::choose_group);
  SSL_CTX_set_tlsext_servername_arg(listener->base_, listener.get());
  GECKO_CHECK(loop.watch(listener->socket_.get(), EPOLLIN, [raw = listener.get()](uint32_t) { raw->ready(); }));
  return listener;
}

void TlsListener::add_group(std::shared_ptr<TlsContext> context) {
  const std::string group = context->group();
  contexts_[group] = std::move(context);
}
void TlsListener::remove_group(const std::string& group) { contexts_.erase(group); }

Endpoint TlsListener::local() const {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  return Endpoint::from_sockaddr(address).value_or({});
}

// Called by OpenSSL with the client's hello, also when it names nobody.
int TlsListener::choose_group(SSL* ssl, int* alert, void* self) {
  auto& listener = *static_cast<TlsListener*>(self);
  PeerCheck* check = peer_check(ssl);
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  const auto found = listener.contexts_.find(name == nullptr ? std::string() : std::string(name));
  *alert = SSL_AD_UNRECOGNIZED_NAME;
  if (check == nullptr) return SSL_TLSEXT_ERR_ALERT_FATAL;
  if (found == listener.contexts_.end()) {
    std::string ours;
    for (const auto& [group, context] : listener.contexts_) ours += (ours.empty() ? "" : ", ") + group;
    if (ours.empty()) ours = "none";
    // What the client wrote is shown only if it could be a group's name: it ends up in a log.
    const std::string wanted = name == nullptr ? "did not say which group it wants (no SNI)"
                               : valid_name(name) ? "asked for group '" + std::string(name) + "'"
                                                  : "asked for something that cannot be a group's name";
    check->problem = make_error(Errc::not_found, wanted + "; groups here: " + ours);
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  if (SSL_set_SSL_CTX(ssl, found->second->raw()) == nullptr) {
    check->problem = make_error(Errc::internal, "the keys of group '" + found->first + "' cannot be used");
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  check->context = found->second;
  return SSL_TLSEXT_ERR_OK;
}

void TlsListener::ready() {
  const auto alive = alive_;
  for (int i = 0; i < kAcceptBatch && *alive; ++i) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    Fd fd(accept4(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) {
      if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS) return;  // none left, or it has gone again
      refuse(os_error("accept a link (raise RLIMIT_NOFILE, ulimit -n)"));
      if (!*alive || pause_timer_ != 0) return;
      (void)loop_.change(socket_.get(), 0);
      pause_timer_ = loop_.at(loop_.now() + kPause, [this] {
        pause_timer_ = 0;
        (void)loop_.change(socket_.get(), EPOLLIN);
      });
      return;
    }
    const auto peer = Endpoint::from_sockaddr(address);
    if (peer) begin(std::move(fd), *peer);
  }
}

void TlsListener::begin(Fd socket, const Endpoint& peer) {
  if (auto prepared = prepare_link_socket(socket.get()); !prepared) return refuse(prepared.error());
  const uint64_t number = next_++;
  TlsLink::Events events;
  events.up = [this, number] { finished(number); };
  events.down = [this, number](const Error& error) {
    const auto link = std::move(pending_[number]);
    pending_.erase(number);
    refuse(error);
  };
  std::unique_ptr<TlsLink> link(new TlsLink(loop_, std::move(socket), peer, std::move(events), options_));
  TlsLink* const raw = link.get();
  pending_.emplace(number, std::move(link));
  raw->start(TlsLink::Phase::handshaking, base_, true);
  // An honest handshake takes milliseconds. When too many are under way the oldest is the least likely to be one.
  if (pending_.size() > options_.max_handshakes) {
    const auto oldest = pending_.begin();
    const Endpoint who = oldest->second->peer_address();
    pending_.erase(oldest);
    refuse(make_error(
        Errc::limit, who.str() + ": gave way to a newer connection; at most " + std::to_string(options_.max_handshakes) + " handshakes run at once"));
  }
}

void TlsListener::finished(uint64_t number) {
  const auto found = pending_.find(number);
  if (found == pending_.end()) return;
  auto link = std::move(found->second);
  pending_.erase(found);
  link->set_events({});
  const std::string group = link->check_->context->group();
  const auto accepted = accepted_;  // it may destroy this listener
  accepted(group, std::move(link));
}

void TlsListener::refuse(Error error) {
  ++refused_;
  last_refusal_ = error.message;
  const auto tell = on_refused_;
  if (tell) tell(error);
}

}  // namespace gecko::net
