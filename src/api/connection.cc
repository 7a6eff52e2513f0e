#include "api/connection.hh"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <climits>
#include <cstring>

#include "api/session.hh"

namespace gecko::api {
namespace {

// A frozen socket refuses reads and writes with these until geckod's privileged half has thawed it; look again after so long.
constexpr auto kThawStep = std::chrono::milliseconds(5);
constexpr auto kThawPatience = std::chrono::seconds(5);
static_assert(EAGAIN == EWOULDBLOCK);

bool frozen(int fd) {
  int repair = 0;
  socklen_t size = sizeof repair;
  return getsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &repair, &size) == 0 && repair != 0;
}

bool has_filter(int fd) {
  socklen_t instructions = 0;   // of a classic one; of the other kind the kernel tells nothing but that
  return getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, nullptr, &instructions) != 0 ? errno == EACCES : instructions != 0;
}

bool keeps_alive(int fd) {
  int on = 0;
  socklen_t size = sizeof on;
  return getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &size) == 0 && on != 0;
}

}  // namespace

Connection::Connection(std::shared_ptr<Session> session, Fd socket, Birth birth)
    : session_(std::move(session)), birth_(std::move(birth)), fd_(socket.release()), blob_(birth_.blob) {}

Connection::~Connection() {
  if (fd_ >= 0) ::close(fd_);
  if (kept_ >= 0) ::close(kept_);
}

// --- input and output ---------------------------------------------------------------------------------------------------

Error Connection::state_error(State state) const {
  if (state == State::moved) return make_error(Errc::moved, "the connection " + flow().str() + " lives on another node now");
  if (!ended_.message.empty()) return ended_;
  return make_error(Errc::closed, "the connection " + flow().str() + " is closed");
}

Error Connection::io_error(const char* doing, int err) const {
  const bool over = err == ECONNRESET || err == EPIPE || err == ENOTCONN || err == ECONNABORTED;
  const Errc code = over ? Errc::closed : os_error("", err).code;
  return make_error(code, std::string(doing) + " " + flow().str() + ": " + std::strerror(err));
}

// geckod vanished, the connection was given back, and a freeze that was still under way hit it: that ends in a moment.
bool Connection::thawing(int err) {
  if ((err != EPERM && err != EINVAL) || !frozen(fd_)) return false;
  const int64_t now = monotonic_now().time_since_epoch().count();
  int64_t none = 0;
  frozen_until_ns_.compare_exchange_strong(none, now + std::chrono::nanoseconds(kThawPatience).count());
  return now < frozen_until_ns_;
}

template <class Call>
Result<size_t> Connection::transfer(short events, Call call) {
  for (;;) {
    std::shared_lock lock(io_);
    if (state_ == State::yielding) {
      lock.unlock();
      if (!is_blocking()) return make_error(Errc::again, {});
      GECKO_CHECK(session_->wait_settled(*this, Time::max()));
      continue;
    }
    if (state_ != State::live) return state_error(state_);
    const ssize_t n = call(fd_);
    if (n >= 0) return static_cast<size_t>(n);
    const int err = errno;
    if (err == EINTR) continue;
    const bool wait_for_thaw = err != EAGAIN && thawing(err);
    if (err != EAGAIN && !wait_for_thaw) return io_error(events == POLLIN ? "read" : "write", err);
    if (!is_blocking()) return make_error(Errc::again, {});
    pollfd ready{wait_for_thaw ? -1 : fd_, events, 0};
    Waiter& waiter = Waiter::mine();
    const Registered registered(waiters_lock_, waiters_, waiter);
    lock.unlock();  // from here on a move may take the connection away: it wakes us
    waiter.sleep(&ready, 1, wait_for_thaw ? monotonic_now() + kThawStep : Time::max());
  }
}

Result<size_t> Connection::read(const iovec* parts, int count) {
  if (count < 1 || count > IOV_MAX) return make_error(Errc::invalid, "readv takes 1 to " + std::to_string(IOV_MAX) + " parts");
  touched();
  auto n = transfer(POLLIN, [&](int fd) { return take(fd, parts, count); });
  if (is_replicated() && n) session_->has_read(*this);   // before the program has it
  return n;
}

Result<size_t> Connection::peek(void* buffer, size_t size) const {
  const std::shared_lock lock(io_);
  if (state_ == State::yielding) return make_error(Errc::again, {});
  if (state_ != State::live) return state_error(state_);
  for (;;) {
    const ssize_t n = recv(fd_, buffer, size, MSG_PEEK | MSG_DONTWAIT);
    if (n >= 0) return static_cast<size_t>(n);
    if (errno == EAGAIN) return make_error(Errc::again, {});
    if (errno != EINTR) return io_error("read", errno);
  }
}

