// Listens on the group's address: accept() returns new clients and connections that arrive from other nodes (Socket::from() tells which).
// Any number of threads may wait in accept(); end() wakes them.
#pragma once

#include <gecko/framework.hh>

namespace gecko {

class ServerSocket {
 public:
  // port 0: the group's first; backlog 0: a good one.
  static Result<ServerSocket> listen(Framework& framework, uint16_t port = 0, int backlog = 0) {
    gecko_server* handle = nullptr;
    const int rc = gecko_server_listen(framework.handle(), port, backlog, &handle);
    if (rc < 0) return detail::last_error(rc);
    return ServerSocket(handle);
  }
  ServerSocket() = default;
  ServerSocket(ServerSocket&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  ServerSocket& operator=(ServerSocket&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~ServerSocket() { gecko_server_close(handle_); }

  // Errors: again (non-blocking), timeout, closed, limit (no descriptors left). The socket inherits the server's blocking mode.
  Result<Socket> accept(Timeout timeout = kForever) {
    gecko_socket* socket = nullptr;
    const int rc = gecko_server_accept(handle_, static_cast<int>(timeout.count()), &socket);
    if (rc < 0) return detail::last_error(rc);
    return Socket(socket);
  }
  void set_blocking(bool blocking) { gecko_server_set_blocking(handle_, blocking); }
  int fd() const { return gecko_server_fd(handle_); }          // readable: accept() has something; only for poll and the like
  uint16_t port() const { return gecko_server_port(handle_); }
  void end() { gecko_server_end(handle_); }                    // listens no more, keeps the object
  void close() { gecko_server_close(std::exchange(handle_, nullptr)); }

 private:
  explicit ServerSocket(gecko_server* handle) : handle_(handle) {}
  gecko_server* handle_ = nullptr;
};

}  // namespace gecko
