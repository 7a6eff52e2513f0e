// The connection to geckod: greeting, losing it, finding it again.
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>

#include "api/descriptors.hh"
#include "api/session.hh"

namespace gecko::api {
namespace {

// The first attempt after a loss comes at once (an upgrade takes some 100 ms), then twice as long each time. A handoff to this node cannot
// succeed before we are back; ten failing connect() calls a second cost nothing.
constexpr Duration kFirstRetry = std::chrono::milliseconds(10);
constexpr Duration kLastRetry = std::chrono::milliseconds(100);
// geckod's privileged half thaws what was on its way as soon as it notices that the other half has gone. We look every kThawStep, first
// after that time too: a freeze that was under way must not meet a connection already given back.
constexpr Duration kThawStep = std::chrono::milliseconds(20);
// What it had committed stays frozen until the next geckod has heard from the acceptor (core/handoff.hh, give_up).
constexpr Duration kThawPatience = std::chrono::seconds(20);
// Too many descriptors under way: geckod receives one in a few microseconds.
constexpr Duration kThrottle = std::chrono::milliseconds(1);
// An arrival that this process has no descriptor for waits in the socket.
constexpr Duration kCrowded = std::chrono::milliseconds(10);
// Descriptors that are not offered to geckod: for the application's own files, and for letting connections go.
constexpr size_t kSpareDescriptors = 8;
// With so few left they are counted again every kRoomStep, otherwise after so many new connections.
constexpr size_t kScarce = 64;
constexpr Duration kRoomStep = std::chrono::milliseconds(100);

}  // namespace

Error Session::not_connected() const {
  return make_error(Errc::unavailable, "not connected to geckod at " + options_.socket + (last_error_.message.empty() ? "" : " (" + last_error_.message + ")") +
                                           "; it is tried again and again");
}

void Session::update_poll() {
  if (transport_.throttled() && flush_at_ == Time::max()) {
    flush_at_ = monotonic_now() + kThrottle;
    arm_timer();
  }
  if (transport_.crowded() && crowded_at_ == Time::max()) {
    crowded_at_ = monotonic_now() + kCrowded;
    arm_timer();
  }
  const bool writes = transport_.blocked() && !transport_.throttled();
  const uint32_t wanted = transport_.fd() < 0 || transport_.crowded() ? 0u : writes ? EPOLLIN | EPOLLOUT : EPOLLIN;
  if (wanted == polled_ || transport_.fd() < 0) return;
  epoll_event event{};
  event.events = wanted;
  (void)epoll_ctl(poll_fd_.get(), polled_ == 0 ? EPOLL_CTL_ADD : wanted == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, transport_.fd(), &event);
  polled_ = wanted;
}

// Tells geckod how many connections may come: it refuses a move while the donor still has the connection.
void Session::look_at_room() {
  room_at_ = Time::max();
  taken_since_look_ = 0;
  const auto free = free_descriptors();
  if (!free || link_ != Link::up || !want_join_) return;
  const uint64_t room = arrived_ + (*free > kSpareDescriptors ? *free - kSpareDescriptors : 0);
  look_after_ = std::clamp<size_t>(*free / 8, 1, kScarce);
  if (*free < kScarce * 2) {
    room_at_ = monotonic_now() + kRoomStep;
    arm_timer();
  }
  if (room == told_room_) return;
  told_room_ = room;
  (void)send(wire::ApiType::room, wire::Room{room});
}

void Session::took_descriptor() {
  if (++taken_since_look_ >= look_after_) look_at_room();
}

void Session::hang_up() {
  if (transport_.fd() >= 0) (void)shutdown(transport_.fd(), SHUT_RDWR);
}

void Session::greet() {
  ++incarnation_;
  arrived_ = 0;
  told_room_.reset();
  link_ = Link::greeting;
  wire::ApiHello hello;
  hello.program = options_.program.substr(0, 64);
  (void)send(wire::ApiType::hello, hello);
}

void Session::rejoin() {
  link_ = Link::joining;
  join_request_ = next_request_++;
  (void)send(wire::ApiType::join, wire::Join{join_request_, options_.group});
}

void Session::tell_of_ports() {
  if (version_ < 3) return;
  for (const auto& [port, wanted] : wants_recovery_) (void)send(wire::ApiType::recovery, wire::AppRecovery{port, wanted});
  if (version_ < 4) return;
  for (const auto& [port, wanted] : wants_replication_) (void)send(wire::ApiType::replication, wire::AppReplication{port, wanted});
}

void Session::rejoined() {
  link_ = Link::up;
  reconnect_wait_ = Duration::zero();
  transport_.cork();
  look_at_room();
  (void)send(wire::ApiType::subscribe, wire::Done{});
  tell_of_ports();
  for (const Listener* listener : listeners_) (void)send(wire::ApiType::listens, wire::Listens{listener->port});
  for (auto& [id, known] : connections_) announce_locked(known);
  offer_orphans();
  if (left_) (void)send(wire::ApiType::leave, wire::Leave{next_request_++});
  if (!transport_.flush()) hang_up();
  update_poll();
  waiters_.wake_all();
  quiet_waiters_.wake_all();   // this geckod may be an older one, which replicates nothing
}

// This geckod's predecessor is all gone: what it left frozen, nobody else will thaw.
void Session::offer_orphans() {
  std::erase_if(orphans_, [this](const TransferPtr& transfer) {
    const Connection& c = *transfer->connection;
    if (!c.in_repair()) return false;   // settle_orphans() gives it back
    transfer->request = 0;
    transfer->attempts_left = 0;
    transfers_[c.id()] = transfer;
    (void)send_opened(wire::ApiType::orphan, c, transfer->fd);
    return true;
  });
}

void Session::try_connect() {
  auto socket = connect_daemon(options_.socket);
  const std::lock_guard lock(m_);
  if (!socket) {
    last_error_ = std::move(socket.error());
    reconnect_wait_ = std::clamp(reconnect_wait_ * 2, kFirstRetry, kLastRetry);
    reconnect_at_ = monotonic_now() + reconnect_wait_;
    return;
  }
  transport_.attach(std::move(*socket));
  greet();
}

void Session::lost(Error why) {
  Fd old;
  std::vector<TransferPtr> stranded;
  {
    const std::lock_guard lock(m_);
    if (link_ == Link::down && transport_.fd() < 0) return;
    // What geckod said itself (error 0) tells more than the end of the connection that follows.
    const bool refused = link_ != Link::up && why.code == Errc::unavailable && !last_error_.message.empty();
    if (!refused) last_error_ = std::move(why);
    if (transport_.fd() >= 0) (void)epoll_ctl(poll_fd_.get(), EPOLL_CTL_DEL, transport_.fd(), nullptr);
    polled_ = 0;
    old = transport_.detach();
    const bool never_up = link_ == Link::greeting && incarnation_ == 1;
    link_ = Link::down;
    placement_.reset();   // the next geckod may be an older one
    const Error gone = not_connected();
    for (auto& [number, request] : requests_) {
      request->error = gone;
      request->done = true;
    }
    requests_.clear();
    for (auto& [id, transfer] : transfers_) orphans_.push_back(transfer);
    transfers_.clear();
    deferred_.clear();
    const Time now = monotonic_now();
    if (!orphans_.empty()) {
      orphans_at_ = now + kThawStep;
      orphans_until_ = now + kThawPatience;
    }
    if (!stopping_ && !never_up) {
      reconnect_wait_ = std::clamp(reconnect_wait_ * 2, kFirstRetry, kLastRetry);
      reconnect_at_ = now + reconnect_wait_;
    }
    arm_timer();
    waiters_.wake_all();
  }
}

void Session::arm_timer() {
  Time next = std::min({reconnect_at_, orphans_at_, flush_at_, crowded_at_, room_at_});
  if (!quiet_) next = std::min(next, deferred_.empty() ? silences_.next() : Time{});   // both call the application
  itimerspec when{};
  if (next != Time::max()) {
    const auto since_boot = std::max<Duration>(next.time_since_epoch(), Duration(1));
    when.it_value.tv_sec = static_cast<time_t>(since_boot.count() / 1'000'000'000);
    when.it_value.tv_nsec = static_cast<long>(since_boot.count() % 1'000'000'000);
  }
  (void)timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

void Session::run_timers() {
  bool connect_now = false, settle_now = false;
  {
    const std::lock_guard lock(m_);
    const Time next = std::min({reconnect_at_, orphans_at_, flush_at_, crowded_at_, room_at_});
    if (next == Time::max()) return;
    const Time now = monotonic_now();
    connect_now = now >= reconnect_at_;
    settle_now = now >= orphans_at_;
    const bool flush_now = now >= flush_at_;  // read_messages() does it
    if (now < next) return;
    if (flush_now) flush_at_ = Time::max();
    if (now >= crowded_at_) crowded_at_ = Time::max();  // read_messages() looks again
    if (now >= room_at_) look_at_room();
    if (connect_now) reconnect_at_ = Time::max();
    if (settle_now) orphans_at_ = Time::max();
  }
  if (settle_now) settle_orphans();
  if (connect_now) try_connect();
  const std::lock_guard lock(m_);
  arm_timer();
}

// Connections whose move was cut short by geckod's end.
void Session::settle_orphans() {
  std::vector<TransferPtr> orphans;
  bool patient = false;
  {
    const std::lock_guard lock(m_);
    orphans.swap(orphans_);
    patient = !stopping_ && monotonic_now() < orphans_until_;
  }
  std::vector<TransferPtr> later;
  for (const TransferPtr& transfer : orphans) {
    const bool frozen = transfer->connection->in_repair(), retired = !frozen && transfer->connection->is_retired();
    if (!frozen && !retired) {
      finish(transfer, make_error(Errc::unavailable, "geckod ended in the middle of the move; the connection goes on here"));
    } else if (frozen && patient) {
      later.push_back(transfer);
    } else {
      // Frozen for good, or ended silently: ownership had left, the connection lives where it was going, or nowhere. Closing it here is silent.
      const Error error = make_error(Errc::closed, "geckod ended while " + transfer->connection->flow().str() +
                                                       " was being handed over; it is silent here and may live on the other node");
      lose(transfer, error);
    }
  }
  if (later.empty()) return;
  const std::lock_guard lock(m_);
  orphans_.insert(orphans_.end(), later.begin(), later.end());
  orphans_at_ = monotonic_now() + kThawStep;
}

}  // namespace gecko::api