Result<size_t> Connection::write(const iovec* parts, int count) {
  if (count < 1 || count > IOV_MAX) return make_error(Errc::invalid, "writev takes 1 to " + std::to_string(IOV_MAX) + " parts");
  touched();
  std::vector<iovec> left(parts, parts + count);
  size_t first = 0, total = 0;
  if (is_catching_up()) {
    GECKO_TRY(total, swallow(left, first));
    if (first == left.size()) return total;
  }
  if (is_replicated()) {
    if (auto waited = await_basis(); !waited) {
      if (total != 0) return total;
      return waited.error();
    }
  }
  for (;;) {
    const auto sent = transfer(POLLOUT, [&](int fd) {
      msghdr message{};
      message.msg_iov = left.data() + first;
      message.msg_iovlen = left.size() - first;
      return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    });
    if (!sent) {
      if (total != 0) return total;  // these bytes are the kernel's, here or where the connection went; the next call says why
      return sent;
    }
    total += *sent;
    size_t n = *sent;
    while (first < left.size() && n >= left[first].iov_len) n -= left[first++].iov_len;
    if (first == left.size() || !is_blocking()) return total;
    left[first].iov_base = static_cast<char*>(left[first].iov_base) + n;
    left[first].iov_len -= n;
  }
}

Result<short> Connection::wait(short events, Time deadline) {
  touched();
  for (;;) {
    std::shared_lock lock(io_);
    if (state_ == State::yielding) {
      lock.unlock();
      const auto settled = session_->wait_settled(*this, deadline);
      if (!settled && settled.error().code == Errc::timeout) return static_cast<short>(0);
      GECKO_CHECK(settled);
      continue;
    }
    if (state_ != State::live) return state_error(state_);
    if (tell_postponed_ && tell_postponed_.exchange(false)) return static_cast<short>(0);
    pollfd ready{fd_, events, 0};
    Waiter& waiter = Waiter::mine();
    const Registered registered(waiters_lock_, waiters_, waiter);
    lock.unlock();
    waiter.sleep(&ready, 1, deadline);
    lock.lock();
    if (state_ != State::live) continue;
    if (ready.revents != 0) return ready.revents;
    if (deadline != Time::max() && monotonic_now() >= deadline) return static_cast<short>(0);
  }
}

Status Connection::shutdown(int how) {
  if (how != SHUT_RD && is_replicated()) GECKO_CHECK(await_basis());   // an end is output, too
  if (how != SHUT_RD) session_->connection_ending(*this);
  std::shared_lock lock(io_);
  while (state_ == State::yielding) {
    lock.unlock();
    if (!is_blocking()) return make_error(Errc::again, {});
    GECKO_CHECK(session_->wait_settled(*this, Time::max()));
    lock.lock();
  }
  if (state_ != State::live) return state_error(state_);
  if (::shutdown(fd_, how) != 0) return io_error("shut down", errno);
  return {};
}

void Connection::evict() {
  session_->connection_ending(*this);
  const std::shared_lock lock(io_);
  if (state_ == State::live && fd_ >= 0) (void)::shutdown(fd_, SHUT_RDWR);
}

void Connection::close() {
  bool tell = false;
  {
    const std::unique_lock lock(io_);
    if (fd_ < 0) return;
    remove_watch();
    if (state_ == State::yielding && !parted_) {
      kept_ = std::exchange(fd_, -1);
      closed_by_app_ = true;
    } else {
      ::close(std::exchange(fd_, -1));
      closed_by_app_ = state_ == State::yielding;
      tell = state_ == State::live;
      if (state_ != State::yielding) state_ = State::ended;
    }
  }
  wake();
  if (tell) session_->connection_closed(*this);
  const std::lock_guard calling(calling_);
  on_yield(nullptr);
}

Status Connection::set_blocking(bool blocking) {
  const std::shared_lock lock(io_);
  const int real = kept_ >= 0 ? kept_ : fd_;
  if (state_ == State::live || state_ == State::yielding) {
    const int flags = fcntl(real, F_GETFL);
    if (flags < 0 || fcntl(real, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) != 0) return os_error("change the mode of a socket");
  }
  blocking_.store(blocking, std::memory_order_relaxed);
  return {};
}

int Connection::fd() const {
  const std::shared_lock lock(io_);
  return fd_;
}

