// Whole moves: nothing lost, nothing twice, no reset.
#include <gtest/gtest.h>

#include <thread>

#include "tcp/ahead.hh"
#include "tcp/deaf_filter.hh"
#include "tcp/test_net.hh"

namespace gecko::tcp::test {
namespace {

void echo(int client, int server, uint32_t seed) {
  const Bytes there = pattern(3000, seed), back = pattern(5000, seed + 1);
  int error = 0;
  ASSERT_TRUE(write_all(client, there));
  ASSERT_EQ(read_exactly(server, there.size(), &error), there) << std::strerror(error);
  ASSERT_TRUE(write_all(server, back));
  ASSERT_EQ(read_exactly(client, back.size(), &error), back) << std::strerror(error);
}

struct Family {
  const char* name;
  const char* address;
  bool v6_socket_for_v4;
};
class Move : public testing::TestWithParam<Family> {
 protected:
  Pair connect(SocketSetup setup = {}) {
    setup.v6_socket_for_v4 = GetParam().v6_socket_for_v4;
    return connected(at(GetParam().address, 0), setup);
  }
};
INSTANTIATE_TEST_SUITE_P(Families, Move,
                         testing::Values(Family{"IPv6", "::1", false}, Family{"IPv4", "127.0.0.1", false}, Family{"V4Mapped", "127.0.0.1", true}),
                         [](const auto& p) { return std::string(p.param.name); });

TEST_P(Move, IdleConnectionGoesOnEchoing) {
  Pair pair = connect();
  echo(pair.client.get(), pair.server.get(), 1);
  for (uint32_t hop = 0; hop < 5; ++hop) {
    wire::TcpState state;
    ASSERT_TRUE(move_here(pair.server, &state));
    EXPECT_EQ(state.v4_mapped, GetParam().v6_socket_for_v4);
    EXPECT_EQ(state.flow.local, name_of(pair.server.get()));
    echo(pair.client.get(), pair.server.get(), 10 * hop);
  }
}

TEST_P(Move, UnreadDataArrivesOnce) {
  Pair pair = connect();
  const Bytes data = pattern(50'000);
  ASSERT_TRUE(write_all(pair.client.get(), data));
  ASSERT_TRUE(eventually([&] { return unread(pair.server.get()) == data.size(); }));
  ASSERT_EQ(read_exactly(pair.server.get(), 1000), Bytes(data.begin(), data.begin() + 1000));
  ASSERT_TRUE(move_here(pair.server));
  EXPECT_EQ(read_exactly(pair.server.get(), data.size() - 1000), Bytes(data.begin() + 1000, data.end()));
  echo(pair.client.get(), pair.server.get(), 5);
}

// The donor's delayed-ACK timer does not come along: without an acknowledgement from the acceptor the client would wait
// for its retransmission timeout, and a client with Nagle's algorithm would hold back its next bytes.
TEST_P(Move, AnOwedAcknowledgementIsSentByTheAcceptor) {
  Pair pair = connect();
  echo(pair.client.get(), pair.server.get(), 1);  // the server's socket is interactive now: it delays acknowledgements
  ASSERT_TRUE(write_all(pair.client.get(), pattern(10)));
  ASSERT_TRUE(eventually([&] { return unread(pair.server.get()) == 10; }));
  wire::TcpState state;
  ASSERT_TRUE(move_here(pair.server, &state));
  ASSERT_NE(state.rcv_wup, state.recv_seq) << "the acknowledgement was not pending: this tests nothing";
  EXPECT_TRUE(eventually([&] { return unacked(pair.client.get()) == 0; }));
  tcp_info info{};
  ASSERT_TRUE(get_raw(pair.client.get(), kSolTcp, TCP_INFO, info));
  EXPECT_EQ(info.tcpi_total_retrans, 0u);
}

// An acknowledgement that comes in while the connection freezes moves the position, and its window belongs to that position: with the window of
// before, the acceptor would send more than the client has room for, which the client drops, to be sent again a second later.
TEST_P(Move, AnAcknowledgementDuringTheFreezeBringsItsWindow) {
  Pair pair = connect();
  echo(pair.client.get(), pair.server.get(), 1);
  ASSERT_TRUE(make_deaf(pair.client.get()));
  const Bytes data = pattern(20'000);
  ASSERT_TRUE(write_all(pair.server.get(), data));
  const auto frozen = freeze(pair.server.get());
  ASSERT_TRUE(frozen) << frozen.error().message;
  ASSERT_EQ(unacked(pair.server.get()), data.size());
  // Past the filter, as a packet on another processor may be. The frozen socket's timer sends the bytes again; nobody reads them.
  ASSERT_TRUE(make_hearing(pair.client.get()) && make_hearing(pair.server.get()));
  ASSERT_TRUE(eventually([&] { return unacked(pair.server.get()) == 0; }));
  const auto room = arrival(pair.client.get());
  ASSERT_TRUE(room) << room.error().message;
  if (room->window == UINT32_MAX) GTEST_SKIP() << "tcpi_rcv_wnd came with Linux 6.2";
  ASSERT_NE(room->window, frozen->snd_wnd) << "the window is as before: this tests nothing";
  ASSERT_TRUE(make_deaf(pair.server.get()));
  const auto state = capture(pair.server.get(), *frozen);
  ASSERT_TRUE(state) << state.error().message;
  EXPECT_EQ(state->snd_wnd, room->window);
  ASSERT_TRUE(thaw(pair.server.get(), *frozen));
  EXPECT_EQ(read_exactly(pair.client.get(), data.size()), data);
  echo(pair.client.get(), pair.server.get(), 9);
}

// While the send queue of a socket in repair mode is selected, the kernel takes bytes for sent without sending them when its pacing timer, for
// example, comes by. They have to be sent by the acceptor.
TEST_P(Move, WhatTheFrozenSocketOnlyPretendsToSendIsSent) {
  SocketSetup setup;
  setup.client = [](int fd) { set_int(fd, SOL_SOCKET, SO_RCVBUF, 16384); };
  Pair pair = connect(setup);
  Bytes data = pattern(100'000);
  data.resize(fill(pair.server.get(), data));
  ASSERT_TRUE(eventually([&] { return unread(pair.client.get()) > 0; }));
  const auto frozen = freeze(pair.server.get());
  ASSERT_TRUE(frozen) << frozen.error().message;
  const uint32_t before = unsent(pair.server.get());
  ASSERT_GT(before, 0u);
  ASSERT_TRUE(set_int(pair.server.get(), kSolTcp, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE) && set_int(pair.server.get(), kSolTcp, TCP_NODELAY, 1));   // pushes
  ASSERT_EQ(unsent(pair.server.get()), 0u) << "the kernel pretends nothing: this tests nothing";
  const auto state = capture(pair.server.get(), *frozen);
  ASSERT_TRUE(state) << state.error().message;
  EXPECT_EQ(state->unsent, before);
}

// Bytes that were lost before the move are sent again at once, not when the new socket's retransmission timer ends: it starts anew with each move.
TEST_P(Move, LostBytesAreSentAgainByTheAcceptor) {
  SocketSetup setup;
  setup.client = [](int fd) { set_int(fd, kSolTcp, TCP_MAXSEG, 1000); };
  Pair pair = connect(setup);
  echo(pair.client.get(), pair.server.get(), 1);
  ASSERT_TRUE(make_deaf(pair.client.get()));
  const Bytes data = pattern(8'000);   // fewer segments than the first window
  ASSERT_TRUE(write_all(pair.server.get(), data));
  const auto frozen = freeze(pair.server.get());
  ASSERT_TRUE(frozen) << frozen.error().message;
  const auto state = capture(pair.server.get(), *frozen);
  ASSERT_TRUE(state) << state.error().message;
  ASSERT_EQ(state->send_queue.size() - state->unsent, data.size());
  ASSERT_TRUE(retire(pair.server.get()));
  auto restored = restore(*state);
  ASSERT_TRUE(restored) << restored.error().message;
  ASSERT_TRUE(make_hearing(pair.client.get()));
  ASSERT_TRUE(activate(restored->get(), *state, *injector()));
  EXPECT_TRUE(eventually([&] { return unread(pair.client.get()) > 0; }, std::chrono::milliseconds(100))) << "it waits for a timer of 200 ms or more";
  // The rest when the kernel knows the round trip time again.
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(read_exactly(pair.client.get(), data.size()), data);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(800)) << "it waits for the timer that a new socket starts with";
}

TEST_P(Move, UnackedAndUnsentDataArriveWhenTheClosedWindowOpens) {
  SocketSetup setup;
  setup.client = [](int fd) { set_int(fd, SOL_SOCKET, SO_RCVBUF, 16384); };
  Pair pair = connect(setup);
  Bytes data = pattern(100'000);
  data.resize(fill(pair.server.get(), data));
  // The client reads nothing: its window closes on the rest.
  ASSERT_TRUE(eventually([&] { return unread(pair.client.get()) > 0; }));
  wire::TcpState state;
  ASSERT_TRUE(move_here(pair.server, &state));
  EXPECT_GT(state.unsent, 0u);
  EXPECT_EQ(state.send_queue.size(), unacked(pair.server.get()));
  EXPECT_EQ(read_exactly(pair.client.get(), data.size()), data);
  EXPECT_TRUE(eventually([&] { return unacked(pair.server.get()) == 0; }));
  echo(pair.client.get(), pair.server.get(), 7);
}

// Full to the brim, at the limit of each of the three things that stop a writer: the buffer's size by the user, its size by
// autotuning, and TCP_NOTSENT_LOWAT. The kernel lets a writer go over by one segment, so the same bytes need not fit again.
TEST_P(Move, AFullSendBufferFitsAgain) {
  // The client either stops reading, or hears nothing at all: then sent bytes stay as well.
  const std::tuple<int, int, bool> cases[] = {
      {0, 0, false}, {0, 1, false}, {0, 5'000, false}, {0, 131'072, false}, {2'304, 0, false},
      {10'000, 0, false}, {10'000, 5'000, false}, {65'536, 0, false}, {300'000, 0, false}, {300'000, 131'072, false},
      {0, 0, true}, {0, 1, true}, {0, 5'000, true}, {0, 131'072, true}, {2'304, 0, true},
      {10'000, 0, true}, {10'000, 5'000, true}, {65'536, 0, true}, {300'000, 0, true}, {300'000, 131'072, true},
  };
  for (const auto& [size, lowat, deaf] : cases) {
    for (const size_t chunk : {size_t{3'000'000}, size_t{300}}) {
      SocketSetup setup;
      setup.client = [deaf = deaf](int fd) {
        if (!deaf) set_int(fd, SOL_SOCKET, SO_RCVBUF, 5'000);
        set_int(fd, kSolTcp, TCP_MAXSEG, 1'000);
      };
      setup.listener = [size = size, lowat = lowat](int fd) {
        if (size != 0) set_int(fd, SOL_SOCKET, SO_SNDBUF, size);
        if (lowat != 0) set_int(fd, kSolTcp, TCP_NOTSENT_LOWAT, lowat);
      };
      Pair pair = connect(setup);
      ASSERT_TRUE(!deaf || make_deaf(pair.client.get()));
      Bytes data = pattern(3'000'000);
      uint32_t before;
      size_t done = 0;
      do {  // until nothing moves any more
        before = unacked(pair.server.get());
        while (const size_t more = fill(pair.server.get(), Bytes(data.begin() + static_cast<ptrdiff_t>(done),
                                                                 data.begin() + static_cast<ptrdiff_t>(std::min(done + chunk, data.size())))))
          done += more;
        ::usleep(1000);
      } while (before != unacked(pair.server.get()));
      ASSERT_LT(done, data.size());
      data.resize(done);
      int sndbuf = 0, now = 0, lowat_now = 0;
      for (int hop = 0; hop < 5; ++hop) {
        ASSERT_TRUE(move_here(pair.server)) << "hop " << hop << ", buffer " << size << ", low water mark " << lowat << ", deaf " << deaf;
        ASSERT_TRUE(get_raw(pair.server.get(), SOL_SOCKET, SO_SNDBUF, now));
        if (hop == 1) sndbuf = now;
        EXPECT_TRUE(hop <= 1 || now <= sndbuf) << now << " > " << sndbuf << " at " << "hop " << hop << ", buffer " << size << ", low water mark " << lowat;
        ASSERT_TRUE(get_raw(pair.server.get(), kSolTcp, TCP_NOTSENT_LOWAT, lowat_now));
        EXPECT_EQ(lowat_now, lowat);
        int locks = -1;
        ASSERT_TRUE(get_raw(pair.server.get(), SOL_SOCKET, SO_BUF_LOCK, locks));
        EXPECT_EQ(locks & SOCK_SNDBUF_LOCK, size != 0 ? SOCK_SNDBUF_LOCK : 0);
      }
      if (size == 10'000) {
        ASSERT_TRUE(!deaf || make_hearing(pair.client.get()));
        EXPECT_EQ(read_exactly(pair.client.get(), data.size()), data);
      }
    }
  }
}

}  // namespace
}  // namespace gecko::tcp::test
