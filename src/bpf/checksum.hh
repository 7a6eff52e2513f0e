// The Internet checksum (RFC 1071) over packets that user space hands to the gate. Inside bpf/ only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gecko::bpf {

// Of a whole IP packet without fragments whose TCP header is at `tcp_at`: the segment is taken to reach to the packet's end.
void complete_tcp_checksum(std::vector<uint8_t>& packet, size_t tcp_at);
void complete_ipv4_checksum(std::vector<uint8_t>& packet);

}  // namespace gecko::bpf
