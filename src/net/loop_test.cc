#include "net/loop.hh"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

namespace gecko::net {
namespace {

using std::chrono::milliseconds;

Fd event_fd() { return Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }
void poke(const Fd& fd) { ASSERT_EQ(eventfd_write(fd.get(), 1), 0); }

TEST(Loop, CallsReadyDescriptorsAndOnlyThose) {
  Loop loop;
  const Fd a = event_fd(), b = event_fd();
  int a_calls = 0, b_calls = 0;
  ASSERT_TRUE(loop.watch(a.get(), EPOLLIN, [&](uint32_t e) { a_calls += (e & EPOLLIN) != 0; }));
  ASSERT_TRUE(loop.watch(b.get(), EPOLLIN, [&](uint32_t) { ++b_calls; }));
  poke(a);
  loop.run_once(milliseconds(1000));
  EXPECT_EQ(a_calls, 1);
  EXPECT_EQ(b_calls, 0);
  ASSERT_TRUE(loop.change(a.get(), 0));
  loop.run_once(milliseconds(0));
  EXPECT_EQ(a_calls, 1);
}

TEST(Loop, ErrorsNameTheDescriptor) {
  Loop loop;
  const Fd a = event_fd();
  ASSERT_TRUE(loop.watch(a.get(), EPOLLIN, [](uint32_t) {}));
  const auto twice = loop.watch(a.get(), EPOLLIN, [](uint32_t) {});
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().code, Errc::exists);
  EXPECT_FALSE(loop.watch(987654, EPOLLIN, [](uint32_t) {}));
  EXPECT_FALSE(loop.change(987654, EPOLLIN));
  loop.unwatch(987654);
  FILE* file = tmpfile();
  const auto regular = loop.watch(fileno(file), EPOLLIN, [](uint32_t) {});
  ASSERT_FALSE(regular);
  EXPECT_EQ(regular.error().code, Errc::unsupported);
  fclose(file);
}

TEST(Loop, ACallbackMayRemoveItselfAndOthersOfTheSameBatch) {
  Loop loop;
  const Fd a = event_fd(), b = event_fd();
  int calls = 0;
  const auto guard = std::make_shared<int>(7);
  const auto callback = [&, guard](uint32_t) {
    ++calls;
    loop.unwatch(a.get());
    loop.unwatch(b.get());
    EXPECT_EQ(*guard, 7);  // the capture is still alive
  };
  ASSERT_TRUE(loop.watch(a.get(), EPOLLIN, callback));
  ASSERT_TRUE(loop.watch(b.get(), EPOLLIN, callback));
  poke(a);
  poke(b);
  loop.run_once(milliseconds(1000));
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(loop.watched(), 0u);
}

TEST(Loop, AReusedDescriptorNumberDoesNotGetItsPredecessorsEvents) {
  Loop loop;
  Fd a = event_fd(), b = event_fd();
  int old_calls = 0, new_calls = 0;
  Fd fresh;
  const auto swap_other = [&](Fd& mine, Fd& other) {
    (void)mine;
    ++old_calls;
    const int number = other.get();
    loop.unwatch(number);
    other.reset();
    const Fd any = event_fd();
    ASSERT_EQ(dup3(any.get(), number, O_CLOEXEC), number == any.get() ? -1 : number);
    fresh = number == any.get() ? event_fd() : Fd(number);
    ASSERT_TRUE(loop.watch(fresh.get(), EPOLLIN, [&](uint32_t) { ++new_calls; }));
  };
  ASSERT_TRUE(loop.watch(a.get(), EPOLLIN, [&](uint32_t) { if (old_calls == 0) swap_other(a, b); }));
  ASSERT_TRUE(loop.watch(b.get(), EPOLLIN, [&](uint32_t) { if (old_calls == 0) swap_other(b, a); }));
  poke(a);
  poke(b);
  loop.run_once(milliseconds(1000));
  EXPECT_EQ(old_calls, 1);
  EXPECT_EQ(new_calls, 0);
}

TEST(Loop, TimersFireInOrderOnceAndCanBeCancelled) {
  Loop loop;
  std::string order;
  const Time start = monotonic_now();
  loop.at(start + milliseconds(4), [&] { order += 'c'; });
  loop.at(start + milliseconds(2), [&] { order += 'a'; });
  loop.at(start + milliseconds(2), [&] { order += 'b'; });
  const auto dead = loop.at(start + milliseconds(3), [&] { order += 'x'; });
  loop.cancel(dead);
  loop.cancel(dead);
  loop.cancel(0);
  while (order.size() < 3 && monotonic_now() < start + std::chrono::seconds(5)) loop.run_once(milliseconds(100));
  EXPECT_EQ(order, "abc");
  EXPECT_GE(monotonic_now() - start, milliseconds(4));
}

TEST(Loop, ATimerMayCancelItsNeighbourAndSetItselfAgainWithoutStarvingTheLoop) {
  Loop loop;
  int fired = 0, other = 0;
  Loop::TimerId neighbour = 0;
  std::function<void()> again = [&] {
    ++fired;
    loop.cancel(neighbour);
    loop.at(Time{}, again);
  };
  loop.at(Time{}, again);
  neighbour = loop.at(Time{}, [&] { ++other; });
  for (int i = 0; i < 5; ++i) loop.run_once(milliseconds(1000));
  EXPECT_EQ(fired, 5);
  EXPECT_EQ(other, 0);
}

TEST(Loop, TimersAreNotLate) {
  Loop loop;
  Time fired{};
  const Time due = monotonic_now() + std::chrono::microseconds(300);
  loop.at(due, [&] { fired = monotonic_now(); });
  while (fired == Time{}) loop.run_once(std::chrono::seconds(5));
  EXPECT_GE(fired, due);
  EXPECT_LT(fired - due, milliseconds(200));  // a busy machine; normally about 60 us
}

TEST(Loop, DeferredWorkRunsAfterTheBatchOnce) {
  Loop loop;
  const Fd a = event_fd(), b = event_fd();
  std::string order;
  for (const Fd* fd : {&a, &b})
    ASSERT_TRUE(loop.watch(fd->get(), EPOLLIN | EPOLLET, [&](uint32_t) {
      order += 'e';
      loop.defer([&] { order += 'd'; });
    }));
  poke(a);
  poke(b);
  loop.run_once(milliseconds(1000));
  EXPECT_EQ(order, "eedd");
}

TEST(Loop, DeferredByDeferredRunsWithoutASleep) {
  Loop loop;
  int step = 0;
  loop.defer([&] { step = 1; loop.defer([&] { step = 2; }); });
  const Time start = monotonic_now();
  loop.run_once(std::chrono::seconds(30));  // runs the first, must not sleep with the second pending
  loop.run_once(milliseconds(0));
  EXPECT_EQ(step, 2);
  EXPECT_LT(monotonic_now() - start, std::chrono::seconds(10));
}

TEST(Loop, StopEndsRun) {
  Loop loop;
  loop.at(monotonic_now() + milliseconds(1), [&] { loop.stop(); });
  loop.run();
  loop.defer([&] { loop.stop(); });  // before the first sleep
  loop.run();
}

TEST(Loop, SpinStillServesEventsTimersAndItsEnd) {
  Loop loop;
  const Fd a = event_fd();
  int events = 0, timers = 0;
  ASSERT_TRUE(loop.watch(a.get(), EPOLLIN | EPOLLET, [&](uint32_t) { ++events; }));
  const Time start = monotonic_now();
  loop.at(start + milliseconds(2), [&] { ++timers; poke(a); });
  loop.spin_until(start + milliseconds(10));
  while (events == 0) loop.run_once(std::chrono::seconds(5));
  EXPECT_EQ(timers, 1);
  loop.run_once(milliseconds(1));  // returns although the spin goes on
  loop.at(start + milliseconds(20), [&] { loop.stop(); });  // beyond the spin: sleeps, wakes
  loop.run();
  EXPECT_GE(monotonic_now() - start, milliseconds(20));
}

// Pinned to one CPU, two processes that spin on each other make progress only because the loop yields.
TEST(Loop, SpinYieldsToAPeerOnTheSameCpu) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
  Fd mine(pair[0]), theirs(pair[1]);
  cpu_set_t old_cpus, one_cpu;
  ASSERT_EQ(sched_getaffinity(0, sizeof old_cpus, &old_cpus), 0);
  CPU_ZERO(&one_cpu);
  for (size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &old_cpus)) { CPU_SET(cpu, &one_cpu); break; }
  constexpr int kRounds = 200;
  const auto bounce = [](int fd, bool first) {
    Loop loop;
    int rounds = 0;
    const Time deadline = monotonic_now() + std::chrono::seconds(20);
    loop.spin_until(deadline);
    (void)!loop.watch(fd, EPOLLIN, [&](uint32_t) {
      char byte = 0;
      if (read(fd, &byte, 1) != 1) return loop.stop();
      if (++rounds == kRounds) loop.stop();
      if (write(fd, &byte, 1) != 1) loop.stop();
    }).has_value();
    if (first && write(fd, "x", 1) != 1) return 0;
    loop.at(deadline, [&] { loop.stop(); });
    loop.run();
    return rounds;
  };
  ASSERT_EQ(sched_setaffinity(0, sizeof one_cpu, &one_cpu), 0);
  const Time start = monotonic_now();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(bounce(theirs.get(), false) == kRounds ? 0 : 1);
  EXPECT_EQ(bounce(mine.get(), true), kRounds);
  const Duration took = monotonic_now() - start;
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ASSERT_EQ(sched_setaffinity(0, sizeof old_cpus, &old_cpus), 0);
  EXPECT_LT(took, std::chrono::seconds(5));  // without the yield: one scheduler slice (3-4 ms) per hop
}

// What was deferred first has run when the next callback begins, whoever deferred something else before.
TEST(Loop, DeferredFirstRunsBeforeAnythingElse) {
  Loop loop;
  std::string order;
  loop.defer([&] {
    order += "a";
    loop.defer_first([&] { order += "1"; });
  });
  loop.defer([&] { order += "b"; });
  loop.at(loop.now(), [&] {
    order += "t";
    loop.defer_first([&] { order += "2"; });
  });
  loop.at(loop.now(), [&] { order += "u"; });
  loop.run_once(Duration::zero());
  loop.run_once(Duration::zero());
  EXPECT_EQ(order, "a1bt2u");
  loop.defer_first([&] { order += "3"; });   // from outside: the round does not sleep
  loop.run_once(std::chrono::seconds(5));
  EXPECT_EQ(order, "a1bt2u3");
}

}  // namespace
}  // namespace gecko::net
