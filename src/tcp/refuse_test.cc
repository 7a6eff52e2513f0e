// What cannot move says so, and is left as it was. And what must be free afterwards is free.
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <sys/syscall.h>

#include "tcp/deaf_filter.hh"
#include "tcp/test_net.hh"

namespace gecko::tcp::test {
namespace {

constexpr int kProtocolMptcp = 262;

void expect_refused(int fd, Errc code, const std::string& word) {
  const auto frozen = freeze(fd);
  ASSERT_FALSE(frozen);
  EXPECT_EQ(frozen.error().code, code) << frozen.error().message;
  EXPECT_NE(frozen.error().message.find(word), std::string::npos) << frozen.error().message;
}

TEST(Refuses, Listen) {
  const Fd listener = listen_on(at("::1", 0));
  expect_refused(listener.get(), Errc::closed, "LISTEN");
  EXPECT_TRUE(connect_to(Endpoint{at("::1", 0).address, name_of(listener.get()).port}));  // untouched
}

TEST(Refuses, SynSent) {
  ip(nullptr, "link add hole type veth peer name holepeer\naddr add 2001:db8:dead::1/64 dev hole nodad\nlink set hole up\nlink set holepeer up\n");
  const Fd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_storage to{};
  const socklen_t size = at("2001:db8:dead::2", 9).to_sockaddr(to);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), size), -1);
  EXPECT_EQ(errno, EINPROGRESS);
  expect_refused(fd.get(), Errc::closed, "SYN_SENT");
  ip(nullptr, "link del hole\n");
}

TEST(Refuses, TimeWaitAndClosed) {
  Pair pair = connected(at("::1", 0));
  ::shutdown(pair.server.get(), SHUT_WR);
  ::shutdown(pair.client.get(), SHUT_WR);
  ASSERT_TRUE(reaches(pair.server.get(), kClose));
  ASSERT_TRUE(reaches(pair.client.get(), kClose));
  expect_refused(pair.server.get(), Errc::closed, "CLOSE");
  expect_refused(pair.client.get(), Errc::closed, "CLOSE");
  const Fd fresh(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  expect_refused(fresh.get(), Errc::closed, "CLOSE");
}

TEST(Refuses, WhatIsNotTcp) {
  const Fd udp(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  expect_refused(udp.get(), Errc::unsupported, "not a TCP socket");
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const Fd one(ends[0]), other(ends[1]);
  expect_refused(one.get(), Errc::unsupported, "not a TCP socket");
  const Fd file(::open("/dev/null", O_RDWR | O_CLOEXEC));
  expect_refused(file.get(), Errc::unsupported, "not a TCP socket");
  const auto closed = freeze(-1);
  ASSERT_FALSE(closed);
  EXPECT_NE(closed.error().message.find("Bad file descriptor"), std::string::npos) << closed.error().message;
}

TEST(Refuses, MultipathTcp) {
  const Fd listener(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, kProtocolMptcp));
  if (!listener) GTEST_SKIP() << "this kernel has no MPTCP: " << std::strerror(errno);
  sockaddr_storage where{};
  const socklen_t size = at("::1", 0).to_sockaddr(where);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&where), size), 0);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  const Endpoint name = name_of(listener.get());
  sockaddr_storage to{};
  name.to_sockaddr(to);
  const Fd client(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, kProtocolMptcp));
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&to), size), 0);
  const Fd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  expect_refused(server.get(), Errc::unsupported, "Multipath TCP");
  // A plain client of an MPTCP listener gives a plain TCP connection (Go's servers listen like this): that one moves.
  const Fd plain_client = connect_to(name);
  Fd plain(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  int protocol = 0;
  ASSERT_TRUE(get_raw(plain.get(), SOL_SOCKET, SO_PROTOCOL, protocol));
  if (protocol != IPPROTO_TCP) {
    expect_refused(plain.get(), Errc::unsupported, "Multipath TCP");  // older kernels keep the wrapping
    return;
  }
  ASSERT_TRUE(move_here(plain));
  ASSERT_TRUE(write_all(plain_client.get(), pattern(100)));
  EXPECT_EQ(read_exactly(plain.get(), 100), pattern(100));
}

TEST(Refuses, Signed) {
  tcp_md5sig key{};
  auto& to = reinterpret_cast<sockaddr_in6&>(key.tcpm_addr);
  to.sin6_family = AF_INET6;
  to.sin6_addr = in6addr_loopback;
  key.tcpm_keylen = 6;
  std::memcpy(key.tcpm_key, "secret", 6);
  bool supported = true;
  SocketSetup setup;
  setup.listener = setup.client = [&](int fd) { supported = set_raw(fd, kSolTcp, TCP_MD5SIG, &key, sizeof key) && supported; };
  Pair pair = connected(at("::1", 0), setup);
  if (!supported) GTEST_SKIP() << "this kernel has no TCP_MD5SIG";
  expect_refused(pair.server.get(), Errc::unsupported, "TCP MD5");
  ASSERT_TRUE(write_all(pair.client.get(), pattern(100)));
  EXPECT_EQ(read_exactly(pair.server.get(), 100), pattern(100));
}

