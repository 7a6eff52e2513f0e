// Whole moves: nothing lost, nothing twice, no reset.
#include <gtest/gtest.h>

#include <thread>

#include "tcp/test_net.hh"

namespace gecko::tcp::test {
namespace {

std::unique_ptr<Injector> injector() {
  auto made = make_raw_injector();
  GECKO_ASSERT(made);
  return *std::move(made);
}

// Within one namespace: the old socket must go before the new one comes.
testing::AssertionResult move_here(Fd& server, wire::TcpState* seen = nullptr) {
  const auto raw = injector();
  const auto fail = [](const char* step, const Error& e) { return testing::AssertionFailure() << step << ": " << e.message; };
  const auto frozen = freeze(server.get());
  if (!frozen) return fail("freeze", frozen.error());
  auto state = capture(server.get(), *frozen);
  if (!state) return fail("capture", state.error());
  if (seen) *seen = *state;
  if (auto done = retire(server.get()); !done) return fail("retire", done.error());
  auto restored = restore(*state);
  if (!restored) return fail("restore", restored.error());
  const auto active = activate(restored->get(), *state, *raw);
  if (!active) return fail("activate", active.error());
  if (!active->unsent.empty()) return testing::AssertionFailure() << active->unsent.size() << " bytes left unsent";
  server = *std::move(restored);
  return testing::AssertionSuccess();
}

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
INSTANTIATE_TEST_SUITE_P(Families, Move, testing::Values(Family{"IPv6", "::1", false}, Family{"IPv4", "127.0.0.1", false}, Family{"V4Mapped", "127.0.0.1", true}),
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
