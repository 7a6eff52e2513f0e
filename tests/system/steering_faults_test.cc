// Steering when somebody has missed something: a stranger's packets, a connection that was given back, a contact that was away, a crash.
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <thread>

#include "fault_scene.hh"
#include "kit/pattern.hh"

namespace gecko::system_test {
namespace {

// A stranger's bare ACKs, each from another port, as fast as it can.
Status flood_with_acks(const Address& from, const Endpoint& to, uint32_t count) {
  Fd raw(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!raw) return os_error("open a raw socket");
  const int checksum_at = 16;
  if (::setsockopt(raw.get(), IPPROTO_IPV6, IPV6_CHECKSUM, &checksum_at, sizeof checksum_at) != 0) return os_error("let the kernel fill in checksums");
  const auto put16 = [](uint8_t* at, uint16_t v) { at[0] = static_cast<uint8_t>(v >> 8), at[1] = static_cast<uint8_t>(v); };
  sockaddr_storage address{};
  const socklen_t size = Endpoint{to.address, 0}.to_sockaddr(address);
  sockaddr_storage source{};
  const socklen_t source_size = Endpoint{from, 0}.to_sockaddr(source);
  if (::bind(raw.get(), reinterpret_cast<sockaddr*>(&source), source_size) != 0) return os_error("bind");
  for (uint32_t i = 0; i < count; ++i) {
    uint8_t segment[20] = {};
    put16(segment, static_cast<uint16_t>(1024 + i % 64000));
    put16(segment + 2, to.port);
    segment[7] = static_cast<uint8_t>(i / 64000);   // another sequence number
    segment[12] = 0x50, segment[13] = 0x10, segment[14] = 1;
    if (::sendto(raw.get(), segment, sizeof segment, 0, reinterpret_cast<sockaddr*>(&address), size) < 0 && errno != ENOBUFS && errno != EAGAIN)
      return os_error("send");
  }
  return {};
}

class Steering : public FaultTest {
 protected:
  Status flood(uint32_t count) {
    return lab().inside("client", [&] { return flood_with_acks(scene().clients().front(), scene().echo(), count); });
  }
  std::string contact(const std::string& via) {
    const auto now = ask().contact_now(via);
    return now ? *now : "";
  }
  size_t entries(const std::string& node, const char* state) {
    const auto kernel = ask().ask(node, {{"op", "kernel"}});
    return kernel ? (*kernel)["flows"].value(state, size_t{0}) : SIZE_MAX;
  }
};

// Alone in its group, a contact knows at once that nobody else owns a flow.
class SteeringAlone : public Steering {
 protected:
  void SetUp() override { set_up({.name = "fla", .nodes = 1}); }
};

TEST_F(SteeringAlone, AFloodOfStraysDoesNotStopIt) {
  auto& client = ping();
  connected();
  const pid_t before = geckod(lab(), "n1", Half::unprivileged);
  const auto flooded = flood(100'000);
  ASSERT_TRUE(flooded) << flooded.error().message;
  EXPECT_TRUE(progresses(client));
  EXPECT_EQ(geckod(lab(), "n1", Half::unprivileged), before) << "geckod has ended";
  EXPECT_EQ(status("n1")["verdict"], "ok") << status("n1").dump();
}

TEST_F(Steering, AFloodOfStraysLeavesConnectionsAndMovesAlone) {
  auto& client = ping();
  connected();
  std::thread flooding([&] { EXPECT_TRUE(flood(200'000)); });
  for (const char* to : {"n2", "n3", "n1"}) {
    std::string words = "not asked";
    EXPECT_TRUE(eventually([&] { return (words = refusal("n1", local(client).str(), to)).empty(); }, 10s)) << words;
    EXPECT_TRUE(progresses(client));
  }
  flooding.join();
  EXPECT_LT(entries("n1", "kernel"), 40'000u);   // at most 16,384 between two sweeps, each for up to two of them
}

// The acceptor's kernel lets nothing in from the hold device: the FIN of a half-closed connection cannot be put in place, and the connection
// is not brought to life although it was committed. It stays at its donor - and the contact, a third node, must hear of that.
TEST_F(Steering, AConnectionGivenBackAfterCommitGoesOn) {
  constexpr size_t kSize = 300 * 1024;
  std::vector<uint8_t> sent(kSize);
  kit::fill_pattern(kit::Pattern::echo, 1, 0, sent);
  Fd fd;
  ASSERT_TRUE(lab().inside("client", [&]() -> Status {
    fd.reset(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int small = 4096;   // so that an echo of this size waits at the server
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    const timeval patience{5, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_storage to{};
    const socklen_t size = scene().echo().to_sockaddr(to);
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), size) != 0) return os_error("connect");
    return {};
  }));
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  ASSERT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &size), 0);
  const Endpoint client = *Endpoint::from_sockaddr(name);
  ASSERT_TRUE(eventually([&] { return owner(client) == "n1"; }));
  ASSERT_EQ(::send(fd.get(), sent.data(), sent.size(), 0), static_cast<ssize_t>(kSize));
  move(client, "n2");
  ASSERT_EQ(::shutdown(fd.get(), SHUT_WR), 0);
  const auto nft = lab().output("n3", {"sh", "-c", "nft add table inet gkt && nft 'add chain inet gkt in { type filter hook input priority -10; }' && "
                                                   "nft add rule inet gkt in iifname gecko-hold drop"});
  ASSERT_TRUE(nft && nft->code == 0) << (nft ? nft->err : nft.error().message);
  const auto words = refusal("n2", client.str(), "n3");
  std::printf("moved to a node that cannot bring it to life: %s\n", words.c_str());
  EXPECT_NE(words, "") << "the fault did not happen";
  std::vector<uint8_t> got(kSize);
  size_t at = 0;
  while (at < kSize) {
    const ssize_t n = ::recv(fd.get(), got.data() + at, kSize - at, 0);
    ASSERT_GT(n, 0) << "after " << at << " bytes: " << (n == 0 ? "the end" : std::strerror(errno));
    at += static_cast<size_t>(n);
  }
  EXPECT_EQ(got, sent);
  uint8_t more = 0;
  EXPECT_EQ(::recv(fd.get(), &more, 1, 0), 0) << std::strerror(errno);
}

// n1 is stopped, n2 takes the role and tells the segment. n1 goes on and is not contact any more; whoever was its client goes on there.
TEST_F(Steering, AContactThatWasAwayFindsAnotherAndItsClientsGoOn) {
  kit::PingOptions options;
  options.server = scene().echo();
  options.idle = true;
  auto& client = swarm_->add<kit::PingClient>(options);
  connected();
  ASSERT_EQ(owner(local(client)), "n1");
  std::this_thread::sleep_for(1200ms);   // n1's first announcement is repeated for 1 s; a repetition after its pause would take the segment back
  ASSERT_TRUE(const_cast<lab::Lab&>(lab()).pause("n1"));
  EXPECT_TRUE(eventually([&] { return contact("n2") == "n2" && contact("n3") == "n2"; }));
  // The router has learned it: a new connection is served by n2.
  auto& other = ping();
  EXPECT_TRUE(eventually([&] { return owner(local(other)) == "n2"; }));
  ASSERT_TRUE(const_cast<lab::Lab&>(lab()).resume("n1"));
  ASSERT_TRUE(lab().wait_ready());
  for (const char* node : {"n1", "n2", "n3"}) EXPECT_TRUE(eventually([&] { return contact(node) == "n2"; })) << node;
  std::this_thread::sleep_for(500ms);   // n1 answers for the role 200 ms longer
  swarm_->call([&] { client.speak(); });
  uint64_t exchanges = 0;
  EXPECT_TRUE(eventually([&] {
    swarm_->call([&] { exchanges = client.totals().exchanges; });
    return exchanges == 2;
  }, 3s)) << exchanges;
  EXPECT_FALSE(done(client));
  EXPECT_TRUE(progresses(other));
}

// A crash leaves "mine" entries of connections that end while nobody watches.
TEST_F(Steering, EntriesThatACrashLeftGo) {
  for (int i = 0; i < 8; ++i) ping();
  connected();
  kill_geckod("n1");
  // The clients close first: a server that does keeps its side in TIME_WAIT for a minute, and so long the entry is right.
  const auto totals = swarm_->wind_down(5s);
  EXPECT_EQ(totals.lost(), 0u) << totals.first_failure;
  swarm_.reset();
  start_geckod("n1");
  ASSERT_TRUE(eventually([&] { return entries("n1", "mine") >= 8; }, 10s)) << "the new geckod did not take the old entries over";
  EXPECT_TRUE(eventually([&] { return entries("n1", "mine") == 0; }, 40s)) << entries("n1", "mine");
}

}  // namespace
}  // namespace gecko::system_test