TEST(Refuses, AFilterOfTheApplication) {
  Pair pair = connected(at("::1", 0));
  sock_filter all{BPF_RET | BPF_K, 0, 0, 0xffffffff};
  const sock_fprog program{1, &all};
  ASSERT_TRUE(set_raw(pair.server.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
  expect_refused(pair.server.get(), Errc::unsupported, "filter");
}

TEST(Refuses, WhatIsFrozenAlready) {
  Pair pair = connected(at("::1", 0));
  const auto frozen = freeze(pair.server.get());
  ASSERT_TRUE(frozen);
  expect_refused(pair.server.get(), Errc::busy, "frozen already");
  ASSERT_TRUE(thaw(pair.server.get(), *frozen));
  EXPECT_TRUE(freeze(pair.server.get()));
}

TEST(Refuses, UrgentDataUntilItIsRead) {
  for (const bool in_line : {false, true}) {
    Pair pair = connected(at("::1", 0));
    set_int(pair.server.get(), SOL_SOCKET, SO_OOBINLINE, in_line);
    ASSERT_TRUE(write_all(pair.client.get(), pattern(10)));
    ASSERT_EQ(::send(pair.client.get(), "!", 1, MSG_OOB), 1);
    ASSERT_TRUE(write_all(pair.client.get(), pattern(10)));
    ASSERT_TRUE(eventually([&] { return unacked(pair.client.get()) == 0; }));
    auto frozen = freeze(pair.server.get());
    ASSERT_TRUE(frozen);
    const auto state = capture(pair.server.get(), *frozen);
    ASSERT_FALSE(state) << in_line;
    EXPECT_EQ(state.error().code, Errc::busy) << state.error().message;
    ASSERT_TRUE(thaw(pair.server.get(), *frozen));
    // Everything is still there.
    char c = 0;
    EXPECT_EQ(read_exactly(pair.server.get(), 10), pattern(10));
    EXPECT_EQ(::recv(pair.server.get(), &c, 1, in_line ? 0 : MSG_OOB), 1);
    EXPECT_EQ(c, '!');
    EXPECT_EQ(read_exactly(pair.server.get(), 10), pattern(10));
    ASSERT_TRUE(move_here(pair.server)) << in_line;
  }
}

TEST(Refuses, WithoutTheCapability) {
  Pair pair = connected(at("::1", 0));
  const pid_t child = ::fork();
  if (child == 0) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[2]{};
    if (::syscall(SYS_capset, &header, none) != 0) ::_exit(3);
    const auto frozen = freeze(pair.server.get());
    ::_exit(!frozen && frozen.error().code == Errc::permission && frozen.error().message.find("CAP_NET_ADMIN") != std::string::npos &&
                    attached_filter(pair.server.get()) == FilterKind::none
                ? 0
                : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

wire::TcpState captured(int fd) {
  const auto frozen = freeze(fd);
  GECKO_ASSERT(frozen);
  auto state = capture(fd, *frozen);
  GECKO_ASSERT(state);
  return *std::move(state);
}

TEST(Restore, OfAConnectionThatLivesHereIsRefused) {
  for (const char* address : {"::1", "127.0.0.1"}) {
    Pair pair = connected(at(address, 0));
    const wire::TcpState state = captured(pair.server.get());
    const auto again = restore(state);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, Errc::exists) << again.error().message;
    EXPECT_NE(again.error().message.find("lives on this machine already"), std::string::npos);
  }
}

TEST(Restore, OfAnAddressThatIsNotHereSaysSo) {
  for (const auto& [mine, foreign] : {std::pair{"::1", "2001:db8::99"}, std::pair{"127.0.0.1", "192.0.2.99"}}) {
    for (const bool v6_socket : {false, true}) {
      SocketSetup setup;
      setup.v6_socket_for_v4 = v6_socket;
      Pair pair = connected(at(mine, 0), setup);
      wire::TcpState state = captured(pair.server.get());
      state.flow.local.address = *Address::parse(foreign);
      const auto elsewhere = restore(state);
      ASSERT_FALSE(elsewhere);
      EXPECT_EQ(elsewhere.error().code, Errc::unavailable) << elsewhere.error().message;
      const auto freely = restore(state, {.freebind = true});
      EXPECT_TRUE(freely) << freely.error().message;
    }
  }
}

TEST(Restore, OfNonsenseIsRefused) {
  Pair pair = connected(at("::1", 0));
  const wire::TcpState good = captured(pair.server.get());
  ASSERT_TRUE(retire(pair.server.get()));
  wire::TcpState bad = good;
  bad.unsent = 1;
  EXPECT_EQ(restore(bad).error().code, Errc::invalid);
  bad = good;
  bad.fin_sent = true;
  EXPECT_EQ(restore(bad).error().code, Errc::invalid);
  EXPECT_TRUE(restore(good));
}

// A restored socket that was never activated goes without a packet, and a frozen one too, whoever else holds descriptors.
TEST(Retire, IsSilentAndFreesTheAddressesAtOnce) {
  const NoResets no_resets;
  Pair pair = connected(at("::1", 0));
  const Fd somebody_elses(::dup(pair.server.get()));
  const wire::TcpState state = captured(pair.server.get());
  const uint64_t sent = tcp_counter("OutSegs");
  ASSERT_TRUE(retire(pair.server.get()));
  {
    auto restored = restore(state);
    ASSERT_TRUE(restored) << restored.error().message;
    EXPECT_TRUE(retire(restored->get()));
    auto again = restore(state);
    ASSERT_TRUE(again) << again.error().message;
  }  // closed without retire: silent as well
  EXPECT_EQ(tcp_counter("OutSegs"), sent);
  char c;
  EXPECT_EQ(::recv(somebody_elses.get(), &c, 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, ECONNABORTED);
  int repair = -1;
  EXPECT_TRUE(get_raw(somebody_elses.get(), kSolTcp, TCP_REPAIR, repair));
  EXPECT_EQ(repair, 0);
  auto last = restore(state);
  ASSERT_TRUE(last) << last.error().message;
  ASSERT_TRUE(activate(last->get(), state, *injector()));
  ASSERT_TRUE(write_all(pair.client.get(), pattern(100)));
  EXPECT_EQ(read_exactly(last->get(), 100), pattern(100));
}

// Leaving repair mode means "no reuse" to the kernel; a listener that restarts would not get its port back.
TEST(Retire, ListenersCanBindBesideMovedThawedAndRetiredConnections) {
  Pair moved = connected(at("::1", 0));
  const Endpoint where = name_of(moved.server.get());
  ASSERT_TRUE(move_here(moved.server));
  Fd listener = listen_on(where);
  ASSERT_TRUE(listener) << "beside a moved connection: " << std::strerror(errno);
  // Restoring works while a listener holds the port.
  ASSERT_TRUE(move_here(moved.server));
  listener.reset();

  const auto frozen = freeze(moved.server.get());
  ASSERT_TRUE(frozen);
  ASSERT_TRUE(thaw(moved.server.get(), *frozen));
  listener = listen_on(where);
  EXPECT_TRUE(listener) << "beside a thawed connection: " << std::strerror(errno);
  listener.reset();

  ASSERT_TRUE(freeze(moved.server.get()));
  ASSERT_TRUE(retire(moved.server.get()));  // still open
  listener = listen_on(where);
  EXPECT_TRUE(listener) << "beside a retired connection: " << std::strerror(errno);
}

TEST(Positions, AreTold) {
  Pair pair = connected(at("::1", 0));
  ASSERT_TRUE(write_all(pair.client.get(), pattern(100)));
  ASSERT_TRUE(eventually([&] { return unread(pair.server.get()) == 100; }));
  const auto live = positions(pair.server.get());
  ASSERT_TRUE(live);
  EXPECT_EQ(live->unread_bytes, 100u);
  EXPECT_EQ(live->kernel_state, kEstablished);
  EXPECT_EQ(live->rcv_nxt, 0u);
  EXPECT_GT(live->segs_in, 1u);
  const auto frozen = freeze(pair.server.get());
  ASSERT_TRUE(frozen);
  const auto state = capture(pair.server.get(), *frozen);
  ASSERT_TRUE(state);
  const auto still = positions(pair.server.get());
  ASSERT_TRUE(still);
  EXPECT_EQ(still->rcv_nxt, state->recv_seq);
  EXPECT_EQ(still->segs_in, live->segs_in);
}

TEST(Drain, WaitsForTheAcknowledgement) {
  Pair pair = connected(at("::1", 0));
  ASSERT_TRUE(write_all(pair.server.get(), pattern(5000)));
  const auto done = drain(pair.server.get(), std::chrono::seconds(10));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->bytes_left, 0u);

  ASSERT_TRUE(make_deaf(pair.client.get()));
  ASSERT_TRUE(write_all(pair.server.get(), pattern(700)));
  ::shutdown(pair.server.get(), SHUT_WR);
  const auto partly = drain(pair.server.get(), std::chrono::milliseconds(20));
  ASSERT_TRUE(partly);
  EXPECT_EQ(partly->bytes_left, 700u);  // without the FIN
  const auto enough = drain(pair.server.get(), std::chrono::seconds(10), 700);
  ASSERT_TRUE(enough);
  EXPECT_EQ(enough->bytes_left, 700u);

  ASSERT_TRUE(freeze(pair.server.get()));
  ASSERT_TRUE(retire(pair.server.get()));
  const auto dead = drain(pair.server.get(), std::chrono::milliseconds(20));
  ASSERT_FALSE(dead);
  EXPECT_EQ(dead.error().code, Errc::closed);
}

}  // namespace
}  // namespace gecko::tcp::test
