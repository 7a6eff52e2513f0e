// A replicated connection (docs/adr/0026): what is read goes into its log, what is written waits until the backups have that and the checkpoints, and
// what a predecessor had written already is not written again.
#include <sys/socket.h>

#include <algorithm>

#include "api/session.hh"

namespace gecko::api {
namespace {
// A program in an event loop stands still for so long at most, when backups or geckod do not answer.
constexpr auto kStablePatience = std::chrono::milliseconds(50);
}  // namespace

void Connection::replicate(uint64_t read_so_far, uint64_t stable) {
  input_ = std::make_unique<core::InputLog>(read_so_far);
  stable_input_ = stable;
}

uint64_t Connection::log_begin() const {
  const std::lock_guard lock(input_lock_);
  return input_->begin();
}

std::optional<wire::AppInput> Connection::untold(uint64_t told, bool told_end) const {
  const std::lock_guard lock(input_lock_);
  const uint64_t at = std::max(told, input_->begin());   // what has left the window is not told any more: the log begins behind it
  const auto bytes = input_->from(at);
  const auto part = bytes.first(std::min(bytes.size(), wire::kMaxInputPart));
  const bool end = input_->ended() && at + part.size() == input_->end();
  if (part.empty() && (told_end || !end)) return std::nullopt;
  return wire::AppInput{id(), at, end, {part.begin(), part.end()}};
}

void Connection::trim_log(uint64_t below) {
  if (!input_) return;
  const std::lock_guard lock(input_lock_);
  input_->trim(below);
}

Connection::Basis Connection::stable() const {
  return {stable_input_.load(std::memory_order_relaxed), stable_checkpoints_.load(std::memory_order_relaxed)};
}

void Connection::set_stable(const Basis& basis) {
  const Basis so_far = stable();
  if (basis.input > so_far.input) stable_input_.store(basis.input, std::memory_order_relaxed);
  if (basis.checkpoints > so_far.checkpoints) stable_checkpoints_.store(basis.checkpoints, std::memory_order_relaxed);
}

Connection::Basis Connection::basis() const {
  const std::lock_guard lock(input_lock_);
  return {input_->end(), checkpoints_.load(std::memory_order_relaxed)};
}

ssize_t Connection::take(int fd, const iovec* parts, int count) {
  const auto receive = [&] {
    if (count == 1) return recv(fd, parts->iov_base, parts->iov_len, MSG_DONTWAIT);
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts);
    message.msg_iovlen = static_cast<size_t>(count);
    return recvmsg(fd, &message, MSG_DONTWAIT);
  };
  if (!input_) return receive();
  const std::lock_guard lock(input_lock_);
  const ssize_t n = receive();
  const bool asked = std::any_of(parts, parts + count, [](const iovec& part) { return part.iov_len != 0; });
  if (n == 0 && asked) input_->append(input_->end(), {}, true);
  for (size_t left = n > 0 ? static_cast<size_t>(n) : 0; left != 0; ++parts) {
    const size_t size = std::min(left, parts->iov_len);
    input_->append(input_->end(), {static_cast<const uint8_t*>(parts->iov_base), size});
    left -= size;
  }
  return n;
}

// It counts as written. The application's order is the stream's, so whoever comes first takes from what is left.
Result<size_t> Connection::swallow(std::vector<iovec>& parts, size_t& first) {
  const std::shared_lock lock(io_);
  if (state_ != State::live) return state_error(state_);   // it does not leave before all is swallowed
  size_t total = 0;
  for (; first < parts.size(); ++first) {
    iovec& part = parts[first];
    uint64_t left = swallow_;
    while (!swallow_.compare_exchange_weak(left, left - std::min<uint64_t>(left, part.iov_len))) {
    }
    const auto n = static_cast<size_t>(std::min<uint64_t>(left, part.iov_len));
    total += n;
    if (n == part.iov_len) continue;
    part.iov_base = static_cast<char*>(part.iov_base) + n;
    part.iov_len -= n;
    break;
  }
  return total;
}

Status Connection::await_basis() {
  const Basis all = basis();
  const Time deadline = is_blocking() ? Time::max() : monotonic_now() + kStablePatience;
  while (!all.within(stable())) {
    {
      const Registered registered(waiters_lock_, waiters_, Waiter::mine());   // a move wakes us
      const auto waited = session_->wait_stable(*this, all, deadline);
      if (waited || waited.error().code != Errc::again) return waited;
    }
    {
      const std::shared_lock lock(io_);
      if (state_ != State::live && state_ != State::yielding) return state_error(state_);
    }
    if (!is_blocking()) return make_error(Errc::again, {});
    GECKO_CHECK(session_->wait_settled(*this, Time::max()));
  }
  return {};
}

}  // namespace gecko::api