Connection::State Connection::state() const {
  const std::shared_lock lock(io_);
  return state_;
}

// --- the application's epoll ---------------------------------------------------------------------------------------------

Status Connection::watch(int epoll_fd, uint32_t events, uint64_t data) {
  touched();
  const std::unique_lock lock(io_);
  if (fd_ < 0) return state_error(state_);
  if (epoll_fd_ >= 0 && epoll_fd_ != epoll_fd) remove_watch();
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  if (state_ != State::yielding || !parted_) {
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd_, &event) != 0 && (errno != ENOENT || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd_, &event) != 0))
      return os_error("register a connection in the application's epoll");
  }
  epoll_fd_ = epoll_fd;
  epoll_events_ = events;
  epoll_data_ = data;
  return {};
}

void Connection::unwatch() {
  const std::unique_lock lock(io_);
  remove_watch();
}

void Connection::remove_watch() {
  if (epoll_fd_ >= 0 && fd_ >= 0) (void)epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd_, nullptr);
  epoll_fd_ = -1;
}

void Connection::apply_watch() {
  if (epoll_fd_ < 0 || fd_ < 0) return;
  epoll_event event{};
  event.events = epoll_events_;
  event.data.u64 = epoll_data_;
  (void)epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd_, &event);
}

// --- the application's state ---------------------------------------------------------------------------------------------

Status Connection::set_blob(const void* data, size_t size) {
  if (size > wire::kMaxBlob)
    return make_error(Errc::limit, "a connection's state may have " + std::to_string(wire::kMaxBlob) + " bytes, not " + std::to_string(size));
  const auto* bytes = static_cast<const uint8_t*>(data);
  touched();
  const std::lock_guard lock(app_);
  blob_.assign(bytes, bytes + size);
  return {};
}

wire::Bytes Connection::blob() const {
  const std::lock_guard lock(app_);
  return blob_;
}

Result<Connection::Checkpoint> Connection::offsets() const {
  if (!birth_.base.known)
    return make_error(Errc::unsupported, "the connection " + flow().str() + " has passed a node of an older version, which did not count its bytes");
  for (;;) {
    {
      const std::shared_lock lock(io_);
      if (state_ != State::yielding) {
        if (state_ != State::live) return state_error(state_);
        GECKO_TRY(const StreamPosition here, stream_position(fd_));
        return Checkpoint{birth_.base.received + here.read, birth_.base.sent + here.written - swallow_, {}};
      }
    }
    if (!is_blocking()) return make_error(Errc::again, {});
    GECKO_CHECK(session_->wait_settled(*this, Time::max()));
  }
}

Status Connection::save_checkpoint(const void* data, size_t size) {
  if (size > wire::kMaxBlob)
    return make_error(Errc::limit, "a checkpoint may have " + std::to_string(wire::kMaxBlob) + " bytes, not " + std::to_string(size));
  if (!session_->recovers()) return {};
  GECKO_TRY(Checkpoint point, offsets());
  const uint64_t input = point.input;
  const auto* bytes = static_cast<const uint8_t*>(data);
  point.blob.assign(bytes, bytes + size);
  {
    const std::lock_guard lock(app_);
    checkpoint_ = std::move(point);
  }
  GECKO_CHECK(session_->checkpoint_changed(*this));
  checkpoints_.fetch_add(1, std::memory_order_relaxed);   // what is asked for from now on comes after it
  trim_log(input);
  return {};
}

std::optional<Connection::Checkpoint> Connection::checkpoint() const {
  const std::lock_guard lock(app_);
  return checkpoint_;
}

void Connection::set_movable(bool movable, std::string reason) {
  if (!movable && reason.empty()) reason = "the application keeps it";
  if (movable) reason.clear();
  {
    const std::lock_guard lock(app_);
    if (stay_reason_ == reason) return;
    stay_reason_ = std::move(reason);
    movable_ = movable;
  }
  session_->movable_changed(*this);
}

std::string Connection::stay_reason() const {
  const std::lock_guard lock(app_);
  return stay_reason_;
}

void Connection::postpone(std::string reason) {
  const std::lock_guard lock(app_);
  postpone_reason_ = reason.empty() ? "the application is in the middle of something" : std::move(reason);
}

void Connection::on_yield(YieldCallback callback) {
  touched();
  auto next = callback ? std::make_shared<YieldCallback>(std::move(callback)) : nullptr;
  const std::lock_guard lock(app_);
  callback_.swap(next);
}

// --- letting go ----------------------------------------------------------------------------------------------------------

