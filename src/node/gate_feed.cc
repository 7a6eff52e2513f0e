#include "node/gate_feed.hh"

#include <fcntl.h>
#include <sys/epoll.h>

#include <algorithm>

#include "base/log.hh"

namespace gecko::node {
namespace {

Result<Fd> copy(const Fd& fd) {
  Fd other(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!other) return os_error("duplicate a descriptor of the gate");
  return other;
}

}  // namespace

Result<std::unique_ptr<GateFeed>> GateFeed::open(net::Loop& loop, Descriptors d, Duration interval, Events events) {
  GECKO_TRY(auto leases, bpf::LeaseTable::map(d.leases));
  GECKO_TRY(auto births, bpf::BirthReader::open(d.births));
  GECKO_TRY(Fd rounds, copy(d.rounds));
  GECKO_TRY(auto moved, bpf::MovedReader::open(d.moved, std::move(rounds)));
  std::unique_ptr<GateFeed> feed(
      new GateFeed(loop, std::move(d), interval, std::move(events), std::move(leases), std::move(births), std::move(moved)));
  for (const int fd : {feed->births_.fd(), feed->moved_.fd()}) GECKO_CHECK(loop.watch(fd, EPOLLIN, [f = feed.get()](uint32_t) { f->look_soon(); }));
  return feed;
}

GateFeed::GateFeed(net::Loop& loop, Descriptors d, Duration interval, Events events, bpf::LeaseTable leases, bpf::BirthReader births,
                   bpf::MovedReader moved)
    : loop_(loop),
      descriptors_(std::move(d)),
      interval_(interval),
      events_(std::move(events)),
      table_(std::move(descriptors_.table), std::move(descriptors_.setter)),
      leases_(std::move(leases)),
      births_(std::move(births)),
      moved_(std::move(moved)) {}

GateFeed::~GateFeed() {
  *alive_ = false;
  loop_.unwatch(births_.fd());
  loop_.unwatch(moved_.fd());
}

void GateFeed::look_soon() {
  if (std::exchange(due_, true)) return;
  // What comes meanwhile is seen then: no wake-up for it.
  (void)loop_.change(births_.fd(), 0);
  (void)loop_.change(moved_.fd(), 0);
  const std::weak_ptr<bool> alive = alive_;
  loop_.at(std::max(loop_.now(), looked_ + interval_), [this, alive] {
    if (!alive.expired()) look();
  });
}

void GateFeed::look() {
  due_ = false;
  looked_ = loop_.now();
  catch_up();
  if (auto ok = moved_.collect([this](const Flow& flow) { events_.moved(flow); }); !ok) log_error(ok.error().message);
  events_.looked();
  if (due_) return;
  (void)loop_.change(births_.fd(), EPOLLIN);
  (void)loop_.change(moved_.fd(), EPOLLIN);
}

void GateFeed::catch_up() {
  if (auto ok = births_.read([this](const bpf::Birth& birth) { events_.born(birth); }); !ok) log_error(ok.error().message);
}

}  // namespace gecko::node
