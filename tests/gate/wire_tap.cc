#include "wire_tap.hh"

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <optional>

#include "net_lab.hh"

namespace gecko::lab_test {
namespace {

constexpr size_t kHead = 14 + 60 + 60;

uint32_t get32(const uint8_t* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return ntohl(value);
}
uint16_t get16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }

int scale_of(const uint8_t* options, const uint8_t* end) {
  while (options < end && *options != 0) {
    if (*options == 1) {
      ++options;
      continue;
    }
    if (options + 2 > end || options[1] < 2) break;
    if (options[0] == 3 && options + 3 <= end) return options[2];
    options += options[1];
  }
  return 0;
}

std::optional<Tapped> parse(const uint8_t* p, size_t size) {
  Tapped t;
  const bool v4 = size >= 14 + 20 && get16(p + 12) == ETHERTYPE_IP;
  if (!v4 && (size < 14 + 40 || get16(p + 12) != ETHERTYPE_IPV6)) return std::nullopt;
  const uint8_t* ip = p + 14;
  const size_t header = v4 ? (ip[0] & 15) * 4u : 40;
  if ((v4 ? ip[9] : ip[6]) != IPPROTO_TCP || size < 14 + header + 20) return std::nullopt;
  if (v4) {
    t.flow.local.address = Address::from_v4(get32(ip + 12));
    t.flow.peer.address = Address::from_v4(get32(ip + 16));
  } else {
    std::memcpy(t.flow.local.address.bytes.data(), ip + 8, 16);
    std::memcpy(t.flow.peer.address.bytes.data(), ip + 24, 16);
  }
  const uint8_t* tcp = ip + header;
  t.flow.local.port = get16(tcp);
  t.flow.peer.port = get16(tcp + 2);
  t.seq = get32(tcp + 4), t.ack = get32(tcp + 8), t.flags = tcp[13], t.window = get16(tcp + 14);
  const uint8_t* end = tcp + (tcp[12] >> 4) * 4;
  if (t.flags & 2 && end <= p + size) t.window_scale = scale_of(tcp + 20, end);
  return t;
}

bpf::BootTime now_of(clockid_t clock) {
  timespec ts{};
  clock_gettime(clock, &ts);
  return bpf::BootTime(std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec));
}

// How far the wall clock, by which packets are stamped, is ahead of the gate's. Read between two looks at the latter: a processor that is taken away in
// the middle would date packets of one tap later than those of another.
bpf::BootTime::duration wall_ahead() {
  for (;;) {
    const auto before = now_of(CLOCK_BOOTTIME), wall = now_of(CLOCK_REALTIME), after = now_of(CLOCK_BOOTTIME);
    if (after - before < std::chrono::microseconds(50)) return wall - before;
  }
}

}  // namespace

Result<std::unique_ptr<WireTap>> WireTap::start(const std::string& ns, const char* interface) {
  Fd fd = NetLab::socket_in(ns, AF_PACKET, SOCK_RAW, 0);
  if (!fd) return os_error("open a packet socket");
  const int on = 1, room = 64 << 20;
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  setsockopt(fd.get(), SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
  sockaddr_ll at{};
  at.sll_family = AF_PACKET;
  at.sll_protocol = htons(ETH_P_ALL);
  at.sll_ifindex = NetLab::ifindex(ns, interface);
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) return os_error("listen on the wire");
  std::unique_ptr<WireTap> tap(new WireTap(std::move(fd)));
  tap->thread_ = std::thread([t = tap.get()] { t->run(); });
  return tap;
}

WireTap::~WireTap() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

bool WireTap::read_one() {
  std::array<uint8_t, kHead> head;
  alignas(cmsghdr) std::array<char, 256> control;
  sockaddr_ll from{};
  iovec vector{head.data(), head.size()};
  msghdr message{};
  message.msg_name = &from, message.msg_namelen = sizeof from;
  message.msg_iov = &vector, message.msg_iovlen = 1;
  message.msg_control = control.data(), message.msg_controllen = control.size();
  const ssize_t got = recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_TRUNC);
  if (got < 0) return false;
  if (from.sll_pkttype == PACKET_OUTGOING) return true;
  std::optional<Tapped> t = parse(head.data(), std::min<size_t>(static_cast<size_t>(got), head.size()));
  if (!t) return true;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS) continue;
    timespec ts;
    std::memcpy(&ts, CMSG_DATA(c), sizeof ts);
    // Of the wall clock; what a step of it in between would do is seen by the tests that compare.
    t->at = bpf::BootTime(std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec)) - wall_ahead();
  }
  seen_.push_back(*t);
  return true;
}

void WireTap::run() {
  while (!stop_) {
    pollfd p{socket_.get(), POLLIN, 0};
    (void)poll(&p, 1, 20);
    while (read_one()) {
    }
  }
  while (read_one()) {
  }
  tpacket_stats stats{};
  socklen_t size = sizeof stats;
  if (getsockopt(socket_.get(), SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0) lost_ = stats.tp_drops;
}

std::vector<Tapped> WireTap::stop() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
  return std::move(seen_);
}

}  // namespace gecko::lab_test
