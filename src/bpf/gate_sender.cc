#include "bpf/gate_sender.hh"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "bpf/checksum.hh"
#include "bpf/gate_shared.h"

namespace gecko::bpf {
namespace {

constexpr size_t kEthernet = 14;

void put16(std::vector<uint8_t>& b, size_t at, uint32_t v) { b[at] = static_cast<uint8_t>(v >> 8), b[at + 1] = static_cast<uint8_t>(v); }

}  // namespace

Result<GateSender> GateSender::open(int ifindex) {
  // Protocol 0: it receives nothing. Never PACKET_QDISC_BYPASS: that would be a way around the gate.
  Fd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return os_error("open a packet socket for the gate");
  const int mark = GECKO_GATE_MARK;
  if (setsockopt(fd.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0) return os_error("mark the packets of the gate's socket");
  return GateSender(std::move(fd), ifindex);
}

std::vector<uint8_t> stub_packet(const Flow& flow) {
  const bool v4 = flow.local.address.is_v4();
  const size_t header = v4 ? 20 : 40;
  std::vector<uint8_t> p(header + GECKO_GATE_STUB_TCP);
  const auto& from = flow.local.address.bytes;
  const auto& to = flow.peer.address.bytes;
  if (v4) {
    p[0] = 0x45;
    put16(p, 2, static_cast<uint32_t>(p.size()));
    p[6] = 0x40;  // do not fragment: without an identification it must not be
    p[8] = 64, p[9] = IPPROTO_TCP;
    std::copy(from.begin() + 12, from.end(), p.begin() + 12);
    std::copy(to.begin() + 12, to.end(), p.begin() + 16);
    complete_ipv4_checksum(p);
  } else {
    p[0] = 0x60;
    put16(p, 4, GECKO_GATE_STUB_TCP);
    p[6] = IPPROTO_TCP, p[7] = 64;
    std::ranges::copy(from, p.begin() + 8);
    std::ranges::copy(to, p.begin() + 24);
  }
  put16(p, header, flow.local.port);
  put16(p, header + 2, flow.peer.port);
  p[header + 12] = GECKO_GATE_STUB_TCP / 4 << 4;
  p[header + 13] = 16;  // ACK
  return p;
}

Status GateSender::nudge(const Flow& flow) const {
  const std::vector<uint8_t> packet = stub_packet(flow);
  const uint16_t type = flow.local.address.is_v4() ? ETH_P_IP : ETH_P_IPV6;
  std::vector<uint8_t> frame(kEthernet);  // the gate sends it to the neighbour, whose address is filled in there
  put16(frame, 12, type);
  frame.insert(frame.end(), packet.begin(), packet.end());
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_protocol = htons(type);
  to.sll_ifindex = ifindex_;
  // ENOBUFS is the gate's own "no": the client knows already, or may not hear.
  if (sendto(socket_.get(), frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0 && errno != ENOBUFS)
    return os_error("send through the gate");
  return {};
}

}  // namespace gecko::bpf
