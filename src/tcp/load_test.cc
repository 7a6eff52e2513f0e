// Moves between two machines (network namespaces) while data flows. Packets that arrive during a freeze are lost here, as
// without geckod's hold queue; TCP must recover all of it by itself.
#include <gtest/gtest.h>
#include <net/if.h>

#include <thread>

#include "tcp/deaf_filter.hh"
#include "tcp/test_net.hh"

namespace gecko::tcp::test {
namespace {

// An endless stream whose period is prime: a byte lost, doubled or displaced cannot go unnoticed.
class Stream {
 public:
  Stream() : bytes_(pattern(1'000'003)) {}
  std::span<const uint8_t> at(uint64_t offset, size_t most) const {
    const size_t from = offset % bytes_.size();
    return std::span(bytes_).subspan(from, std::min(most, bytes_.size() - from));
  }
  bool matches(uint64_t offset, std::span<const uint8_t> got) const {
    while (!got.empty()) {
      const auto expected = at(offset, got.size());
      if (!std::equal(expected.begin(), expected.end(), got.begin())) return false;
      offset += expected.size();
      got = got.subspan(expected.size());
    }
    return true;
  }

 private:
  Bytes bytes_;
};
const Stream& stream() {
  static const Stream s;
  return s;
}

// Reads what there is; false: wrong bytes, error or end.
struct Sink {
  std::atomic<uint64_t> bytes = 0;
  int error = 0;
  bool wrong = false, ended = false;
  bool step(int fd, int wait_ms) {
    static thread_local Bytes buffer(256 * 1024);
    pollfd readable{fd, POLLIN, 0};
    if (::poll(&readable, 1, wait_ms) <= 0) return true;
    const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return true;
    if (got < 0) error = errno;
    if (got == 0) ended = true;
    if (got <= 0) return false;
    wrong = wrong || !stream().matches(bytes, {buffer.data(), static_cast<size_t>(got)});
    bytes += static_cast<uint64_t>(got);
    return !wrong;
  }
};
struct Source {
  std::atomic<uint64_t> bytes = 0;
  // Writes at most `most` bytes without blocking.
  void step(int fd, size_t most = 256 * 1024) {
    const auto chunk = stream().at(bytes, most);
    const ssize_t put = ::send(fd, chunk.data(), chunk.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put > 0) bytes += static_cast<uint64_t>(put);
  }
};

// A connection of the lab's client, served by whichever namespace has it now.
class Travelling {
 public:
  Travelling(const Lab& lab, const char* address, const SocketSetup& setup = {}) : lab_(lab) {
    lab.steer(0);
    pair_ = connected(at(address, 0), setup, &lab.server[0]);
    for (int n = 0; n < 2; ++n) {
      const Inside inside(&lab.server[n]);
      injector_[n] = injector();
    }
  }
  int client() const { return pair_.client.get(); }
  int server() const { return pair_.server.get(); }
  Injector* injector_here() const { return injector_[where_].get(); }

  testing::AssertionResult move() {
    const auto fail = [](const char* step, const Error& e) { return testing::AssertionFailure() << step << ": " << e.message; };
    const int to = 1 - where_;
    bury();  // a socket left behind there has the same addresses
    const auto frozen = freeze(server());
    if (!frozen) return fail("freeze", frozen.error());
    const auto state = capture(server(), *frozen);
    if (!state) return fail("capture", state.error());
    auto restored = [&] {
      const Inside inside(&lab_.server[to]);
      return restore(*state);
    }();
    if (!restored) return fail("restore", restored.error());
    lab_.steer(to);
    const auto active = activate(restored->get(), *state, *injector_[to]);
    if (!active) return fail("activate", active.error());
    if (!active->unsent.empty() && !write_all(restored->get(), active->unsent)) return testing::AssertionFailure() << "the rest could not be written";
    left_behind_ = std::exchange(pair_.server, *std::move(restored));
    where_ = to;
    return testing::AssertionSuccess();
  }
  // The donor's frozen socket stays until nothing can arrive there any more.
  void bury() {
    if (!left_behind_) return;
    uint32_t memory[9] = {};
    const auto drops = [&] { return get_raw(left_behind_.get(), SOL_SOCKET, SO_MEMINFO, memory) ? memory[8] : 0; };
    for (uint32_t last = ~0u; last != drops(); ::usleep(1000)) last = drops();
    EXPECT_TRUE(retire(left_behind_.get()));
    left_behind_.reset();
  }

