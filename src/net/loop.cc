#include "net/loop.hh"

#include <sched.h>
#include <sys/epoll.h>

#include <algorithm>

namespace gecko::net {
namespace {

// Events taken from the kernel per round: enough that a busy node needs one call per batch, few enough (3 KiB) for the stack.
constexpr int kBatch = 256;
// The processes of a handoff work for less than this at a time; whoever holds the CPU longer has nothing to do with it.
constexpr Duration kCrowded = std::chrono::microseconds(500);
constexpr Duration kCrowdedFor = std::chrono::seconds(1);

timespec to_timespec(Duration d) {
  return {static_cast<time_t>(d.count() / 1'000'000'000), static_cast<long>(d.count() % 1'000'000'000)};
}

// Sleeps with nanosecond timeouts; an old container sandbox may hide epoll_pwait2 (ENOSYS, or EPERM): whole milliseconds, rounded up.
int sleep_for_events(int epoll, epoll_event* events, int max_events, const Duration* timeout) {
  timespec ts{};
  if (timeout != nullptr) ts = to_timespec(std::max(*timeout, Duration::zero()));
  const int n = epoll_pwait2(epoll, events, max_events, timeout != nullptr ? &ts : nullptr, nullptr);
  if (n >= 0 || (errno != ENOSYS && errno != EPERM)) return n;
  int timeout_ms = -1;
  if (timeout != nullptr) {
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(std::max(*timeout, Duration::zero())).count();
    timeout_ms = static_cast<int>(std::min<int64_t>(ms, 1'000'000));
  }
  return epoll_wait(epoll, events, max_events, timeout_ms);
}

}  // namespace

Loop::Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)), now_(monotonic_now()) {
  if (!epoll_) create_errno_ = errno;
}

Status Loop::watch(int fd, uint32_t epoll_events, Callback callback) {
  if (!epoll_) return os_error("epoll_create1", create_errno_);
  if (watches_.contains(fd)) return make_error(Errc::exists, "descriptor " + std::to_string(fd) + " is watched already");
  epoll_event event{};
  event.events = epoll_events;
  event.data.u64 = static_cast<uint64_t>(next_generation_) << 32 | static_cast<uint32_t>(fd);
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    if (errno == EPERM) return make_error(Errc::unsupported, "descriptor " + std::to_string(fd) + " cannot be waited for (a regular file or directory)");
    return os_error("watch descriptor " + std::to_string(fd));
  }
  watches_.emplace(fd, std::make_shared<Watch>(Watch{std::move(callback), next_generation_}));
  ++next_generation_;
  return {};
}

Status Loop::change(int fd, uint32_t epoll_events) {
  const auto found = watches_.find(fd);
  if (found == watches_.end()) return make_error(Errc::not_found, "descriptor " + std::to_string(fd) + " is not watched");
  epoll_event event{};
  event.events = epoll_events;
  event.data.u64 = static_cast<uint64_t>(found->second->generation) << 32 | static_cast<uint32_t>(fd);
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) return os_error("change the watch of descriptor " + std::to_string(fd));
  return {};
}

void Loop::unwatch(int fd) {
  const auto found = watches_.find(fd);
  if (found == watches_.end()) return;
  (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);  // fails only if the caller closed it first
  watches_.erase(found);
}

Loop::TimerId Loop::at(Time when, std::function<void()> callback) {
  const TimerId id = next_timer_++;
  timers_.emplace(std::pair(when, id), std::move(callback));
  timer_times_.emplace(id, when);
  return id;
}

void Loop::cancel(TimerId id) {
  const auto found = timer_times_.find(id);
  if (found == timer_times_.end()) return;
  // The callback may own whoever cancels: it is destroyed last.
  const auto node = timers_.extract(std::pair(found->second, id));
  timer_times_.erase(found);
}

void Loop::defer(std::function<void()> callback) { deferred_.push_back(std::move(callback)); }

void Loop::defer_first(std::function<void()> callback) { deferred_first_.push_back(std::move(callback)); }

void Loop::spin_until(Time until) {
  if (until > crowded_until_) spin_until_ = std::max(spin_until_, until);
}

void Loop::stop() { stopped_ = true; }

void Loop::run() {
  stopped_ = false;
  while (!stopped_) run_once(Duration::max());
}

int Loop::wait(Time deadline, bool forever, epoll_event* events, int max_events) {
  for (Time now = monotonic_now(); now < spin_until_; now = monotonic_now()) {
    const int n = epoll_wait(epoll_.get(), events, max_events, 0);
    if (n != 0 || (!forever && now >= deadline)) return n;
    const Time before = monotonic_now();
    sched_yield();
    const Time after = monotonic_now();
    if (after - before > kCrowded) {
      spin_until_ = after;
      crowded_until_ = after + kCrowdedFor;
    }
  }
  if (forever) return sleep_for_events(epoll_.get(), events, max_events, nullptr);
  const Duration left = deadline - monotonic_now();
  return sleep_for_events(epoll_.get(), events, max_events, &left);
}

void Loop::run_once(Duration timeout) {
  if (!deferred_first_.empty() || !deferred_.empty()) run_deferred();  // deferred between rounds: from outside, or by deferred work
  now_ = monotonic_now();
  bool forever = timeout > std::chrono::hours(24 * 365);
  Time deadline = forever ? now_ : now_ + std::max(timeout, Duration::zero());
  if (!timers_.empty() && (forever || timers_.begin()->first.first < deadline)) {
    deadline = timers_.begin()->first.first;
    forever = false;
  }
  if (!deferred_first_.empty() || !deferred_.empty() || stopped_) {
    deadline = now_;
    forever = false;
  }
  epoll_event events[kBatch];
  int n = 0;
  if (epoll_) {
    n = wait(deadline, forever, events, kBatch);
    GECKO_ASSERT(n >= 0 || errno == EINTR);  // anything else: somebody closed our descriptor
  } else {
    // No descriptor can be watched, timers still run.
    const timespec ts = to_timespec(std::clamp<Duration>(deadline - now_, Duration::zero(), std::chrono::seconds(1)));
    clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, nullptr);
  }
  now_ = monotonic_now();
  for (int i = 0; i < n; ++i) {
    const auto found = watches_.find(static_cast<int>(static_cast<uint32_t>(events[i].data.u64)));
    if (found == watches_.end() || found->second->generation != events[i].data.u64 >> 32) continue;  // removed earlier in this batch
    const auto watch = found->second;  // keeps the callback alive if it removes itself
    watch->callback(events[i].events);
    run_first();
  }
  fire_timers();
  run_deferred();
}

void Loop::fire_timers() {
  std::vector<std::pair<Time, TimerId>> due;  // a timer set by a timer, even in the past, waits for the next round
  for (auto it = timers_.begin(); it != timers_.end() && it->first.first <= now_; ++it) due.push_back(it->first);
  for (const auto& key : due) {
    const auto node = timers_.extract(key);
    if (node.empty()) continue;  // cancelled by an earlier one
    timer_times_.erase(key.second);
    node.mapped()();
    run_first();
  }
}

void Loop::run_first() {
  while (!deferred_first_.empty()) {
    std::vector<std::function<void()>> batch;
    batch.swap(deferred_first_);
    for (const auto& callback : batch) callback();
  }
}

void Loop::run_deferred() {
  std::vector<std::function<void()>> batch;
  batch.swap(deferred_);
  run_first();
  for (const auto& callback : batch) {
    callback();
    run_first();
  }
}

}  // namespace gecko::net
