// The offsets of a stream, as the kernel counts them and as they travel with a connection.
#include "base/stream_position.hh"

#include <gtest/gtest.h>

#include "tcp/connection.hh"
#include "tcp/test_net.hh"

namespace gecko::tcp::test {
namespace {

class Position : public testing::TestWithParam<const char*> {
 protected:
  // Counted since the connection's birth, whoever has had it.
  void expect_at(uint64_t read, uint64_t written, const char* when) {
    const auto here = stream_position(pair.server.get());
    ASSERT_TRUE(here) << when << ": " << here.error().message;
    EXPECT_EQ(base.received + here->read, read) << when;
    EXPECT_EQ(base.sent + here->written, written) << when;
  }
  void move() {
    const auto frozen = freeze(pair.server.get());
    ASSERT_TRUE(frozen);
    const auto state = capture(pair.server.get(), *frozen);
    ASSERT_TRUE(state) << state.error().message;
    const auto here = stream_position(pair.server.get());
    ASSERT_TRUE(here);
    base = {base.sent + here->acked, base.received + here->read, true};
    ASSERT_TRUE(retire(pair.server.get()));
    auto restored = restore(*state);
    ASSERT_TRUE(restored) << restored.error().message;
    ASSERT_TRUE(activate(restored->get(), *state, *injector()));
    pair.server = std::move(*restored);
  }
  Pair pair = connected(at(GetParam(), 0), {});
  StreamBase base{0, 0, true};
};
INSTANTIATE_TEST_SUITE_P(Families, Position, testing::Values("::1", "127.0.0.1"), [](const auto& p) {
  return std::string(p.param[0] == ':' ? "IPv6" : "IPv4");
});

TEST_P(Position, CountsWhatWasReadAndWrittenAndGoesOnAfterMoves) {
  expect_at(0, 0, "new");
  ASSERT_TRUE(write_all(pair.client.get(), pattern(5000)));
  ASSERT_TRUE(eventually([&] { return unread(pair.server.get()) == 5000; }));
  expect_at(0, 0, "received, not read");
  (void)read_exactly(pair.server.get(), 1200);
  ASSERT_TRUE(write_all(pair.server.get(), pattern(700)));
  expect_at(1200, 700, "both ways");
  move();
  expect_at(1200, 700, "moved, with unread bytes");
  (void)read_exactly(pair.server.get(), 3800);
  expect_at(5000, 700, "all read");
  // The client stops reading: bytes stay in our queue.
  const Bytes much = pattern(1 << 20);
  size_t done = 0;
  for (ssize_t n = 0; (n = ::send(pair.server.get(), much.data(), much.size(), MSG_DONTWAIT)) > 0;) done += static_cast<size_t>(n);
  ASSERT_GT(done, 0u);
  expect_at(5000, 700 + done, "queue full");
  move();
  expect_at(5000, 700 + done, "moved, with bytes on their way");
  (void)read_exactly(pair.client.get(), 700 + done);
  ASSERT_TRUE(write_all(pair.client.get(), pattern(10)));
  ASSERT_EQ(::shutdown(pair.client.get(), SHUT_WR), 0);
  (void)read_exactly(pair.server.get(), 10);
  uint8_t byte = 0;
  ASSERT_EQ(::recv(pair.server.get(), &byte, 1, 0), 0);
  expect_at(5010, 700 + done, "the client has ended its stream");
  move();
  expect_at(5010, 700 + done, "moved half closed");
  ASSERT_TRUE(write_all(pair.server.get(), pattern(30)));
  expect_at(5010, 730 + done, "and wrote again");
}

TEST_P(Position, UnreadFinAndOwnFin) {
  ASSERT_TRUE(write_all(pair.client.get(), pattern(100)));
  ASSERT_EQ(::shutdown(pair.client.get(), SHUT_WR), 0);
  ASSERT_TRUE(eventually([&] { return unread(pair.server.get()) == 100; }));
  expect_at(0, 0, "nothing read");
  (void)read_exactly(pair.server.get(), 100);
  expect_at(100, 0, "all read but the end");
  move();
  expect_at(100, 0, "moved with an unread end");
}

TEST_P(Position, WhoOpensTheConnectionHasWrittenItsSyn) {
  const auto begin = stream_position(pair.client.get());
  ASSERT_TRUE(begin);
  EXPECT_EQ(begin->written, 1u) << "libgecko takes it off";
  EXPECT_EQ(begin->read, 0u);
}

}  // namespace
}  // namespace gecko::tcp::test