 private:
  const Lab& lab_;
  Pair pair_;
  std::unique_ptr<Injector> injector_[2];
  Fd left_behind_;
  int where_ = 0;
};

class Load : public testing::TestWithParam<const char*> {
 protected:
  Lab lab_;
  NoResets here_, there_{&lab_.server[0]}, elsewhere_{&lab_.server[1]};
};
INSTANTIATE_TEST_SUITE_P(Families, Load, testing::Values(Lab::kService6, Lab::kService4),
                         [](const auto& p) { return std::string(p.param).find(':') != std::string::npos ? "IPv6" : "IPv4"; });

TEST_P(Load, DownloadMovedFiftyTimes) {
  constexpr uint64_t kTotal = 50'000'000;
  constexpr int kMoves = 50;
  Travelling t(lab_, GetParam());
  Sink sink;
  std::thread reader([&] {
    while (sink.step(t.client(), 10'000) && sink.bytes < kTotal) {
    }
  });
  Source source;
  int moves = 0;
  bool ok = true;
  while (ok && source.bytes < kTotal) {
    pollfd writable{t.server(), POLLOUT, 0};
    if (::poll(&writable, 1, 10'000) <= 0) break;
    source.step(t.server(), static_cast<size_t>(std::min<uint64_t>(256 * 1024, kTotal - source.bytes)));
    if (source.bytes > kTotal / kMoves * static_cast<uint64_t>(moves) && moves < kMoves) {
      const auto moved = t.move();
      EXPECT_TRUE(ok = bool(moved)) << moved.message();
      ++moves;
    }
  }
  EXPECT_EQ(moves, kMoves);
  EXPECT_EQ(source.bytes, kTotal);
  if (source.bytes != kTotal) ::shutdown(t.client(), SHUT_RD);
  reader.join();
  EXPECT_EQ(sink.bytes, kTotal);
  EXPECT_FALSE(sink.wrong);
  EXPECT_EQ(sink.error, 0) << std::strerror(sink.error);
}

TEST_P(Load, UploadWithPacketsLostInEveryFreeze) {
  constexpr uint64_t kTotal = 30'000'000;
  constexpr int kMoves = 12;
  Travelling t(lab_, GetParam());
  Source source;
  std::thread writer([&] {
    while (source.bytes < kTotal) {
      pollfd writable{t.client(), POLLOUT, 0};
      if (::poll(&writable, 1, 10'000) <= 0 || (writable.revents & (POLLERR | POLLHUP))) break;
      source.step(t.client(), static_cast<size_t>(std::min<uint64_t>(256 * 1024, kTotal - source.bytes)));
    }
  });
  Sink sink;
  int moves = 0;
  while (sink.bytes < kTotal && sink.step(t.server(), 10'000)) {
    if (sink.bytes > kTotal / kMoves * static_cast<uint64_t>(moves) && moves < kMoves) {
      EXPECT_TRUE(t.move());
      ++moves;
    }
  }
  EXPECT_EQ(moves, kMoves);
  EXPECT_EQ(sink.bytes, kTotal);
  EXPECT_FALSE(sink.wrong);
  EXPECT_EQ(sink.error, 0) << std::strerror(sink.error);
  if (sink.bytes != kTotal) ::shutdown(t.client(), SHUT_RDWR);
  writer.join();
}

// Both ways at once, frozen and thawed again and again: a refused handoff must leave no trace, and what a capture saw
// must be what is really there.
TEST_P(Load, ThawedUnderLoad) {
  constexpr int kRounds = 60;
  Travelling t(lab_, GetParam());
  std::atomic<bool> stop = false;
  Source up, down;
  Sink up_sink, down_sink;
  std::thread client([&] {
    while (!stop || down_sink.bytes < down.bytes) {
      if (!stop) up.step(t.client(), 100'000);
      if (!down_sink.step(t.client(), 1)) break;
    }
  });
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t enough = up_sink.bytes + 300'000;
    EXPECT_TRUE(eventually([&] {
      down.step(t.server(), 100'000);
      return !up_sink.step(t.server(), 0) || up_sink.bytes >= enough;
    })) << "round " << round;
    const auto frozen = freeze(t.server());
    ASSERT_TRUE(frozen) << frozen.error().message;
    const auto state = capture(t.server(), *frozen);
    ASSERT_TRUE(state) << state.error().message;
    EXPECT_TRUE(wire::validate(*state));
    EXPECT_TRUE(stream().matches(up_sink.bytes, state->recv_queue));
    EXPECT_TRUE(stream().matches(down.bytes - state->send_queue.size(), state->send_queue));
    ASSERT_TRUE(thaw(t.server(), *frozen, round % 2 ? t.injector_here() : nullptr));
  }
  stop = true;
  EXPECT_TRUE(eventually([&] {
    if (!up_sink.step(t.server(), 1)) return true;
    return up_sink.bytes == up.bytes && down_sink.bytes == down.bytes;
  })) << up_sink.bytes << " of " << up.bytes << " up, " << down_sink.bytes << " of " << down.bytes << " down";
  client.join();
  EXPECT_EQ(up_sink.bytes, up.bytes);
  EXPECT_EQ(down_sink.bytes, down.bytes);
  EXPECT_FALSE(up_sink.wrong || down_sink.wrong);
  EXPECT_EQ(up_sink.error, 0) << std::strerror(up_sink.error);
}

// The server does not read: its window is closed, the client is stopped. After the move the window opens from there.
TEST_P(Load, OwnWindowIsClosed) {
  SocketSetup setup;
  setup.listener = [](int fd) { set_int(fd, SOL_SOCKET, SO_RCVBUF, 30'000); };
  Travelling t(lab_, GetParam(), setup);
  Source source;
  Sink sink;
  uint64_t before = 0;
  ASSERT_TRUE(eventually([&] {  // until the client's buffers are full as well
    before = source.bytes;
    source.step(t.client());
    return source.bytes == before && unacked(t.client()) > 0 && unread(t.server()) > 10'000;
  }));
  for (int hop = 0; hop < 3; ++hop) ASSERT_TRUE(t.move());
  EXPECT_TRUE(eventually([&] { return !sink.step(t.server(), 1) || sink.bytes == source.bytes; }, std::chrono::seconds(20)))
      << sink.bytes << " of " << source.bytes;
  EXPECT_FALSE(sink.wrong);
  EXPECT_EQ(sink.error, 0);
}

TEST_P(Load, PeersWindowIsClosed) {
  SocketSetup setup;
  setup.client = [](int fd) { set_int(fd, SOL_SOCKET, SO_RCVBUF, 30'000); };
  Travelling t(lab_, GetParam(), setup);
  Source source;
  Sink sink;
  uint64_t before = 0;
  ASSERT_TRUE(eventually([&] {
    before = source.bytes;
    source.step(t.server());
    return source.bytes == before && unacked(t.server()) > 0 && unread(t.client()) > 10'000;
  }));
  for (int hop = 0; hop < 3; ++hop) ASSERT_TRUE(t.move());
  EXPECT_TRUE(eventually([&] { return !sink.step(t.client(), 1) || sink.bytes == source.bytes; }, std::chrono::seconds(20)))
      << sink.bytes << " of " << source.bytes;
  EXPECT_FALSE(sink.wrong);
  EXPECT_EQ(sink.error, 0);
}

// Half-closed connections between two machines: the re-created FIN comes from an address that is far away.
TEST_P(Load, HalfClosedConnectionsTravel) {
  const Bytes request = pattern(3000, 1), reply = pattern(20'000, 2);
  int error = 0;
  {
    Travelling t(lab_, GetParam());  // CLOSE_WAIT, then LAST_ACK
    ASSERT_TRUE(write_all(t.client(), request));
    ASSERT_EQ(::shutdown(t.client(), SHUT_WR), 0);
    ASSERT_TRUE(reaches(t.server(), kCloseWait));
    for (int hop = 0; hop < 3; ++hop) {
      ASSERT_TRUE(t.move());
      ASSERT_EQ(kernel_state(t.server()), kCloseWait);
    }
    EXPECT_EQ(read_exactly(t.server(), request.size()), request);
    EXPECT_TRUE(read_exactly(t.server(), 1, &error).empty());
    ASSERT_TRUE(make_deaf(t.client()));
    ASSERT_TRUE(write_all(t.server(), reply));
    ASSERT_EQ(::shutdown(t.server(), SHUT_WR), 0);
    for (int hop = 0; hop < 3; ++hop) {
      ASSERT_TRUE(t.move());
      ASSERT_EQ(kernel_state(t.server()), kLastAck);
    }
    ASSERT_TRUE(make_hearing(t.client()));
    EXPECT_EQ(read_exactly(t.client(), reply.size(), &error), reply) << std::strerror(error);
    EXPECT_TRUE(read_exactly(t.client(), 1, &error).empty());
    EXPECT_EQ(error, 0);
    EXPECT_TRUE(reaches(t.server(), kClose));
    t.bury();
  }
  {
    Travelling t(lab_, GetParam());  // FIN_WAIT1, then CLOSING
    ASSERT_TRUE(make_deaf(t.client()));
    ASSERT_TRUE(write_all(t.server(), reply));
    ASSERT_EQ(::shutdown(t.server(), SHUT_WR), 0);
    ASSERT_TRUE(t.move());
    ASSERT_EQ(kernel_state(t.server()), kFinWait1);
    ASSERT_TRUE(write_all(t.client(), request));
    ASSERT_EQ(::shutdown(t.client(), SHUT_WR), 0);
    ASSERT_TRUE(reaches(t.server(), kClosing));
    for (int hop = 0; hop < 3; ++hop) {
      ASSERT_TRUE(t.move());
      ASSERT_EQ(kernel_state(t.server()), kClosing);
    }
    EXPECT_EQ(read_exactly(t.server(), request.size()), request);
    EXPECT_TRUE(read_exactly(t.server(), 1, &error).empty());
    ASSERT_TRUE(make_hearing(t.client()));
    EXPECT_EQ(read_exactly(t.client(), reply.size(), &error), reply) << std::strerror(error);
    EXPECT_TRUE(read_exactly(t.client(), 1, &error).empty());
    EXPECT_EQ(error, 0);
    EXPECT_TRUE(reaches(t.server(), kClose));
    t.bury();
  }
  {
    Travelling t(lab_, GetParam());  // FIN_WAIT2, then closed by the client
    ASSERT_TRUE(write_all(t.server(), reply));
    ASSERT_EQ(::shutdown(t.server(), SHUT_WR), 0);
    ASSERT_TRUE(reaches(t.server(), kFinWait2));
    for (int hop = 0; hop < 3; ++hop) {
      ASSERT_TRUE(t.move());
      ASSERT_TRUE(reaches(t.server(), kFinWait2));
    }
    EXPECT_EQ(read_exactly(t.client(), reply.size(), &error), reply) << std::strerror(error);
    EXPECT_TRUE(read_exactly(t.client(), 1, &error).empty());
    ASSERT_TRUE(write_all(t.client(), request));
    ASSERT_EQ(::shutdown(t.client(), SHUT_WR), 0);
    EXPECT_EQ(read_exactly(t.server(), request.size()), request);
    EXPECT_TRUE(read_exactly(t.server(), 1, &error).empty());
    EXPECT_TRUE(reaches(t.server(), kClose));
    t.bury();
  }
}

// A link-local address cannot move, and the refused connection must go on, nudge or not.
TEST(LinkLocal, IsRefusedAndThawed) {
  const Lab lab;
  ip(nullptr, "addr add fe80::a/64 dev to0 nodad\n");
  ip(&lab.server[0], "addr add fe80::b/64 dev eth0 nodad\nneigh replace fe80::a lladdr 02:00:00:00:00:01 dev eth0\n");
  ip(nullptr, "neigh replace fe80::b lladdr 02:00:00:00:00:02 dev to0\n");
  const auto scoped = [](const char* address, const char* device, uint16_t port) {
    sockaddr_storage storage{};
    at(address, port).to_sockaddr(storage);
    reinterpret_cast<sockaddr_in6&>(storage).sin6_scope_id = ::if_nametoindex(device);
    return storage;
  };
  Fd listener;
  {
    const Inside inside(&lab.server[0]);
    listener = Fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto where = scoped("fe80::b", "eth0", 4000);
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&where), sizeof(sockaddr_in6)), 0) << std::strerror(errno);
    ASSERT_EQ(::listen(listener.get(), 1), 0);
  }
  const Fd client(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto where = scoped("fe80::b", "to0", 4000);
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&where), sizeof(sockaddr_in6)), 0) << std::strerror(errno);
  const Fd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  for (const bool with_injector : {false, true}) {
    const auto frozen = freeze(server.get());
    ASSERT_TRUE(frozen) << frozen.error().message;
    const auto state = capture(server.get(), *frozen);
    ASSERT_FALSE(state);
    EXPECT_EQ(state.error().code, Errc::unsupported) << state.error().message;
    const auto raw = injector();
    ASSERT_TRUE(thaw(server.get(), *frozen, with_injector ? raw.get() : nullptr));
    ASSERT_TRUE(write_all(client.get(), pattern(100)));
    EXPECT_EQ(read_exactly(server.get(), 100), pattern(100));
  }
}

}  // namespace
}  // namespace gecko::tcp::test
