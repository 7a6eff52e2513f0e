#include "kit/swarm.hh"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include <algorithm>

namespace gecko::kit {

Result<std::unique_ptr<Swarm>> Swarm::start(std::function<Status()> enter) {
  std::unique_ptr<Swarm> swarm(new Swarm());
  swarm->wake_ = Fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!swarm->wake_) return os_error("eventfd");
  std::promise<Status> started;
  auto ready = started.get_future();
  swarm->thread_ =
      std::thread([s = swarm.get(), enter = std::move(enter), started = std::move(started)]() mutable { s->run(enter, std::move(started)); });
  GECKO_CHECK(ready.get());
  return swarm;
}

Swarm::~Swarm() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  (void)eventfd_write(wake_.get(), 1);
  thread_.join();
}

void Swarm::run(const std::function<Status()>& enter, std::promise<Status> started) {
  // The default slack of 50 us would show in every measured pause.
  (void)prctl(PR_SET_TIMERSLACK, 1000ul);
  if (enter) {
    if (auto ok = enter(); !ok) return started.set_value(ok);
  }
  loop_ = std::make_unique<net::Loop>();
  const Status watched = loop_->watch(wake_.get(), EPOLLIN, [this](uint32_t) {
    eventfd_t count = 0;
    (void)eventfd_read(wake_.get(), &count);
    std::vector<std::packaged_task<void()>> now;
    bool stop = false;
    {
      const std::lock_guard lock(mutex_);
      now.swap(tasks_);
      stop = stop_;
    }
    for (auto& task : now) task();
    if (stop) loop_->stop();
  });
  started.set_value(watched);
  if (!watched) return;
  loop_->run();
  clients_.clear();
  loop_.reset();
}

void Swarm::call(const std::function<void()>& work) {
  GECKO_ASSERT(std::this_thread::get_id() != thread_.get_id());
  std::packaged_task<void()> task(work);
  auto done = task.get_future();
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  (void)eventfd_write(wake_.get(), 1);
  done.get();
}

Totals Swarm::totals() {
  Totals all;
  call([&] {
    for (const auto& client : clients_) all += client->totals();
  });
  return all;
}

size_t Swarm::open_connections() {
  size_t open = 0;
  call([&] { open = static_cast<size_t>(std::count_if(clients_.begin(), clients_.end(), [](const auto& c) { return !c->done(); })); });
  return open;
}

std::vector<Endpoint> Swarm::local_endpoints() {
  std::vector<Endpoint> all;
  call([&] {
    for (const auto& client : clients_)
      if (client->connected()) all.push_back(client->local());
  });
  return all;
}

size_t Swarm::without_progress() {
  size_t still = 0;
  call([&] {
    bytes_before_.resize(clients_.size());
    for (size_t i = 0; i < clients_.size(); ++i) {
      const auto totals = clients_[i]->totals();
      const uint64_t bytes = totals.bytes_sent + totals.bytes_received;
      if (!clients_[i]->done() && bytes == bytes_before_[i]) ++still;
      bytes_before_[i] = bytes;
    }
  });
  return still;
}

template <class Condition>
bool Swarm::wait_for(Duration at_most, Condition condition) {
  const Time deadline = monotonic_now() + at_most;
  for (;;) {
    bool met = false;
    call([&] { met = condition(); });
    if (met) return true;
    if (monotonic_now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

Status Swarm::wait_connected(Duration at_most) {
  Totals all;
  size_t waiting = 0;
  const bool settled = wait_for(at_most, [&] {
    all = {};
    waiting = 0;
    for (const auto& client : clients_) {
      all += client->totals();
      if (!client->has_been_connected() && !client->done()) ++waiting;
    }
    return waiting == 0 || all.lost() > 0;
  });
  if (all.lost() > 0) return make_error(Errc::unavailable, all.first_failure);
  if (!settled) return make_error(Errc::timeout, std::to_string(waiting) + " connections are still not established");
  return {};
}

Totals Swarm::wind_down(Duration at_most) {
  call([&] {
    for (const auto& client : clients_)
      if (!client->done()) client->wind_down();
  });
  (void)wait_for(at_most, [&] { return std::all_of(clients_.begin(), clients_.end(), [](const auto& c) { return c->done(); }); });
  call([&] {
    for (const auto& client : clients_) client->give_up();
  });
  return totals();
}

}  // namespace gecko::kit
