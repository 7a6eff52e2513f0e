// Bytes that are sent ahead of the state: nothing lost, nothing twice, whoever reads in between is noticed.
#include "tcp/ahead.hh"

#include <gtest/gtest.h>

#include "tcp/test_net.hh"

namespace gecko::tcp::test {
namespace {

bool supported(int fd) {
  uint8_t byte = 0;
  const auto looked = peek_ahead(fd, 0, {&byte, 1});
  return looked || looked.error().code != Errc::unsupported;
}

class Ahead : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, Ahead, testing::Values("::1", "127.0.0.1"), [](const auto& p) { return std::string(p.param[0] == ':' ? "IPv6" : "IPv4"); });

TEST_P(Ahead, WhatWentAheadAndTheRestAreTheStream) {
  Pair pair = connected(at(GetParam(), 0), {});
  if (!supported(pair.server.get())) GTEST_SKIP() << "SO_PEEK_OFF of TCP came with Linux 6.9";
  const Bytes data = pattern(50'000);
  ASSERT_TRUE(write_all(pair.client.get(), Bytes(data.begin(), data.begin() + 25'000)));
  ASSERT_TRUE(eventually([&] { return unread(pair.server.get()) == 25'000; }));
  ASSERT_EQ(read_exactly(pair.server.get(), 1000), Bytes(data.begin(), data.begin() + 1000));
  const auto before = consumed(pair.server.get());
  ASSERT_TRUE(before);

  Bytes ahead(40'000);
  size_t done = 0;
  for (const size_t piece : {size_t{8'000}, size_t{40'000}}) {
    const auto got = peek_ahead(pair.server.get(), static_cast<uint32_t>(done), std::span(ahead).subspan(done, std::min(piece, ahead.size() - done)));
    ASSERT_TRUE(got) << got.error().message;
    done += *got;
  }
  ASSERT_EQ(done, 24'000u);
  ahead.resize(done);
  EXPECT_EQ(*peek_ahead(pair.server.get(), static_cast<uint32_t>(done), std::span(ahead).first(1)), 0u);
  int left_behind = 0;
  ASSERT_TRUE(get_raw(pair.server.get(), SOL_SOCKET, SO_PEEK_OFF, left_behind));
  EXPECT_EQ(left_behind, -1);
  ASSERT_TRUE(write_all(pair.client.get(), Bytes(data.begin() + 25'000, data.end())));
  ASSERT_TRUE(eventually([&] { return unread(pair.server.get()) == 49'000; }));
  (void)eventually([&] { return unacked(pair.client.get()) == 0; });
  const auto after = consumed(pair.server.get());
  ASSERT_TRUE(after);
  EXPECT_EQ(*after, *before);

  const auto frozen = freeze(pair.server.get());
  ASSERT_TRUE(frozen);
  EXPECT_EQ(*consumed(pair.server.get()), *before);
  const auto too_much = capture(pair.server.get(), *frozen, 50'000);
  ASSERT_FALSE(too_much);
  EXPECT_EQ(too_much.error().code, Errc::invalid);
  const auto state = capture(pair.server.get(), *frozen, static_cast<uint32_t>(done));
  ASSERT_TRUE(state) << state.error().message;
  EXPECT_EQ(state->recv_queue.size(), 25'000u);
  ASSERT_TRUE(retire(pair.server.get()));
  auto restored = restore(*state, {.freebind = false, .ahead = ahead});
  ASSERT_TRUE(restored) << restored.error().message;
  const auto raw = injector();
  ASSERT_TRUE(activate(restored->get(), *state, *raw));
  EXPECT_EQ(read_exactly(restored->get(), 49'000), Bytes(data.begin() + 1000, data.end()));
  const Bytes back = pattern(5000, 3);
  ASSERT_TRUE(write_all(restored->get(), back));
  EXPECT_EQ(read_exactly(pair.client.get(), back.size()), back);
}

TEST_P(Ahead, AnArrivalEndsWithAClosedWindow) {
  // As on a network: a full buffer of the loopback interface's segments of 64 KiB may leave a window that never holds two of them again.
  SocketSetup small;
  small.client = [](int fd) { set_int(fd, IPPROTO_TCP, TCP_MAXSEG, 1400); };
  Pair pair = connected(at(GetParam(), 0), small);
  EXPECT_FALSE(has_unread(pair.server.get()));
  const auto idle = arrival(pair.server.get());
  ASSERT_TRUE(idle) << idle.error().message;
  if (idle->window == UINT32_MAX) GTEST_SKIP() << "tcpi_rcv_wnd came with Linux 6.2";
  EXPECT_EQ(idle->unread, 0u);
  EXPECT_FALSE(idle->closed());
  // Nobody reads: the client's bytes end at the window, and it waits.
  const Bytes data = pattern(1 << 20);
  size_t sent = 0;
  ASSERT_TRUE(eventually([&] {
    const ssize_t n = ::send(pair.client.get(), data.data(), data.size(), MSG_DONTWAIT);
    if (n > 0) sent += static_cast<size_t>(n);
    return arrival(pair.server.get())->closed();
  }));
  EXPECT_GT(arrival(pair.server.get())->unread, 0u);
  EXPECT_TRUE(has_unread(pair.server.get()));
  while (sent > 0) {
    const auto part = read_exactly(pair.server.get(), std::min<size_t>(sent, 1 << 16));
    ASSERT_FALSE(part.empty());
    sent -= part.size();
  }
  EXPECT_TRUE(eventually([&] { return !arrival(pair.server.get())->closed(); }));
}

TEST_P(Ahead, AReaderInBetweenIsNoticed) {
  Pair pair = connected(at(GetParam(), 0), {});
  ASSERT_TRUE(write_all(pair.client.get(), pattern(5000)));
  ASSERT_TRUE(eventually([&] { return unread(pair.server.get()) == 5000; }));
  const auto before = consumed(pair.server.get());
  ASSERT_EQ(read_exactly(pair.server.get(), 10).size(), 10u);
  EXPECT_EQ(*consumed(pair.server.get()), *before + 10);
  ::shutdown(pair.client.get(), SHUT_WR);
  ASSERT_TRUE(eventually([&] {
    tcp_info info{};
    return get_raw(pair.server.get(), kSolTcp, TCP_INFO, info) && info.tcpi_state == kCloseWait;
  }));
  EXPECT_EQ(*consumed(pair.server.get()), *before + 10) << "a FIN is not read";
}

TEST_P(Ahead, AnApplicationThatPeeksAtOffsetsItselfIsLeftAlone) {
  Pair pair = connected(at(GetParam(), 0), {});
  if (!supported(pair.server.get())) GTEST_SKIP() << "SO_PEEK_OFF of TCP came with Linux 6.9";
  ASSERT_TRUE(set_int(pair.server.get(), SOL_SOCKET, SO_PEEK_OFF, 5));
  uint8_t byte = 0;
  const auto looked = peek_ahead(pair.server.get(), 0, {&byte, 1});
  ASSERT_FALSE(looked);
  EXPECT_EQ(looked.error().code, Errc::unsupported);
}

}  // namespace
}  // namespace gecko::tcp::test
