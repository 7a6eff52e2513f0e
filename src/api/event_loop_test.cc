// Event-loop mode: no thread, everything in the application's epoll.
#include <gmock/gmock.h>
#include <sys/epoll.h>

#include <filesystem>

#include "api/test_group.hh"

namespace gecko::test {
namespace {

size_t threads() {
  size_t n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) ++n;
  return n;
}

class EventLoop : public testing::Test {
 protected:
  Group group;
  FakeGeckod& n1 = group.node("n1");
  FakeGeckod& n2 = group.node("n2");
  Framework one = group.join("n1", true);
  Framework two = group.join("n2", true);
  ServerSocket server = group.listen(one), other = group.listen(two);
  Fd epoll{epoll_create1(EPOLL_CLOEXEC)};
  void SetUp() override {
    server.set_blocking(false);
    other.set_blocking(false);
    add(one.fd(), 1);
    add(two.fd(), 2);
    add(server.fd(), 3);
    add(other.fd(), 4);
  }
  void add(int fd, uint64_t key) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = key;
    ASSERT_EQ(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event), 0);
  }
  // Runs the loop until an event for `key` comes; its events, 0 if none comes within the time.
  uint32_t run_until(uint64_t key, std::chrono::milliseconds limit = std::chrono::seconds(5)) {
    for (const Time end = monotonic_now() + limit; monotonic_now() < end;) {
      epoll_event event{};
      if (epoll_wait(epoll.get(), &event, 1, 10) != 1) continue;
      const bool dispatched = event.data.u64 == 1 ? one.dispatch().has_value() : event.data.u64 == 2 ? two.dispatch().has_value() : true;
      EXPECT_TRUE(dispatched);
      if (event.data.u64 == key) return event.events;
    }
    return 0;
  }
  Result<Socket> accept_from(ServerSocket& s, uint64_t key) {
    for (;;) {
      auto socket = s.accept();
      if (socket || socket.error().code != Errc::again) return socket;
      if (run_until(key) == 0) return make_error(Errc::timeout, "nobody came");
    }
  }
};

TEST(EventLoopMode, StartsNoThread) {
  Group group;
  FakeGeckod& n1 = group.node("n1");
  (void)n1;
  const size_t before = threads();
  Framework framework = group.join("n1", true);
  ServerSocket server = group.listen(framework);
  EXPECT_EQ(threads(), before);
  Framework other = group.open("n1");
  EXPECT_EQ(threads(), before + 1);
}

TEST_F(EventLoop, AMoveTakesTheRegistrationAwayAndWakesTheLoop) {
  Client client(server.port());
  auto socket = accept_from(server, 3);
  ASSERT_TRUE(socket);
  EXPECT_FALSE(socket->is_blocking());
  ASSERT_TRUE(socket->watch(epoll.get(), EPOLLIN, 100));
  client.send("ready");
  EXPECT_EQ(run_until(100), EPOLLIN);
  n1.handoffs = FakeGeckod::Handoffs::hold;
  ASSERT_TRUE(socket->handoff_in_background("n2"));
  Fd theirs;
  const auto message = n1.expect_message<wire::AppHandoff>(ApiType::handoff, &theirs);
  EXPECT_EQ(run_until(100, std::chrono::milliseconds(50)), 0u);  // unread bytes, but it is on its way
  n1.tell(ApiType::outcome, wire::AppOutcome{message.request, message.id, 0, "", "n2", true});
  EXPECT_TRUE(run_until(100) & EPOLLHUP);
  char byte = 0;
  EXPECT_EQ(socket->read(&byte, 1).error().code, Errc::moved);
  socket->close();
  EXPECT_EQ(run_until(100, std::chrono::milliseconds(30)), 0u);
  n2.arrive(message.id, 2, Flow{*Endpoint::parse("[::1]:" + std::to_string(other.port())), *Endpoint::parse(client.name())}, "n1", {}, theirs.get());
  auto there = accept_from(other, 4);
  ASSERT_TRUE(there) << there.error().message;
  EXPECT_EQ(read_some(*there), "ready");
}

