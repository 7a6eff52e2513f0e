// What a lease keeper does with the keys that geckod gives it and takes away: spoken to over its socket, and by datagrams as other nodes do.
#include "node/lease_keeper.hh"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

namespace gecko::node {
namespace {

using namespace std::chrono_literals;
using wire::KeeperType;

constexpr uint64_t kLives[] = {11, 22, 33};

Fd udp_socket(Endpoint& at) {
  Fd fd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address{};
  socklen_t size = Endpoint{*Address::parse("::1"), 0}.to_sockaddr(address);
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
  size = sizeof address;
  EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  at = *Endpoint::from_sockaddr(address);
  const timeval patience{5, 0};
  EXPECT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
  return fd;
}

// The keeper of n1 (node 0); this process is its geckod, and n2 and n3 on one socket.
class KeeperKeys : public testing::Test {
 protected:
  void SetUp() override {
    LeaseKeeper::Sockets sockets;
    Endpoint at;
    Fd heartbeats = udp_socket(at);
    others_ = udp_socket(others_at_);
    options_.node = "n1";
    auto& group = options_.groups.emplace_back();
    group.name = "web";
    group.heartbeat_ms = 1000;   // it is asked, and seldom asks
    for (const char* name : {"n1", "n2", "n3"}) {
      auto& node = group.nodes.emplace_back();
      node.name = name;
      node.address = at.address;
      node.link_port = name[1] == '1' ? at.port : others_at_.port;
    }
    sockets.heartbeats.emplace(at, std::move(heartbeats));
    sockets.owner = ::geteuid();
    const std::string path = testing::TempDir() + "lease-" + std::to_string(::getpid()) + ".sock";
    auto listener = net::unix_listen(path, 0600);
    ASSERT_TRUE(listener) << listener.error().message;
    sockets.listener = std::move(*listener);
    keeper_at_ = at;
    thread_ = std::thread([this, sockets = std::move(sockets)]() mutable { LeaseKeeper(options_, std::move(sockets)).run(); });
    auto connection = net::unix_connect(path);
    ::unlink(path.c_str());
    ASSERT_TRUE(connection) << connection.error().message;
    channel_ = std::make_unique<net::Channel>(
        loop_, std::move(*connection),
        [this](const wire::FrameView& f, std::vector<Fd>&) {
          if (f.type == static_cast<uint16_t>(KeeperType::keyed)) keyed_ = wire::decode<wire::KeeperKeyed>(f.body).value_or(wire::KeeperKeyed{});
        },
        [](const Error& e) { FAIL() << e.message; });
    ASSERT_NO_FATAL_FAILURE(greet());
    tell(KeeperType::peers, wire::KeeperPeers{0, {{1, others_at_}, {2, others_at_}}});
    wire::View view;
    view.group = 1;
    view.epoch = 7;
    view.lease_us = 40'000;
    view.contact = 0;
    for (uint16_t n = 0; n < 3; ++n) view.members.push_back({n, kLives[n], n, false});
    tell(KeeperType::adopt, wire::KeeperAdopt{0, view, kLives[0]});
  }
  void TearDown() override {
    tell(KeeperType::quit, wire::KeeperLives{});
    channel_->flush();
    thread_.join();
  }

