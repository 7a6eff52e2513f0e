#include "api/waiter.hh"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

namespace gecko::api {
namespace {

// A thread without an eventfd cannot be woken: it looks around this often.
constexpr auto kBlindStep = std::chrono::milliseconds(10);

std::atomic<unsigned> g_generation{0};

// The eventfd of the thread that forked is shared with the parent, and a wake-up stolen here would be missed there.
thread_local unsigned t_generation = 0;

int watch_forks() { return pthread_atfork(nullptr, nullptr, [] { g_generation.fetch_add(1, std::memory_order_relaxed); }); }
[[maybe_unused]] const int g_watching_forks = watch_forks();

}  // namespace

unsigned fork_generation() { return g_generation.load(std::memory_order_relaxed); }

Waiter& Waiter::mine() {
  thread_local Waiter waiter;
  if (waiter.fd_ >= 0 && t_generation != fork_generation()) {
    ::close(waiter.fd_);
    waiter.fd_ = -1;
  }
  if (waiter.fd_ < 0) waiter.fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  t_generation = fork_generation();
  return waiter;
}

Waiter::~Waiter() {
  if (fd_ >= 0) ::close(fd_);
}

void Waiter::sleep(pollfd* fds, size_t count, Time deadline) {
  pollfd all[4];
  count = std::min<size_t>(count, 3);
  std::copy_n(fds, count, all);
  all[count] = {fd_, POLLIN, 0};
  timespec timeout{};
  const timespec* limit = nullptr;
  if (deadline != Time::max() || fd_ < 0) {
    auto left = std::max(Duration::zero(), deadline == Time::max() ? Duration::max() : deadline - monotonic_now());
    if (fd_ < 0) left = std::min<Duration>(left, kBlindStep);
    timeout.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000);
    timeout.tv_nsec = static_cast<long>(left.count() % 1'000'000'000);
    limit = &timeout;
  }
  const int ready = ppoll(all, count + 1, limit, nullptr);
  for (size_t i = 0; i < count; ++i) fds[i].revents = ready > 0 ? all[i].revents : 0;
  if (ready > 0 && all[count].revents != 0) {
    uint64_t ignored = 0;
    (void)!::read(fd_, &ignored, sizeof ignored);
  }
}

void Waiter::wake() const {
  const uint64_t one = 1;
  if (fd_ >= 0) (void)!::write(fd_, &one, sizeof one);
}

void WaitList::remove(Waiter& waiter) {
  const auto at = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.waiter == &waiter; });
  if (at != entries_.end()) entries_.erase(at);
}

void WaitList::wake_all() const {
  for (const Entry& e : entries_) e.waiter->wake();
}

void WaitList::wake_all(const void* key) const {
  for (const Entry& e : entries_)
    if (e.key == key) e.waiter->wake();
}

void WaitList::wake_one(const void* key) const {
  const auto at = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.key == key; });
  if (at != entries_.end()) at->waiter->wake();
}

Time deadline_after_ms(int timeout_ms) { return timeout_ms < 0 ? Time::max() : monotonic_now() + std::chrono::milliseconds(timeout_ms); }

ErrnoKeeper::ErrnoKeeper() : saved_(errno) {}
ErrnoKeeper::~ErrnoKeeper() { errno = saved_; }

}  // namespace gecko::api
