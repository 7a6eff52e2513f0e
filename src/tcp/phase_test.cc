// Half-closed connections: every state that has a descriptor moves, and ends as cleanly as if it had not.
#include <gtest/gtest.h>

#include "tcp/deaf_filter.hh"
#include "tcp/test_net.hh"

namespace gecko::tcp::test {
namespace {

using wire::TcpPhase;

// A client that does not hear what the server sends leaves the server's FIN unacknowledged.
class Deaf {
 public:
  explicit Deaf(int fd) : fd_(fd) { EXPECT_TRUE(make_deaf(fd)); }
  ~Deaf() { hear(); }
  void hear() { EXPECT_TRUE(make_hearing(fd_)); }

 private:
  int fd_;
};

class Phase : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    pair_ = connected(at(GetParam(), 0));
    client_ = pair_.client.get();
  }
  int server() const { return pair_.server.get(); }
  void move(TcpPhase expected) {
    wire::TcpState state;
    const auto before = kernel_state(server());
    ASSERT_TRUE(move_here(pair_.server, &state));
    EXPECT_EQ(state.phase, expected);
    // The peer may have acknowledged our FIN already; then the state has gone on by itself.
    if (expected == TcpPhase::close_wait || expected == TcpPhase::fin_wait2) {
      EXPECT_TRUE(reaches(server(), static_cast<KernelState>(before)));
    }
  }
  void expect_end_of_stream(int fd) {
    int error = 0;
    EXPECT_TRUE(read_exactly(fd, 1, &error).empty());
    EXPECT_EQ(error, 0) << std::strerror(error);
  }
  // Both sides have sent their FIN: nothing must be left over and nobody must have been reset.
  void expect_clean_end() {
    EXPECT_TRUE(eventually([&] {
      const auto c = kernel_state(client_), s = kernel_state(server());
      return c == kClose && s == kClose;  // TIME_WAIT has no descriptor: TCP_INFO says CLOSE
    })) << "client " << to_string(static_cast<KernelState>(kernel_state(client_))) << ", server "
        << to_string(static_cast<KernelState>(kernel_state(server())));
    int error = 0;
    EXPECT_TRUE(get_raw(client_, SOL_SOCKET, SO_ERROR, error));
    EXPECT_EQ(error, 0) << std::strerror(error);
    EXPECT_TRUE(get_raw(server(), SOL_SOCKET, SO_ERROR, error));
    EXPECT_EQ(error, 0) << std::strerror(error);
  }

  NoResets no_resets_;
  Pair pair_;
  int client_ = -1;
};
INSTANTIATE_TEST_SUITE_P(Families, Phase, testing::Values("::1", "127.0.0.1"),
                         [](const auto& p) { return std::string(p.param).find(':') == 0 ? "IPv6" : "IPv4"; });

TEST_P(Phase, CloseWait) {
  const Bytes request = pattern(4000, 1), reply = pattern(6000, 2);
  ASSERT_TRUE(write_all(client_, request));
  ASSERT_EQ(::shutdown(client_, SHUT_WR), 0);
  ASSERT_TRUE(reaches(server(), kCloseWait));
  for (int hop = 0; hop < 3; ++hop) move(TcpPhase::close_wait);
  EXPECT_EQ(read_exactly(server(), request.size()), request);
  expect_end_of_stream(server());
  ASSERT_TRUE(write_all(server(), reply));
  EXPECT_EQ(read_exactly(client_, reply.size()), reply);
  ASSERT_EQ(::shutdown(server(), SHUT_WR), 0);
  expect_end_of_stream(client_);
  expect_clean_end();
}

TEST_P(Phase, FinWait2) {
  const Bytes request = pattern(4000, 1), reply = pattern(6000, 2);
  ASSERT_TRUE(write_all(server(), reply));
  ASSERT_EQ(::shutdown(server(), SHUT_WR), 0);
  ASSERT_TRUE(reaches(server(), kFinWait2));
  for (int hop = 0; hop < 3; ++hop) move(TcpPhase::fin_wait2);
  EXPECT_EQ(read_exactly(client_, reply.size()), reply);
  expect_end_of_stream(client_);
  ASSERT_TRUE(write_all(client_, request));
  ASSERT_TRUE(eventually([&] { return unread(server()) == request.size(); }));
  for (int hop = 0; hop < 3; ++hop) move(TcpPhase::fin_wait2);  // now with unread data
  EXPECT_EQ(read_exactly(server(), request.size()), request);
  ASSERT_EQ(::shutdown(client_, SHUT_WR), 0);
  expect_end_of_stream(server());
  expect_clean_end();
}