// A long state fills the room for one read while the next connections' descriptors wait behind it: each goes to its own.
TEST_F(EventLoop, DescriptorsBehindALongStateStayWithTheirConnections) {
  std::vector<std::unique_ptr<Client>> clients;
  for (const size_t blob : {size_t{150'000}, size_t{10}, size_t{10}, size_t{10}}) {
    clients.push_back(std::make_unique<Client>(other.port()));
    auto there = accept_from(other, 4);
    ASSERT_TRUE(there) << there.error().message;
    n2.handoffs = FakeGeckod::Handoffs::hold;
    ASSERT_TRUE(there->handoff_in_background("n1"));
    Fd socket;
    const auto message = n2.expect_message<wire::AppHandoff>(ApiType::handoff, &socket);
    const Flow flow{*Endpoint::parse("[::1]:" + std::to_string(server.port())), *Endpoint::parse(clients.back()->name())};
    n1.arrive(message.id, 2, flow, "n2", wire::Bytes(blob, 7), socket.get());
    n2.tell(ApiType::outcome, wire::AppOutcome{message.request, message.id, 0, "", "n1", true});
  }
  for (auto& client : clients) {
    auto here = accept_from(server, 3);
    ASSERT_TRUE(here) << here.error().message;
    client->send("mine");
    EXPECT_EQ(read_some(*here), "mine");
  }
}

TEST_F(EventLoop, AConnectionThatComesBackIsRegisteredAgain) {
  for (const uint32_t mode : {0u, static_cast<uint32_t>(EPOLLET)}) {
    Client client(server.port());
    auto socket = accept_from(server, 3);
    ASSERT_TRUE(socket);
    ASSERT_TRUE(socket->watch(epoll.get(), EPOLLIN | mode, 100));
    client.send("x");
    EXPECT_EQ(run_until(100), EPOLLIN);
    n1.handoffs = FakeGeckod::Handoffs::refuse;
    ASSERT_TRUE(socket->handoff_in_background("n2"));
    EXPECT_EQ(run_until(100), EPOLLIN);  // also edge-triggered
    EXPECT_EQ(read_some(*socket), "x");
  }
}

TEST_F(EventLoop, ChangingARegistrationOnTheWayHoldsAfterwards) {
  Client client(server.port());
  auto socket = accept_from(server, 3);
  ASSERT_TRUE(socket->watch(epoll.get(), EPOLLIN, 100));
  n1.handoffs = FakeGeckod::Handoffs::hold;
  ASSERT_TRUE(socket->handoff_in_background("n2"));
  const auto message = n1.expect_message<wire::AppHandoff>(ApiType::handoff);
  ASSERT_TRUE(socket->watch(epoll.get(), EPOLLOUT, 101));
  n1.tell(ApiType::outcome, wire::AppOutcome{message.request, message.id, 2, "no", "n2", true});
  EXPECT_EQ(run_until(101), EPOLLOUT);
  socket->unwatch();
  EXPECT_EQ(run_until(101, std::chrono::milliseconds(20)), 0u);
}

TEST_F(EventLoop, YieldIsAnsweredInsideDispatch) {
  Client client(server.port());
  auto socket = accept_from(server, 3);
  bool called = false;
  socket->on_yield([&](Socket& s) {
    called = true;
    return s.set_state(std::vector<uint8_t>{1}).has_value();
  });
  n1.move_away(id_of(*socket), "n2");
  auto there = accept_from(other, 4);
  ASSERT_TRUE(there);
  EXPECT_TRUE(called);
  EXPECT_EQ(there->state(), std::vector<uint8_t>{1});
}

TEST_F(EventLoop, ForegroundCallsReadByThemselves) {
  Client client(server.port());
  auto socket = accept_from(server, 3);
  EXPECT_TRUE(socket->handoff("n2"));
  EXPECT_TRUE(accept_from(other, 4));
  EXPECT_TRUE(one.handoff_client("[::1]:1", "n2"));
}

TEST_F(EventLoop, ThousandsOfConnectionsMoveAndBack) {
  constexpr int kConnections = 1500;   // 5 descriptors each in this process, which plays all parts
  std::vector<std::unique_ptr<Client>> clients;
  std::map<uint64_t, Socket> sockets;
  for (int i = 0; i < kConnections; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    auto socket = accept_from(server, 3);
    ASSERT_TRUE(socket) << socket.error().message;
    ASSERT_TRUE(socket->watch(epoll.get(), EPOLLIN, 1000u + static_cast<unsigned>(i)));
    sockets.emplace(1000u + i, std::move(*socket));
  }
  for (auto& [key, socket] : sockets) ASSERT_TRUE(socket.handoff_in_background("n2"));
  std::vector<Socket> there;
  for (const Time end = monotonic_now() + std::chrono::seconds(30); (there.size() < kConnections || !sockets.empty()) && monotonic_now() < end;) {
    epoll_event events[64];
    const int n = epoll_wait(epoll.get(), events, 64, 100);
    for (int i = 0; i < n; ++i) {
      const uint64_t key = events[i].data.u64;
      if (key == 1) (void)one.dispatch();
      if (key == 2) (void)two.dispatch();
      if (key == 4)
        while (auto socket = other.accept()) there.push_back(std::move(*socket));
      if (key >= 1000) {
        char byte = 0;
        ASSERT_EQ(sockets.at(key).read(&byte, 1).error().code, Errc::moved);
        sockets.erase(key);
      }
    }
  }
  ASSERT_EQ(there.size(), static_cast<size_t>(kConnections));
  ASSERT_TRUE(sockets.empty());
  for (auto& socket : there) ASSERT_TRUE(socket.write("here"));
  for (auto& client : clients) ASSERT_EQ(client->receive(4), "here");
}

}  // namespace
}  // namespace gecko::test
