// Interfaces, addresses, the TUN device and announcements, each in network namespaces of their own: this process's, and for what
// a neighbour sees a second one. Needs root.
#include "net/interface.hh"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "net/announce.hh"
#include "net/tun.hh"

namespace gecko::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

std::string output_of(const std::string& command) {
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  std::string out;
  char buffer[1024];
  size_t n = 0;
  while ((n = fread(buffer, 1, sizeof buffer, pipe)) > 0) out.append(buffer, n);
  if (pclose(pipe) != 0) out += "[failed: " + command + "]";
  return out;
}

class NamespaceTest : public testing::Test {
 protected:
  void SetUp() override {
    home_ = Fd(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    if (unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "needs root: a network namespace of its own";
    inside_ = true;
    auto opened = Rtnetlink::open();
    ASSERT_TRUE(opened);
    links = std::make_unique<Rtnetlink>(*std::move(opened));
    ASSERT_TRUE(links->set_up(1, true));
  }
  void TearDown() override {
    links.reset();
    if (neighbour_ > 0) {
      kill(neighbour_, SIGKILL);
      waitpid(neighbour_, nullptr, 0);
    }
    if (inside_) { ASSERT_EQ(setns(home_.get(), CLONE_NEWNET), 0); }
  }
  // A second namespace, wired to this one: ve0 here, ve1 there.
  void add_neighbour() {
    int ready[2];
    ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
    neighbour_ = fork();
    ASSERT_GE(neighbour_, 0);
    if (neighbour_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const char ok = unshare(CLONE_NEWNET) == 0 ? 'y' : 'n';
      if (write(ready[1], &ok, 1) != 1) _exit(1);
      for (;;) pause();
    }
    char ok = 'n';
    ASSERT_EQ(read(ready[0], &ok, 1), 1);
    close(ready[0]);
    close(ready[1]);
    ASSERT_EQ(ok, 'y');
    EXPECT_EQ(output_of("ip link add ve0 type veth peer name ve1 netns " + std::to_string(neighbour_)), "");
    EXPECT_EQ(there("ip link set ve1 up"), "");
    const auto ve0 = links->by_name("ve0");
    ASSERT_TRUE(ve0);
    ASSERT_TRUE(links->set_up(ve0->index, true));
  }
  std::string there(const std::string& command) { return output_of("nsenter -t " + std::to_string(neighbour_) + " -n " + command); }

  std::unique_ptr<Rtnetlink> links;
  pid_t neighbour_ = 0;

 private:
  Fd home_;
  bool inside_ = false;
};

TEST_F(NamespaceTest, InterfacesAndTheirSettings) {
  const auto lo = links->by_name("lo");
  ASSERT_TRUE(lo);
  EXPECT_EQ(lo->index, 1);
  EXPECT_EQ(lo->mtu, 65536u);
  EXPECT_TRUE(lo->up && lo->loopback);
  EXPECT_FALSE(lo->ethernet);
  add_neighbour();
  auto ve0 = links->by_name("ve0");
  ASSERT_TRUE(ve0);
  EXPECT_TRUE(ve0->ethernet && ve0->up);
  EXPECT_NE(ve0->mac, Mac{});
  ASSERT_TRUE(links->set_mtu(ve0->index, 1400));
  ASSERT_TRUE(links->set_queue_length(ve0->index, 77));
  ASSERT_TRUE(links->set_up(ve0->index, false));
  ve0 = links->by_index(ve0->index);
  ASSERT_TRUE(ve0);
  EXPECT_EQ(ve0->mtu, 1400u);
  EXPECT_EQ(ve0->queue_length, 77u);
  EXPECT_FALSE(ve0->up);
  const auto none = links->by_name("eth7");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Errc::not_found);
  EXPECT_THAT(none.error().message, HasSubstr("'eth7'; there are: lo, "));
  EXPECT_FALSE(links->by_index(99));
  const auto bad_mtu = links->set_mtu(ve0->index, 9'000'000);
  ASSERT_FALSE(bad_mtu);
  EXPECT_THAT(bad_mtu.error().message, HasSubstr("MTU 9000000"));
}

TEST_F(NamespaceTest, AddressesComeAndGo) {
  for (const char* text : {"2001:db8:f::80", "192.0.2.80"}) {
    const Address address = *Address::parse(text);
    EXPECT_EQ(links->holder(address).error().code, Errc::not_found);
    const auto added = links->add_address(1, address);
    ASSERT_TRUE(added) << added.error().message;
    EXPECT_EQ(links->holder(address)->name, "lo");
    const auto again = links->add_address(1, address);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, Errc::exists);
    bool seen = false;
    const auto all = links->addresses();
    ASSERT_TRUE(all);
    for (const auto& one : *all) {
      if (one.address != address) continue;
      seen = true;
      EXPECT_EQ(one.prefix_length, address.is_v4() ? 32 : 128);
      EXPECT_FALSE(one.tentative);
    }
    EXPECT_TRUE(seen);
    // Usable at once.
    const Fd fd(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage to{};
    const socklen_t size = Endpoint{address, 0}.to_sockaddr(to);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&to), size), 0) << text;
    ASSERT_TRUE(links->remove_address(1, address));
    EXPECT_EQ(links->remove_address(1, address).error().code, Errc::not_found);
    EXPECT_FALSE(links->holder(address));
  }
  EXPECT_EQ(output_of("ip addr add 2001:db8:f::81/64 dev lo"), "");
  EXPECT_TRUE(links->remove_address(1, *Address::parse("2001:db8:f::81")));  // whatever its prefix length
  EXPECT_FALSE(links->add_address(99, *Address::parse("2001:db8::1")));
}

