// Waiting, for the files that implement Session: for a condition, for an answer of geckod.
#pragma once

#include "api/callback_scope.hh"
#include "api/session.hh"

namespace gecko::api {

// Sleeps until pred() (checked under m_), extra_fd is readable (true as well) or the deadline (false). Reads geckod's messages
// meanwhile if nobody else does.
template <class Pred>
bool Session::wait(std::unique_lock<std::mutex>& lock, const void* key, Pred pred, Time deadline, int extra_fd) {
  if (pred()) return true;
  Waiter& me = Waiter::mine();
  waiters_.add(me, key);
  bool reader = false, extra = false;
  while (!extra && !pred() && (deadline == Time::max() || monotonic_now() < deadline)) {
    if (!reader && !reading_) reader = reading_ = true;
    else if (!reader) wake_background_reader();
    lock.unlock();
    pollfd fds[2];
    size_t count = 0;
    if (reader) fds[count++] = {poll_fd_.get(), POLLIN, 0};
    if (extra_fd >= 0) fds[count++] = {extra_fd, POLLIN, 0};
    me.sleep(fds, count, deadline);
    extra = extra_fd >= 0 && fds[count - 1].revents != 0;
    if (reader && fds[0].revents != 0) read_messages();
    lock.lock();
  }
  waiters_.remove(me);
  if (reader) reading_ = false;
  release_reader();
  return extra || pred();
}

// Sends a request and waits for its answer.
template <class M>
Result<std::shared_ptr<Session::Request>> Session::ask(wire::ApiType type, M message, Time deadline) {
  GECKO_CHECK(usable());
  if (in_callback()) return make_error(Errc::busy, "a call that waits for geckod was made from inside a callback of the library");
  std::unique_lock lock(m_);
  if (link_ != Link::up) return not_connected();
  const auto request = std::make_shared<Request>();
  const uint64_t number = message.request = next_request_++;
  requests_[number] = request;
  if (type == wire::ApiType::join) join_request_ = number;
  if (!send(type, message)) {
    requests_.erase(number);
    return not_connected();
  }
  (void)wait(lock, request.get(), [&] { return request->done || stopping_; }, deadline);
  requests_.erase(number);
  if (!request->done && stopping_) return make_error(Errc::closed, "the framework has been closed");
  if (!request->done) return make_error(Errc::timeout, "geckod did not answer in time; 'gecko status' tells how it is");
  if (request->error) return *request->error;
  return request;
}

}  // namespace gecko::api
