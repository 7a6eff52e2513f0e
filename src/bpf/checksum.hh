// The Internet checksum (RFC 1071) of packets that user space hands to the gate. Inside bpf/ only.
#pragma once

#include <cstdint>
#include <vector>

namespace gecko::bpf {

void complete_ipv4_checksum(std::vector<uint8_t>& packet);

}  // namespace gecko::bpf