// Our acknowledged FIN takes a sequence number, and an acknowledgement that forgets it lies outside the client's window.
TEST_P(Phase, FinWait2OwesAnAcknowledgement) {
  ASSERT_TRUE(write_all(client_, pattern(1000)));
  EXPECT_EQ(read_exactly(server(), 1000), pattern(1000));
  ASSERT_TRUE(write_all(server(), pattern(1000)));  // interactive: acknowledgements are delayed from now on
  EXPECT_EQ(read_exactly(client_, 1000), pattern(1000));
  ASSERT_EQ(::shutdown(server(), SHUT_WR), 0);
  ASSERT_TRUE(reaches(server(), kFinWait2));
  ASSERT_TRUE(write_all(client_, pattern(10)));
  ASSERT_TRUE(eventually([&] { return unread(server()) == 10; }));
  wire::TcpState state;
  ASSERT_TRUE(move_here(pair_.server, &state));
  ASSERT_NE(state.rcv_wup, state.recv_seq) << "the acknowledgement was not pending: this tests nothing";
  EXPECT_TRUE(eventually([&] { return unacked(client_) == 0; }));
  tcp_info info{};
  ASSERT_TRUE(get_raw(client_, kSolTcp, TCP_INFO, info));
  EXPECT_EQ(info.tcpi_total_retrans, 0u);
  EXPECT_EQ(read_exactly(server(), 10), pattern(10));
}

TEST_P(Phase, FinWait1WithTheFinLost) {
  Deaf deaf(client_);
  ASSERT_TRUE(write_all(server(), pattern(100)));
  ASSERT_EQ(::shutdown(server(), SHUT_WR), 0);
  ASSERT_TRUE(reaches(server(), kFinWait1));
  for (int hop = 0; hop < 3; ++hop) move(TcpPhase::fin_wait1);
  deaf.hear();
  EXPECT_EQ(read_exactly(client_, 100), pattern(100));
  expect_end_of_stream(client_);
  EXPECT_TRUE(reaches(server(), kFinWait2));
  ASSERT_EQ(::shutdown(client_, SHUT_WR), 0);
  expect_end_of_stream(server());
  expect_clean_end();
}

TEST_P(Phase, FinWait1BehindAClosedWindow) {
  SocketSetup setup;
  setup.client = [](int fd) { set_int(fd, SOL_SOCKET, SO_RCVBUF, 16384); };
  pair_ = connected(at(GetParam(), 0), setup);
  client_ = pair_.client.get();
  Bytes data = pattern(100'000);
  data.resize(fill(server(), data));
  ASSERT_TRUE(eventually([&] { return unread(client_) > 0; }));
  ASSERT_EQ(::shutdown(server(), SHUT_WR), 0);
  ASSERT_TRUE(reaches(server(), kFinWait1));
  wire::TcpState state;
  for (int hop = 0; hop < 3; ++hop) {
    ASSERT_TRUE(move_here(pair_.server, &state));
    EXPECT_EQ(state.phase, TcpPhase::fin_wait1);
    EXPECT_GT(state.unsent, 0u);
    EXPECT_EQ(kernel_state(server()), kFinWait1);
  }
  EXPECT_EQ(read_exactly(client_, data.size()), data);
  expect_end_of_stream(client_);
  ASSERT_EQ(::shutdown(client_, SHUT_WR), 0);
  expect_clean_end();
}

TEST_P(Phase, LastAck) {
  const Bytes request = pattern(4000, 1), reply = pattern(6000, 2);
  ASSERT_TRUE(write_all(client_, request));
  ASSERT_EQ(::shutdown(client_, SHUT_WR), 0);
  ASSERT_TRUE(reaches(server(), kCloseWait));
  Deaf deaf(client_);
  ASSERT_TRUE(write_all(server(), reply));
  ASSERT_EQ(::shutdown(server(), SHUT_WR), 0);
  ASSERT_TRUE(reaches(server(), kLastAck));
  for (int hop = 0; hop < 3; ++hop) move(TcpPhase::last_ack);
  EXPECT_EQ(kernel_state(server()), kLastAck);
  EXPECT_EQ(read_exactly(server(), request.size()), request);
  expect_end_of_stream(server());
  deaf.hear();
  EXPECT_EQ(read_exactly(client_, reply.size()), reply);
  expect_end_of_stream(client_);
  expect_clean_end();
}

TEST_P(Phase, Closing) {
  Deaf deaf(client_);
  ASSERT_TRUE(write_all(server(), pattern(500)));
  ASSERT_EQ(::shutdown(server(), SHUT_WR), 0);
  ASSERT_TRUE(reaches(server(), kFinWait1));
  ASSERT_TRUE(write_all(client_, pattern(300, 9)));
  ASSERT_EQ(::shutdown(client_, SHUT_WR), 0);  // the two FINs cross
  ASSERT_TRUE(reaches(server(), kClosing));
  for (int hop = 0; hop < 3; ++hop) move(TcpPhase::closing);
  EXPECT_EQ(kernel_state(server()), kClosing);
  EXPECT_EQ(read_exactly(server(), 300), pattern(300, 9));
  expect_end_of_stream(server());
  deaf.hear();
  EXPECT_EQ(read_exactly(client_, 500), pattern(500));
  expect_end_of_stream(client_);
  expect_clean_end();
}

}  // namespace
}  // namespace gecko::tcp::test
