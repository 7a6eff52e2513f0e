// Whole moves: nothing lost, nothing twice, no reset.
#include <gtest/gtest.h>

#include <thread>

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

}  // namespace
}  // namespace gecko::tcp::test
