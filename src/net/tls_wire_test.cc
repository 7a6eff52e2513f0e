// A wire that cuts and flips: a link over it ends cleanly at both sides, or is what both believe.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <optional>

#include "net/tls_test_scene.hh"

namespace gecko::net {
namespace {

using namespace testing_tls;

// Between our dialling and our listening side: after `at` bytes of one direction it closes both ends or flips a bit.
class Relay {
 public:
  Relay(Loop& loop, const Endpoint& to, bool from_client, size_t at, bool cut) : loop_(loop), to_(to), from_client_(from_client), at_(at), cut_(cut) {
    listening_ = Fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_storage address{};
    socklen_t size = Endpoint::parse("[::1]:0")->to_sockaddr(address);
    EXPECT_EQ(bind(listening_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listening_.get(), 1), 0);
    size = sizeof address;
    getsockname(listening_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    local = *Endpoint::from_sockaddr(address);
    (void)loop_.watch(listening_.get(), EPOLLIN, [this](uint32_t) { accept_one(); }).has_value();
  }
  ~Relay() { end(); loop_.unwatch(listening_.get()); }
  Endpoint local;
  size_t passed[2] = {0, 0};  // from the client, from the server
  bool done = false;          // the fault has happened

 private:
  void accept_one() {
    ends_[0] = Fd(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!ends_[0]) return;
    ends_[1] = tcp_connect(to_);
    if (cut_ && at_ == 0) { done = true; return end(); }
    for (const int side : {0, 1}) (void)loop_.watch(ends_[side].get(), EPOLLIN, [this, side](uint32_t) { move_bytes(side); }).has_value();
  }
  void move_bytes(int side) {
    uint8_t data[4096];
    const ssize_t got = recv(ends_[side].get(), data, sizeof data, MSG_DONTWAIT);
    if (got <= 0) {
      if (got == 0 || errno != EAGAIN) end();
      return;
    }
    size_t n = static_cast<size_t>(got);
    if ((side == 0) == from_client_ && passed[side] + n > at_ && !done) {
      done = true;
      if (cut_) n = at_ - passed[side];
      else data[at_ - passed[side]] ^= 0x10;
    }
    (void)!send(ends_[1 - side].get(), data, n, MSG_NOSIGNAL);
    passed[side] += n;
    if (done && cut_) end();
  }
  void end() {
    for (Fd& fd : ends_) {
      if (fd) loop_.unwatch(fd.get());
      fd.reset();
    }
  }
  Loop& loop_;
  Endpoint to_;
  bool from_client_;
  size_t at_;
  bool cut_;
  Fd listening_, ends_[2];
};

class WireTest : public TlsScene, public testing::WithParamInterface<std::tuple<bool, bool>> {};

TEST_P(WireTest, CutOrFlippedAtManyPointsEndsCleanlyAtBothSides) {
  const auto [from_client, cut] = GetParam();
  TlsOptions options;
  options.handshake_timeout = milliseconds(300);  // a flipped length leaves both waiting
  listen(options);
  size_t total = 1;
  int faults = 0, survived = 0;
  for (size_t at = 0; at < total; at += at < 16 ? 1 : 23) {
    SCOPED_TRACE(at);
    ended.clear();
    accepted.clear();
    Relay relay(loop, listener->local(), from_client, at, cut);
    std::optional<Error> down;
    bool up = false;
    TlsLink::Events events;
    events.up = [&] { up = true; };
    events.down = [&](const Error& error) { down = error; };
    auto link = TlsLink::dial(loop, n2, {}, relay.local, "n1", std::move(events), options);
    ASSERT_TRUE(run_until([&] { return (up && !accepted.empty() && accepted.back()->is_up()) || (down && listener->handshaking() == 0); }, seconds(10)))
        << "hangs; client: " << (down ? down->message : "-");
    if (at == 0) total = 3000;
    // Past the end of the handshake: the fault can no longer happen.
    if (!relay.done && up && !down) {
      total = 0;
    } else {
      ++faults;
      // What both sides believed was good must be good (a flipped bit in a field that TLS does not protect, as the first record's version).
      if (!down && up && !accepted.empty() && accepted.back()->is_up()) {
        ++survived;
        EXPECT_EQ(link->peer_node(), "n1");
        EXPECT_EQ(accepted.back()->peer_node(), "n2");
      }
      if (down) {
        EXPECT_GT(down->message.size(), 10u);
        texts.push_back(down->message);
      }
    }
    link.reset();
    accepted.clear();
  }
  EXPECT_GT(faults, 40);
  EXPECT_LE(survived, cut ? 1 : 6);
}

INSTANTIATE_TEST_SUITE_P(All, WireTest, testing::Combine(testing::Bool(), testing::Bool()), [](const auto& one) {
  return std::string(std::get<0>(one.param) ? "FromClient" : "FromServer") + (std::get<1>(one.param) ? "Cut" : "Flipped");
});

}  // namespace
}  // namespace gecko::net
