#include "bpf/checksum.hh"

#include <cstddef>

namespace gecko::bpf {

void complete_ipv4_checksum(std::vector<uint8_t>& packet) {
  packet[10] = packet[11] = 0;
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < (packet[0] & 15) * 4u; i += 2) sum += static_cast<uint32_t>(packet[i] << 8 | packet[i + 1]);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  packet[10] = static_cast<uint8_t>(~sum >> 8);
  packet[11] = static_cast<uint8_t>(~sum);
}

}  // namespace gecko::bpf
