// A listening socket on the group's address: new clients and connections that arrive from other nodes come out of one accept().
// Threads: any number may wait in accept() at once.
#pragma once

#include <atomic>

#include "api/session.hh"

namespace gecko::api {

class Server {
 public:
  static Result<std::unique_ptr<Server>> listen(std::shared_ptr<Session> session, uint16_t port, int backlog);
  ~Server();                          // nobody may be in accept() any more
  // Errors: again (non-blocking), timeout, closed, limit (out of descriptors: the client stays in the kernel's queue).
  Result<ConnectionPtr> accept(Time deadline);
  void close();                       // wakes who waits in accept(); clients that wait in the queue get a reset from the kernel
  int fd() const { return poll_fd_.get(); }   // readable: accept() has something
  uint16_t port() const { return listener_.port; }
  void set_blocking(bool blocking) { blocking_ = blocking; }
  bool is_blocking() const { return blocking_; }
  bool is_foreign() const { return session_->is_foreign(); }

 private:
  explicit Server(std::shared_ptr<Session> session) : session_(std::move(session)) {}
  const std::shared_ptr<Session> session_;
  Session::Listener listener_;
  Endpoint local_;
  Fd socket_, signal_, poll_fd_;
  std::atomic<bool> blocking_{true}, closed_{false};
};

}  // namespace gecko::api
