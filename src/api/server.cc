#include "api/server.hh"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>

namespace gecko::api {
namespace {

constexpr int kDefaultBacklog = 4096;

}  // namespace

Result<std::unique_ptr<Server>> Server::listen(std::shared_ptr<Session> session, uint16_t port, int backlog) {
  const auto joined = session->joined();
  if (port == 0 && !joined.ports.empty()) port = joined.ports.front();
  if (backlog <= 0) backlog = kDefaultBacklog;
  std::unique_ptr<Server> server(new Server(session));
  GECKO_TRY(server->socket_, session->listen(port, static_cast<uint32_t>(backlog)));
  server->signal_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  server->poll_fd_.reset(epoll_create1(EPOLL_CLOEXEC));
  if (!server->signal_ || !server->poll_fd_) return os_error("make the descriptors of a server socket");
  const int listening = server->socket_.get();
  const int flags = fcntl(listening, F_GETFL);
  if (flags < 0 || fcntl(listening, F_SETFL, flags | O_NONBLOCK) != 0) return os_error("prepare the listening socket");
  for (const int fd : {listening, server->signal_.get()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (epoll_ctl(server->poll_fd_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return os_error("prepare the listening socket");
  }
  sockaddr_storage local{};
  socklen_t size = sizeof local;
  if (getsockname(listening, reinterpret_cast<sockaddr*>(&local), &size) != 0) return os_error("read the name of the listening socket");
  GECKO_TRY(server->local_, Endpoint::from_sockaddr(local));
  server->listener_.port = server->local_.port;
  server->listener_.signal_fd = server->signal_.get();
  session->add_listener(server->listener_);
  return server;
}

Server::~Server() { close(); }

void Server::close() {
  if (closed_.exchange(true)) return;
  session_->remove_listener(listener_);
  (void)shutdown(socket_.get(), SHUT_RDWR);  // no new clients from now on; the descriptor is closed with the object
}

Result<ConnectionPtr> Server::accept(Time deadline) {
  for (;;) {
    if (closed_) return make_error(Errc::closed, "the server socket has been closed");
    if (auto arrived = session_->take_arrival(listener_)) {
      (void)arrived->set_blocking(is_blocking());
      return arrived;
    }
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    const bool blocking = is_blocking();
    Fd client(accept4(socket_.get(), reinterpret_cast<sockaddr*>(&peer), &size, blocking ? SOCK_CLOEXEC : SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (client) {
      Flow flow;
      flow.local = local_;
      GECKO_TRY(flow.peer, Endpoint::from_sockaddr(peer));
      if (auto connection = session_->admit(std::move(client), flow, blocking)) return connection;
      continue;
    }
    switch (errno) {
      case EAGAIN: break;
      // A client that gave up, or a signal: the next one.
      case EINTR: case ECONNABORTED: case EPROTO: case ENETDOWN: case ENOPROTOOPT: case EHOSTDOWN: case ENONET: case EHOSTUNREACH: case ENETUNREACH: continue;
      default:
        if (closed_) continue;
        return os_error("accept on port " + std::to_string(port()));
    }
    if (!blocking) return make_error(Errc::again, {});
    if (!session_->wait_for_client(listener_, socket_.get(), deadline)) return make_error(Errc::timeout, "no client came in time");
    if (session_->is_stopped()) return make_error(Errc::closed, "the framework has been closed");
  }
}

}  // namespace gecko::api
