// Replicated connections (docs/adr/0026): geckod hears what programs read, and says when the backups have it.
#include <algorithm>

#include "api/callback_scope.hh"
#include "api/session.hh"

namespace gecko::api {
namespace {
// What is read is told to geckod as fast as it takes it: with so much queued, reading waits for it, a moment each time.
constexpr size_t kMostUntaken = 4u << 20;
constexpr auto kCatchUp = std::chrono::milliseconds(50);
}  // namespace

bool Session::replicates_port(uint16_t port) const {
  if (!replicates_ || std::find(joined_.ports.begin(), joined_.ports.end(), port) == joined_.ports.end()) return false;
  const auto said = wants_replication_.find(port);
  return said == wants_replication_.end() || said->second;
}

Status Session::set_replicated(uint16_t port, bool wanted) {
  GECKO_CHECK(usable());
  const std::lock_guard lock(m_);
  wants_replication_[port] = wanted;
  if (want_join_ && link_ == Link::up) tell_of_ports();   // else with the next join
  return {};
}

// Where its log begins, then what is in it. Nobody reads twice for geckod: `told` is what this one has.
void Session::tell_log(Known& known, uint64_t from) {
  const Connection& c = *known.connection;
  if (!c.is_replicated() || !replicates_) return;
  known.told = from;
  known.told_end = false;
  (void)send(wire::ApiType::input, wire::AppInput{c.id(), from, false, {}});
  tell_input(known);
  tell_await(known);
}

void Session::tell_input(Known& known) {
  const Connection& c = *known.connection;
  if (!c.is_replicated() || !replicates_ || link_ != Link::up || known.announced != incarnation_) return;
  while (const auto part = c.untold(known.told, known.told_end)) {
    known.told = part->offset + part->bytes.size();
    known.told_end = part->end;
    if (!send(wire::ApiType::input, *part)) return;
  }
}

void Session::tell_await(const Known& known) {
  if (link_ != Link::up || known.announced != incarnation_ || is_stable(*known.connection, known.awaited)) return;
  const auto& [input, checkpoints] = known.awaited;
  if (version_ < 5) (void)send(wire::ApiType::await_stable, wire::AppAwaitBefore5{known.connection->id(), input});
  else (void)send(wire::ApiType::await_stable, wire::AppAwait{known.connection->id(), input, checkpoints});
}

// One of an older version does not know of checkpoints.
bool Session::is_stable(const Connection& connection, const Connection::Basis& basis) const {
  return Connection::Basis{basis.input, version_ < 5 ? 0 : basis.checkpoints}.within(connection.stable());
}

void Session::has_read(const Connection& connection) {
  std::unique_lock lock(m_);
  Known* const known = known_as(connection);
  if (known == nullptr) return;
  tell_input(*known);
  const Time deadline = monotonic_now() + kCatchUp;
  while (link_ == Link::up && transport_.queued() > kMostUntaken && monotonic_now() < deadline) {
    pollfd room{transport_.fd(), POLLOUT, 0};
    lock.unlock();
    Waiter::mine().sleep(&room, 1, deadline);
    lock.lock();
    if (!transport_.flush()) hang_up();
    update_poll();
  }
}

Result<wire::AppStable> Session::decode_stable(wire::ByteView body) const {
  if (version_ >= 5) return wire::decode<wire::AppStable>(body);
  GECKO_TRY(const auto old, wire::decode<wire::AppStableBefore5>(body));
  return wire::AppStable{old.id, old.offset, 0};
}

void Session::on_stable(const wire::AppStable& message) {
  const std::lock_guard lock(m_);
  const auto at = connections_.find(message.id);
  if (at == connections_.end()) return;
  at->second.connection->set_stable({message.offset, message.checkpoints});
  quiet_waiters_.wake_all(at->second.connection.get());
}

Status Session::wait_stable(const Connection& connection, const Connection::Basis& basis, Time deadline) {
  std::unique_lock lock(m_);
  // Without a session it is a plain connection; in a group that is not replicated any more, too.
  const auto over = [&] {
    return stopping_ || !replicates_ || is_stable(connection, basis) || known_as(connection) == nullptr ||
           connection.state() != Connection::State::live;
  };
  if (!over()) {
    Known* const known = known_as(connection);
    if (!basis.within(known->awaited)) {
      known->awaited = {std::max(basis.input, known->awaited.input), std::max(basis.checkpoints, known->awaited.checkpoints)};   // not announced: with that
      tell_await(*known);
    }
    if (in_callback())   // the thread that reads geckod's answers may be this one
      return make_error(deadline == Time::max() ? Errc::busy : Errc::again, "output that waits for the backups was made inside a callback of the library");
    wait_quietly(lock, &connection, over, deadline);
  }
  if (connection.state() != Connection::State::live || !over()) return make_error(Errc::again, {});
  return {};
}

// --- waiting without callbacks -------------------------------------------------------------------------------------------

// A thread that waits here is inside a write: it may hold what the application's callbacks want, or be an event loop that expects them only in dispatch().
// So they are left for others, who go first where there are any.
void Session::wait_quietly(std::unique_lock<std::mutex>& lock, const void* key, const std::function<bool()>& over, Time deadline) {
  Waiter& me = Waiter::mine();
  quiet_waiters_.add(me, key);
  bool reader = false;
  while (!over() && (deadline == Time::max() || monotonic_now() < deadline)) {
    if (reader && !may_read_quietly()) {
      stop_reading_quietly();
      reader = false;
    } else if (!reader && !reading_ && may_read_quietly()) {
      reader = reading_ = quiet_ = true;
      arm_timer();
    } else if (!reader && may_read_quietly()) {
      wake_background_reader();
    }
    // Not poll_fd_: what is left for others stays readable there.
    pollfd fds[2] = {{timer_.get(), POLLIN, 0}, {transport_.fd(), static_cast<short>(polled_), 0}};
    lock.unlock();
    me.sleep(fds, reader ? 2 : 0, deadline);
    if (reader && (fds[0].revents != 0 || fds[1].revents != 0)) read_messages();
    lock.lock();
  }
  quiet_waiters_.remove(me);
  if (reader) stop_reading_quietly();
  else release_reader();
}

bool Session::may_read_quietly() const {
  const bool has_callbacks = !deferred_.empty() || !silent_.empty();
  return !has_callbacks || (!has_background_ && waiters_.empty());
}

void Session::stop_reading_quietly() {
  reading_ = quiet_ = false;
  arm_timer();
  release_reader();
}

// False: here and now.
bool Session::defer(std::variant<wire::Yield, wire::AppOutcome> message) {
  const std::lock_guard lock(m_);
  if (!quiet_) return false;
  deferred_.push_back(std::move(message));
  return true;
}

void Session::handle_deferred() {
  for (;;) {
    std::variant<wire::Yield, wire::AppOutcome> message;
    {
      const std::lock_guard lock(m_);
      if (deferred_.empty()) return;
      message = std::move(deferred_.front());
      deferred_.pop_front();
      if (deferred_.empty()) arm_timer();
    }
    if (const auto* yield = std::get_if<wire::Yield>(&message)) on_yield(*yield);
    else on_outcome(std::get<wire::AppOutcome>(message));
  }
}

}  // namespace gecko::api