  template <wire::Message M>
  void tell(KeeperType type, const M& message) {
    channel_->send(static_cast<uint16_t>(type), message);
  }
  // Whatever was told before has been understood.
  void greet() {
    keyed_.reset();
    tell(KeeperType::hello, wire::KeeperHello{keeper_settings(options_)});
    const Time patience = monotonic_now() + 5s;
    while (!keyed_ && monotonic_now() < patience) loop_.run_once(100ms);
    ASSERT_TRUE(keyed_) << "the keeper does not answer";
  }
  static wire::HeartbeatKey key(uint16_t node, uint8_t number, bool send) {
    wire::HeartbeatKey k{};
    k[0] = static_cast<uint8_t>(node), k[1] = number, k[2] = send;
    return k;
  }
  void give_key(uint16_t node, uint8_t number, const std::string& serial) {
    tell(KeeperType::key, wire::KeeperKey{0, node, id(node, number), key(node, number, true), key(node, number, false), serial});
    tell(KeeperType::use_key, wire::KeeperUseKey{0, node, id(node, number)});
  }
  static uint32_t id(uint16_t node, uint8_t number) { return node * 100u + number; }
  void ask(uint16_t node, uint8_t number) {
    wire::Heartbeat h;
    h.from = node;
    h.incarnation = kLives[node];
    h.counter = ++counter_;
    h.epoch = 7;
    const auto datagram = wire::seal(h, id(node, number), key(node, number, false));
    sockaddr_storage to{};
    const socklen_t size = keeper_at_.to_sockaddr(to);
    ASSERT_EQ(::sendto(others_.get(), datagram.data(), datagram.size(), 0, reinterpret_cast<const sockaddr*>(&to), size),
              static_cast<ssize_t>(datagram.size()));
  }
  // The next answer; what the keeper asks on its own is passed over. Who it is for, and whether it grants.
  std::pair<uint16_t, bool> answer() {
    for (;;) {
      uint8_t bytes[wire::kHeartbeatSize];
      const ssize_t n = ::recv(others_.get(), bytes, sizeof bytes, 0);
      if (n < 0) return {wire::kNoNode, false};
      const wire::ByteView datagram(bytes, static_cast<size_t>(n));
      const uint32_t with = wire::heartbeat_key_id(datagram).value_or(0);
      const auto h = wire::open(datagram, key(static_cast<uint16_t>(with / 100), static_cast<uint8_t>(with % 100), true));
      if (h && h->answer) return {h->to, h->grant};
    }
  }
  std::string serial_of(uint16_t node) {
    for (const auto& keyed : keyed_->peers)
      if (keyed.peer == node) return keyed.serial;
    return "";
  }

  Options options_;
  Endpoint keeper_at_, others_at_;
  Fd others_;
  std::thread thread_;
  net::Loop loop_;
  std::unique_ptr<net::Channel> channel_;
  std::optional<wire::KeeperKeyed> keyed_;   // what it says last when it is greeted
  uint64_t counter_ = 0;
};

constexpr std::pair<uint16_t, bool> kGranted1{1, true}, kGranted2{2, true};

TEST_F(KeeperKeys, WhoseKeyIsForgottenIsNotAnswered) {
  give_key(1, 1, "0a01");
  give_key(1, 2, "0a02");   // the former one is still good
  give_key(2, 1, "0b01");
  ASSERT_NO_FATAL_FAILURE(greet());
  EXPECT_EQ(serial_of(1), "0a02");
  for (const uint8_t number : {uint8_t{1}, uint8_t{2}}) {
    ask(1, number);
    EXPECT_EQ(answer(), kGranted1) << "key " << int{number};
  }
  tell(KeeperType::forget_key, wire::KeeperForgetKey{0, 1});
  ASSERT_NO_FATAL_FAILURE(greet());
  for (const uint8_t number : {uint8_t{1}, uint8_t{2}}) ask(1, number);
  ask(2, 1);
  EXPECT_EQ(answer(), kGranted2) << "who came first was answered, or the other one was forgotten, too";
  EXPECT_EQ(serial_of(1), "0a02") << "a restarted geckod must hear whose it was";
  give_key(1, 3, "0a03");   // it is back
  ASSERT_NO_FATAL_FAILURE(greet());
  ask(1, 3);
  EXPECT_EQ(answer(), kGranted1);
  EXPECT_EQ(serial_of(1), "0a03");
}

TEST_F(KeeperKeys, ToForgetWhatIsNotThereIsNothing) {
  give_key(2, 1, "0b01");
  for (const uint16_t peer : {uint16_t{0}, uint16_t{1}, uint16_t{63}}) tell(KeeperType::forget_key, wire::KeeperForgetKey{0, peer});
  tell(KeeperType::forget_key, wire::KeeperForgetKey{9, 2});
  ASSERT_NO_FATAL_FAILURE(greet());
  ask(2, 1);
  EXPECT_EQ(answer(), kGranted2);
}

}  // namespace
}  // namespace gecko::node