Status Connection::begin_yield() {
  {
    const std::unique_lock lock(io_);
    if (state_ == State::yielding) return make_error(Errc::busy, "the connection " + flow().str() + " is being moved already");
    if (state_ != State::live) return state_error(state_);
    state_ = State::yielding;
    parted_ = false;
  }
  wake();  // a thread in poll() keeps the socket alive
  return {};
}

Status Connection::ask_application() {
  const std::lock_guard calling(calling_);
  std::shared_ptr<YieldCallback> callback;
  {
    const std::lock_guard lock(app_);
    callback = callback_;
    postpone_reason_.clear();
  }
  if (!callback || (*callback)(shared_from_this())) return {};
  const std::lock_guard lock(app_);
  if (postpone_reason_.empty()) return make_error(Errc::refused, "the application keeps this connection for now");
  return make_error(Errc::again, postpone_reason_);
}

Result<int> Connection::part(int eof_fd) {
  const std::unique_lock lock(io_);
  if (closed_by_app_) return make_error(Errc::closed, "the application closed the connection " + flow().str());
  if (!exposed) {
    kept_ = std::exchange(fd_, -1);
  } else {
    const int copy = fcntl(fd_, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) return os_error("copy the descriptor of a connection that is to move");
    if (epoll_fd_ >= 0) (void)epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd_, nullptr);
    if (dup3(eof_fd, fd_, O_CLOEXEC) < 0) {
      const Error error = os_error("replace the descriptor of a connection that is to move");
      ::close(copy);
      apply_watch();
      return error;
    }
    kept_ = copy;
  }
  parted_ = true;
  had_filter_ = has_filter(kept_);
  had_keepalive_ = keeps_alive(kept_);
  return kept_;
}

// geckod's privileged half may have been killed between making the socket deaf and freezing it: then nobody else gives it its hearing back.
void Connection::make_whole() {
  if (frozen(kept_)) return;
  const int on = 1;
  if (!had_filter_ && has_filter(kept_)) (void)setsockopt(kept_, SOL_SOCKET, SO_DETACH_FILTER, &on, sizeof on);
  if (had_keepalive_ && !keeps_alive(kept_)) (void)setsockopt(kept_, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

bool Connection::take_back() {
  bool mine = true;
  {
    const std::unique_lock lock(io_);
    if (closed_by_app_) {
      ::close(std::exchange(kept_, -1));
      state_ = State::ended;
      mine = false;
    } else {
      if (parted_) {
        make_whole();
        restore_number();
      }
      parted_ = false;
      frozen_until_ns_ = 0;
      state_ = State::live;
    }
  }
  wake();
  return mine;
}

void Connection::restore_number() {
  if (!exposed) {
    fd_ = std::exchange(kept_, -1);
    return;
  }
  if (dup3(kept_, fd_, O_CLOEXEC) >= 0) {
    ::close(kept_);
  } else {  // the application lowered its limit on descriptors below this one: the connection goes on under another number
    ::close(fd_);
    fd_ = kept_;
  }
  kept_ = -1;
  apply_watch();
}

void Connection::forget() {
  {
    const std::unique_lock lock(io_);
    if (kept_ >= 0) ::close(std::exchange(kept_, -1));
    state_ = closed_by_app_ ? State::ended : State::moved;
    apply_watch();  // the EOF end: the application's loop wakes up, its read says moved
  }
  wake();
}

void Connection::end(Error why) {
  {
    const std::unique_lock lock(io_);
    if (kept_ >= 0) ::close(std::exchange(kept_, -1));
    state_ = State::ended;
    ended_ = std::move(why);
    apply_watch();
  }
  wake();
}

bool Connection::in_repair() const {
  const std::shared_lock lock(io_);
  return kept_ >= 0 && frozen(kept_);
}

// A connection that ends by itself is shut down in both directions first; one that is disconnected is not (tcp_disconnect of the kernel).
bool Connection::is_retired() const {
  const std::shared_lock lock(io_);
  pollfd end{kept_, POLLRDHUP, 0};
  return kept_ >= 0 && poll(&end, 1, 0) == 1 && (end.revents & (POLLHUP | POLLRDHUP)) == POLLHUP;
}

bool Connection::has_ended() const {
  const std::shared_lock lock(io_);
  const int fd = kept_ >= 0 ? kept_ : fd_;
  tcp_info info{};
  socklen_t size = sizeof info;
  return fd < 0 || (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == TCP_CLOSE);
}

void Connection::wake() {
  const std::lock_guard lock(waiters_lock_);
  waiters_.wake_all();
}

}  // namespace gecko::api
