#include "api/session.hh"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include <algorithm>

#include "api/callback_scope.hh"
#include "api/session_wait.hh"

namespace gecko::api {
namespace {

// After the last waiter has left, the background thread takes over this much later: a server that calls accept() in a loop keeps reading
// by itself and causes no switches of threads.
constexpr long kLendTimeNs = 1'000'000;
constexpr auto kGreetingTime = std::chrono::seconds(5);
constexpr auto kAnswerTime = std::chrono::seconds(10);
constexpr auto kClientTime = std::chrono::seconds(25);  // geckod gives the other nodes 20 s to move a client's connections
constexpr auto kSettleTime = std::chrono::seconds(2);   // framework closes: connections on their way get this long
// One reader's turn: then others get the mutex and the deadline is looked at.
constexpr int kReadsPerTurn = 64;

void signal_event(int fd) {
  const uint64_t one = 1;
  (void)!write(fd, &one, sizeof one);
}
void drain_event(int fd) {
  uint64_t ignored = 0;
  (void)!read(fd, &ignored, sizeof ignored);
}

}  // namespace

Session::Session(Options options) : options_(std::move(options)), generation_(fork_generation()) {}

Session::~Session() = default;

Result<std::shared_ptr<Session>> Session::open(Options options) {
  GECKO_CHECK(is_name(options.group, "group"));
  const std::shared_ptr<Session> session(new Session(std::move(options)));
  GECKO_CHECK(session->start());
  return session;
}

Status Session::start() {
  poll_fd_.reset(epoll_create1(EPOLL_CLOEXEC));
  silent_epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  timer_.reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  int pair[2] = {-1, -1};
  if (!poll_fd_ || !silent_epoll_ || !timer_ || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
    return os_error("make the descriptors of a framework");
  eof_.reset(pair[0]);
  close(pair[1]);
  epoll_event event{};
  event.events = EPOLLIN;
  for (const int fd : {timer_.get(), silent_epoll_.get()})
    if (epoll_ctl(poll_fd_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return os_error("prepare the descriptors of a framework");
  GECKO_TRY(Fd socket, connect_daemon(options_.socket));
  {
    std::unique_lock lock(m_);
    transport_.attach(std::move(socket));
    greet();
    const bool settled = wait(lock, this, [&] { return link_ != Link::greeting; }, monotonic_now() + kGreetingTime);
    if (link_ == Link::down) return last_error_;
    if (!settled) return make_error(Errc::timeout, "geckod at " + options_.socket + " accepts connections but does not answer; is it stopped?");
  }
  if (options_.event_loop) return {};
  bg_event_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  bg_timer_.reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!bg_event_ || !bg_timer_) return os_error("make the descriptors of a framework");
  // The application's signals are for the application's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  auto* self = new std::shared_ptr<Session>(shared_from_this());
  const int err = pthread_create(&background_, nullptr, background_entry, self);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (err != 0) {
    delete self;
    return os_error("start the framework's thread", err);
  }
  has_background_ = true;
  pthread_setname_np(background_, "gecko");
  return {};
}

void* Session::background_entry(void* self) {
  const std::unique_ptr<std::shared_ptr<Session>> session(static_cast<std::shared_ptr<Session>*>(self));
  (*session)->run_background();
  return nullptr;
}

void Session::shut_down() {
  std::unique_lock lock(m_);
  if (stopping_) return;
  if (!CallbackScope::active())
    (void)wait(lock, this, [&] { return transfers_.empty() && orphans_.empty(); }, monotonic_now() + kSettleTime);
  stopping_ = true;
  waiters_.wake_all();
  quiet_waiters_.wake_all();
  if (has_background_) {
    signal_event(bg_event_.get());
    lock.unlock();
    if (pthread_equal(pthread_self(), background_)) pthread_detach(background_);
    else pthread_join(background_, nullptr);
    lock.lock();
  }
  // Whoever still reads leaves at once; only then may the socket be closed.
  if (!CallbackScope::active()) (void)wait(lock, this, [&] { return !reading_; }, Time::max());
  lock.unlock();
  lost(make_error(Errc::closed, "the framework has been closed"));
  settle_orphans();
  std::unordered_map<ConnId, Known> connections;
  std::deque<ConnectionPtr> arrivals;
  std::unordered_map<int, Silent> silent;
  lock.lock();
  silent.swap(silent_);
  connections.swap(connections_);
  arrivals.swap(arrivals_);
}

Status Session::usable() const {
  if (!is_foreign()) return {};
  return make_error(Errc::invalid, "this framework was opened before fork(); the child must open its own");
}

bool Session::in_callback() { return CallbackScope::active(); }

bool Session::is_connected() {
  const std::lock_guard lock(m_);
  return link_ == Link::up;
}

bool Session::is_stopped() {
  const std::lock_guard lock(m_);
  return stopping_;
}

wire::Joined Session::joined() {
  const std::lock_guard lock(m_);
  return joined_;
}

// --- who reads -----------------------------------------------------------------------------------------------------------

void Session::wake_background_reader() {
  if (background_reads_) signal_event(bg_event_.get());
}

void Session::release_reader() {
  if (reading_) return;
  if (!waiters_.empty()) return waiters_.wake_first();
  if (others_read()) return quiet_waiters_.wake_first();
  if (!has_background_ || background_due_ || stopping_) return;
  itimerspec soon{};
  soon.it_value.tv_nsec = kLendTimeNs;
  background_due_ = timerfd_settime(bg_timer_.get(), 0, &soon, nullptr) == 0;
}

bool Session::others_read() const { return !waiters_.empty() || (!quiet_waiters_.empty() && may_read_quietly()); }

void Session::run_background() {
  std::unique_lock lock(m_);
  while (!stopping_) {
    if (!reading_ && !others_read()) {
      reading_ = background_reads_ = true;
      lock.unlock();
      pollfd fds[2] = {{poll_fd_.get(), POLLIN, 0}, {bg_event_.get(), POLLIN, 0}};
      (void)poll(fds, 2, -1);
      if (fds[1].revents != 0) drain_event(bg_event_.get());
      if (fds[0].revents != 0) read_messages();
      lock.lock();
      reading_ = background_reads_ = false;
      if (!waiters_.empty()) waiters_.wake_first();
      else if (others_read()) quiet_waiters_.wake_first();
    } else {
      lock.unlock();
      pollfd fds[2] = {{bg_timer_.get(), POLLIN, 0}, {bg_event_.get(), POLLIN, 0}};
      (void)poll(fds, 2, -1);
      if (fds[1].revents != 0) drain_event(bg_event_.get());
      lock.lock();
      if (fds[0].revents != 0) {
        drain_event(bg_timer_.get());
        background_due_ = false;
      }
    }
  }
}

Status Session::dispatch() {
  GECKO_CHECK(usable());
  if (in_callback()) return make_error(Errc::busy, "dispatch() was called from inside a callback of the library");
  std::unique_lock lock(m_);
  if (reading_ || stopping_) return {};
  reading_ = true;
  lock.unlock();
  read_messages();
  lock.lock();
  reading_ = false;
  release_reader();
  return {};
}

void Session::read_messages() {
  run_timers();
  if (!quiet_) {   // changes with the reader role only
    handle_deferred();
    look_at_first_bytes();
  }
  for (int turn = 0; turn < kReadsPerTurn; ++turn) {
    if (transport_.fd() < 0) return;
    broken_.reset();
    {
      const std::lock_guard lock(m_);
      transport_.cork();   // the answers to what comes together leave together
    }
    const auto got = transport_.receive([&](const wire::FrameView& frame, std::vector<Fd>& fds) { handle(frame, fds); });
    if (got && *got) {
      const std::lock_guard lock(m_);
      if (auto sent = transport_.flush(); !sent) hang_up();
    }
    if (!got) return lost(got.error());
    if (broken_) return lost(*std::exchange(broken_, std::nullopt));
    if (!*got) break;
  }
  const std::lock_guard lock(m_);
  if (auto sent = transport_.flush(); !sent) hang_up();
  update_poll();
}

// --- asking geckod -------------------------------------------------------------------------------------------------------

Status Session::join() {
  GECKO_CHECK(usable());
  {
    const std::lock_guard lock(m_);
    if (want_join_ && !left_) return {};
  }
  GECKO_TRY(const auto answer, ask(wire::ApiType::join, wire::Join{0, options_.group}, monotonic_now() + kAnswerTime));
  std::unique_lock lock(m_);
  want_join_ = true;
  tell_of_ports();
  // After leave() geckod has forgotten what this program listens on.
  if (std::exchange(left_, false))
    for (const Listener* listener : listeners_) (void)send(wire::ApiType::listens, wire::Listens{listener->port});
  look_at_room();
  if (!send(wire::ApiType::subscribe, wire::Done{})) return not_connected();
  (void)wait(lock, this, [&] { return members_.has_value() || link_ != Link::up || stopping_; }, monotonic_now() + kAnswerTime);
  return {};
}

Status Session::leave() {
  GECKO_TRY(const auto answer, ask(wire::ApiType::leave, wire::Leave{}, monotonic_now() + kAnswerTime));
  const std::lock_guard lock(m_);
  left_ = true;
  // Whom a policy was waiting for is decided about now: the application is about to send everybody on.
  const Time now = monotonic_now();
  for (auto& [fd, silent] : silent_) silences_.arm(silent.deadline, now, fd);
  if (!silent_.empty()) arm_timer();
  return {};
}

size_t Session::unaccepted() {
  const std::lock_guard lock(m_);
  return static_cast<size_t>(std::count_if(connections_.begin(), connections_.end(), [](const auto& c) { return !c.second.connection->exposed; }));
}

Result<std::vector<Candidate>> Session::members() {
  GECKO_CHECK(usable());
  const std::lock_guard lock(m_);
  if (!want_join_) return make_error(Errc::invalid, "call join() before members()");
  if (!members_ || link_ != Link::up) return not_connected();
  std::vector<Candidate> all;
  for (size_t i = 0; i < members_->size(); ++i)
    all.push_back({(*members_)[i], placement_ && i < placement_->members.size() ? placement_->members[i].weight : 1});
  return all;
}

Result<std::vector<Candidate>> Session::members_on(uint16_t port) {
  GECKO_TRY(auto all, members());
  const std::lock_guard lock(m_);
  for (size_t i = 0; i < all.size(); ++i)
    if (!serves(i, port)) all[i].applications = 0;
  return all;
}

// Lengths are limits of the protocol; a longer name is nobody's.
Status Session::is_name(const std::string& name, const char* what) {
  if (name.size() <= wire::kMaxName) return {};
  return make_error(Errc::invalid, "'" + name + "' is no " + what + "'s name: it has more than " + std::to_string(wire::kMaxName) + " bytes");
}

Status Session::set_contact(const std::string& node) {
  GECKO_CHECK(is_name(node, "node"));
  GECKO_TRY(const auto answer, ask(wire::ApiType::set_contact, wire::SetContact{0, node}, monotonic_now() + kAnswerTime));
  return {};
}

Status Session::set_recovery(uint16_t port, bool wanted) {
  GECKO_CHECK(usable());
  const std::lock_guard lock(m_);
  wants_recovery_[port] = wanted;
  if (want_join_ && link_ == Link::up) tell_of_ports();   // else with the next join
  return {};
}

Result<std::vector<wire::ClientOutcome>> Session::handoff_client(const Endpoint& client, const std::string& target) {
  GECKO_CHECK(is_name(target, "node"));
  GECKO_TRY(const auto answer, ask(wire::ApiType::handoff_client, wire::HandoffClient{0, client, target}, monotonic_now() + kClientTime));
  return std::move(answer->outcomes);
}

void Session::set_policy(std::shared_ptr<PolicyHolder> policy) {
  const std::lock_guard lock(m_);
  policy_.swap(policy);
}

// --- listening -----------------------------------------------------------------------------------------------------------

Result<Fd> Session::listen(uint16_t port, uint32_t backlog) {
  GECKO_CHECK(usable());
  {
    const std::lock_guard lock(m_);
    if (!want_join_) return make_error(Errc::invalid, "call join() before listening");
  }
  GECKO_TRY(const auto answer, ask(wire::ApiType::listen, wire::Listen{0, port, backlog}, monotonic_now() + kAnswerTime));
  if (!answer->fd) return make_error(Errc::internal, "geckod answered without the listening socket");
  return std::move(answer->fd);
}

void Session::add_listener(Listener& listener) {
  const std::lock_guard lock(m_);
  listeners_.push_back(&listener);
  if (!arrivals_.empty()) signal(listener, true);
}

void Session::remove_listener(Listener& listener) {
  const std::lock_guard lock(m_);
  listener.closed = true;
  std::erase(listeners_, &listener);
  waiters_.wake_all(&listener);
}

bool Session::belongs_to(const Listener& listener, const Connection& connection) const {
  const uint16_t port = connection.flow().local.port;
  if (listener.port == port) return true;
  return std::none_of(listeners_.begin(), listeners_.end(), [&](const Listener* l) { return l->port == port; });
}

ConnectionPtr Session::take_arrival(Listener& listener) {
  const std::lock_guard lock(m_);
  ConnectionPtr taken;
  bool more = false;
  for (auto at = arrivals_.begin(); at != arrivals_.end();) {
    if (!belongs_to(listener, **at)) {
      ++at;
    } else if (!taken) {
      taken = std::move(*at);
      at = arrivals_.erase(at);
      taken->exposed = true;
    } else {
      more = true;
      break;
    }
  }
  signal(listener, more);
  if (more) waiters_.wake_one(&listener);  // the wake-up for that one may have gone to us
  return taken;
}

void Session::signal(Listener& listener, bool arrivals) {
  if (listener.signalled == arrivals) return;
  listener.signalled = arrivals;
  if (arrivals) signal_event(listener.signal_fd);
  else drain_event(listener.signal_fd);
}

void Session::queue_arrival(ConnectionPtr connection) {
  connection->exposed = false;
  arrivals_.push_back(std::move(connection));
  for (Listener* listener : listeners_) {
    if (!belongs_to(*listener, *arrivals_.back())) continue;
    signal(*listener, true);
    waiters_.wake_one(listener);
  }
}

bool Session::wait_for_client(Listener& listener, int extra_fd, Time deadline) {
  std::unique_lock lock(m_);
  const auto there = [&] {
    return listener.closed || stopping_ ||
           std::any_of(arrivals_.begin(), arrivals_.end(), [&](const ConnectionPtr& c) { return belongs_to(listener, *c); });
  };
  return wait(lock, &listener, there, deadline, extra_fd);
}

Status Session::wait_settled(const Connection& connection, Time deadline) {
  GECKO_CHECK(usable());
  if (in_callback()) return make_error(Errc::busy, "a connection on its way cannot be waited for inside a callback of the library");
  std::unique_lock lock(m_);
  const bool settled = wait(lock, &connection, [&] { return connection.state() != Connection::State::yielding || stopping_; }, deadline);
  if (stopping_ && connection.state() == Connection::State::yielding) return make_error(Errc::closed, "the framework has been closed");
  if (!settled) return make_error(Errc::timeout, "the connection " + connection.flow().str() + " is still on its way");
  return {};
}

}  // namespace gecko::api