TEST_F(NamespaceTest, ManyAddressesAreAllListed) {
  for (uint32_t i = 1; i <= 600; ++i) ASSERT_TRUE(links->add_address(1, Address::from_v4(0x0a000000 + i)));  // more than one read
  EXPECT_EQ(links->addresses()->size(), 602u);  // and 127.0.0.1, ::1
}

TEST_F(NamespaceTest, WithoutTheCapabilityTheErrorSaysSo) {
  const pid_t child = fork();
  if (child == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(3);
    auto mine = Rtnetlink::open();
    if (!mine || !mine->interfaces()) _exit(4);
    const auto refused = mine->add_address(1, *Address::parse("192.0.2.1"));
    const bool right = !refused && refused.error().code == Errc::permission && refused.error().message.find("CAP_NET_ADMIN") != std::string::npos;
    Loop loop;
    const auto packet = Announcer::open(loop);
    const bool raw = !packet && packet.error().message.find("CAP_NET_RAW") != std::string::npos;
    const auto tun = Tun::create();
    const bool no_tun = !tun && tun.error().code == Errc::permission;
    _exit(right && raw && no_tun ? 0 : 5);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(NamespaceTest, Sysctl) {
  ASSERT_TRUE(write_sysctl("net/ipv4/conf/lo/arp_ignore", "1"));
  EXPECT_EQ(*read_sysctl("net/ipv4/conf/lo/arp_ignore"), "1");
  const auto outside = write_sysctl("net/../kernel/panic", "0");
  ASSERT_FALSE(outside);
  EXPECT_EQ(outside.error().code, Errc::invalid);
  EXPECT_FALSE(write_sysctl("kernel/panic", "0"));
  EXPECT_EQ(write_sysctl("net/ipv4/conf/none/arp_ignore", "1").error().code, Errc::not_found);
  EXPECT_FALSE(write_sysctl("net/ipv4/conf/lo/arp_ignore", "many"));
}

// --- TUN -------------------------------------------------------------------------------------------------------------------

TEST_F(NamespaceTest, TunIsReadyAndSilent) {
  auto tun = Tun::create();
  ASSERT_TRUE(tun) << tun.error().message;
  const auto interface = links->by_index(tun->index());
  ASSERT_TRUE(interface);
  EXPECT_EQ(interface->name, tun->name());
  EXPECT_EQ(interface->mtu, 65535u);
  EXPECT_EQ(interface->queue_length, 10000u);
  EXPECT_TRUE(interface->up);
  TunOptions same;
  same.name = tun->name();
  EXPECT_EQ(Tun::create(same).error().code, Errc::exists);
  same.name = "a-name-that-is-too-long";
  EXPECT_EQ(Tun::create(same).error().code, Errc::invalid);
  std::vector<uint8_t> buffer(kTunBuffer);
  pollfd wait{tun->fd(), POLLIN, 0};
  EXPECT_EQ(poll(&wait, 1, 300), 0) << "something is sent by itself";
  const auto nothing = tun->read_packet(buffer);
  ASSERT_TRUE(nothing);
  EXPECT_FALSE(*nothing);
  const std::string name = tun->name();
  { const Tun gone = *std::move(tun); }
  EXPECT_FALSE(links->by_name(name));
}

TEST_F(NamespaceTest, TunCarriesPacketsBothWaysWithTheirOffloadHeader) {
  auto tun = Tun::create();
  ASSERT_TRUE(tun);
  ASSERT_TRUE(links->add_address(tun->index(), *Address::parse("2001:db8:7::1")));  // receivable when it returns, ip(8) would not wait
  EXPECT_EQ(output_of("ip route add 2001:db8:7::/64 dev " + tun->name()), "");
  EXPECT_EQ(output_of("ip addr add 192.0.2.1/24 dev " + tun->name()), "");
  std::vector<uint8_t> buffer(kTunBuffer);
  for (const char* peer_text : {"2001:db8:7::2", "192.0.2.2"}) {
    SCOPED_TRACE(peer_text);
    const Endpoint peer{*Address::parse(peer_text), 9};
    const Fd udp(socket(peer.address.family(), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_storage to{};
    const socklen_t size = peer.to_sockaddr(to);
    ASSERT_EQ(connect(udp.get(), reinterpret_cast<sockaddr*>(&to), size), 0);
    ASSERT_EQ(send(udp.get(), "over there", 10, 0), 10);
    const auto got = tun->read_packet(buffer);
    ASSERT_TRUE(got);
    ASSERT_TRUE(*got);
    TunPacket packet = **got;
    const bool v4 = peer.address.is_v4();
    ASSERT_EQ(packet.data.size(), (v4 ? 20u : 40u) + 8 + 10);
    EXPECT_EQ(packet.data[0] >> 4, v4 ? 4 : 6);
    EXPECT_TRUE(packet.offload.flags & OffloadHeader::kNeedsChecksum);  // checksum left to us: the offload is on
    // Turn it round and put it back: the socket receives its own datagram as the peer's answer. The partial checksum stays valid.
    std::swap_ranges(packet.data.begin() + (v4 ? 12 : 8), packet.data.begin() + (v4 ? 16 : 24), packet.data.begin() + (v4 ? 16 : 24));
    std::swap_ranges(packet.data.begin() + (v4 ? 20 : 40), packet.data.begin() + (v4 ? 22 : 42), packet.data.begin() + (v4 ? 22 : 42));
    const auto written = tun->write_packet(packet.offload, packet.data);
    ASSERT_TRUE(written) << written.error().message;
    char text[32];
    pollfd wait{udp.get(), POLLIN, 0};
    ASSERT_EQ(poll(&wait, 1, 5000), 1);
    EXPECT_EQ(recv(udp.get(), text, sizeof text, 0), 10);
  }
  // The kernel refuses what is not a packet, as a value.
  OffloadHeader plain;
  const uint8_t garbage[] = {0xff, 1, 2, 3};
  EXPECT_FALSE(tun->write_packet(plain, garbage));
  std::vector<uint8_t> small(40);
  const Fd udp(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage to{};
  const socklen_t size = Endpoint{*Address::parse("192.0.2.2"), 9}.to_sockaddr(to);
  ASSERT_EQ(sendto(udp.get(), small.data(), small.size(), 0, reinterpret_cast<sockaddr*>(&to), size), 40);
  const auto cut = tun->read_packet(small);
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().code, Errc::limit);
}

TEST_F(NamespaceTest, TunTakesTheLargestPacketsWhole) {
  auto tun = Tun::create();
  ASSERT_TRUE(tun);
  EXPECT_EQ(output_of("ip addr add 2001:db8:7::1/64 dev " + tun->name() + " nodad"), "");
  const Fd udp(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage to{};
  const socklen_t size = Endpoint{*Address::parse("2001:db8:7::2"), 9}.to_sockaddr(to);
  const std::vector<uint8_t> large(60'000, 'x');
  ASSERT_EQ(sendto(udp.get(), large.data(), large.size(), 0, reinterpret_cast<sockaddr*>(&to), size), 60'000);
  std::vector<uint8_t> buffer(kTunBuffer);
  const auto got = tun->read_packet(buffer);
  ASSERT_TRUE(got);
  ASSERT_TRUE(*got);
  EXPECT_EQ((*got)->data.size(), 60'048u);  // not fragmented
}

// --- announcements ---------------------------------------------------------------------------------------------------------

TEST_F(NamespaceTest, AnAnnouncementMovesTheNeighboursCacheEntry) {
  add_neighbour();
  Loop loop;
  auto announcer = Announcer::open(loop);
  ASSERT_TRUE(announcer);
  const auto ve0 = links->by_name("ve0");
  ASSERT_TRUE(ve0);
  char mac[18];
  std::snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", ve0->mac[0], ve0->mac[1], ve0->mac[2], ve0->mac[3], ve0->mac[4], ve0->mac[5]);
  EXPECT_EQ(there("ip addr add 2001:db8:f::99/64 dev ve1 nodad"), "");
  EXPECT_EQ(there("ip addr add 192.0.2.99/24 dev ve1"), "");
  for (const char* address : {"2001:db8:f::80", "192.0.2.80"}) {
    SCOPED_TRACE(address);
    // The neighbour believes another machine has it, and has just confirmed that.
    EXPECT_EQ(there(std::string("ip neigh replace ") + address + " lladdr 02:00:00:00:00:01 dev ve1 nud reachable"), "");
    EXPECT_THAT(there(std::string("ip neigh show ") + address), HasSubstr("02:00:00:00:00:01"));
    const auto sent = (*announcer)->announce(*ve0, *Address::parse(address));
    ASSERT_TRUE(sent) << sent.error().message;
    std::string entry;
    const Time deadline = monotonic_now() + seconds(10);
    do {
      loop.run_once(milliseconds(5));
      entry = there(std::string("ip neigh show ") + address);
    } while (entry.find(mac) == std::string::npos && monotonic_now() < deadline);
    EXPECT_THAT(entry, HasSubstr(mac));
  }
}

TEST_F(NamespaceTest, AnnouncementsAreRepeatedThreeTimesAndStopWhenWithdrawn) {
  add_neighbour();
  const Fd ears(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL)));
  ASSERT_TRUE(ears);
  const auto ve0 = links->by_name("ve0");
  ASSERT_TRUE(ve0);
  const Address kept = *Address::parse("2001:db8:f::80"), withdrawn = *Address::parse("192.0.2.80");
  Loop loop;
  auto announcer = Announcer::open(loop);
  ASSERT_TRUE(announcer);
  ASSERT_TRUE((*announcer)->announce(*ve0, kept));
  ASSERT_TRUE((*announcer)->announce(*ve0, withdrawn));
  (*announcer)->withdraw(withdrawn);
  int advertisements = 0, arps = 0;
  const Time deadline = monotonic_now() + milliseconds(1500);
  while (monotonic_now() < deadline) {
    loop.run_once(milliseconds(20));
    uint8_t frame[2048];
    for (ssize_t n = 0; (n = recv(ears.get(), frame, sizeof frame, 0)) > 0;) {
      const auto seen = [&](const wire::Bytes& wanted) {
        return static_cast<size_t>(n) == wanted.size() && std::memcmp(frame, wanted.data(), wanted.size()) == 0;
      };
      for (const auto& wanted : announcement(ve0->mac, kept)) advertisements += seen(wanted);
      for (const auto& wanted : announcement(ve0->mac, withdrawn)) arps += seen(wanted);
    }
  }
  EXPECT_EQ(advertisements, 3);
  EXPECT_EQ(arps, 2);
}

TEST_F(NamespaceTest, AnnouncementErrors) {
  add_neighbour();
  Loop loop;
  auto announcer = Announcer::open(loop);
  ASSERT_TRUE(announcer);
  const Address address = *Address::parse("2001:db8:f::80");
  EXPECT_EQ((*announcer)->announce(*links->by_name("lo"), address).error().code, Errc::unsupported);
  const auto ve0 = links->by_name("ve0");
  ASSERT_TRUE(links->set_up(ve0->index, false));
  EXPECT_EQ((*announcer)->announce(*ve0, address).error().code, Errc::unavailable);
  Interface gone = *ve0;
  gone.index = 99;
  EXPECT_EQ((*announcer)->announce(gone, address).error().code, Errc::not_found);
}

}  // namespace
}  // namespace gecko::net
