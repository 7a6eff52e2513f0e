#include "bpf/checksum.hh"

#include <netinet/in.h>

namespace gecko::bpf {
namespace {

uint32_t sum(const uint8_t* bytes, size_t n) {
  uint32_t total = 0;
  for (size_t i = 0; i + 1 < n; i += 2) total += static_cast<uint32_t>(bytes[i] << 8 | bytes[i + 1]);
  return n % 2 != 0 ? total + static_cast<uint32_t>(bytes[n - 1] << 8) : total;
}

void put_folded(uint8_t* at, uint32_t total) {
  while (total >> 16) total = (total & 0xffff) + (total >> 16);
  at[0] = static_cast<uint8_t>(~total >> 8);
  at[1] = static_cast<uint8_t>(~total);
}

}  // namespace

void complete_tcp_checksum(std::vector<uint8_t>& packet, size_t tcp_at) {
  const bool v4 = packet[0] >> 4 == 4;
  const size_t length = packet.size() - tcp_at;
  packet[tcp_at + 16] = packet[tcp_at + 17] = 0;
  uint32_t total = sum(packet.data() + (v4 ? 12 : 8), v4 ? 8 : 32) + IPPROTO_TCP + static_cast<uint32_t>(length);
  total += sum(packet.data() + tcp_at, length);
  put_folded(packet.data() + tcp_at + 16, total);
}

void complete_ipv4_checksum(std::vector<uint8_t>& packet) {
  packet[10] = packet[11] = 0;
  put_folded(packet.data() + 10, sum(packet.data(), (packet[0] & 15) * 4u));
}

}  // namespace gecko::bpf
