// Any packet: the flow found lies inside it, and the ICMP answer is well-formed, not longer than it may be, and goes back where the packet came from.
#include "node/packet_flow.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gecko;
  const wire::ByteView packet(data, size);
  if (const auto flow = node::flow_of(packet)) {
    GECKO_ASSERT(size >= 40);   // the smallest: an IPv4 and a TCP header
    GECKO_ASSERT(flow->local.address.is_v4() == flow->peer.address.is_v4() || data[0] >> 4 == 6);   // IPv6 may carry a mapped address
  }
  const auto answer = node::packet_too_big(packet, 1400);
  if (answer.empty()) return 0;
  GECKO_ASSERT(answer[0] >> 4 == data[0] >> 4);
  if (answer[0] >> 4 == 6) {
    GECKO_ASSERT(answer.size() <= 1280);
    GECKO_ASSERT(std::memcmp(answer.data() + 24, data + 8, 16) == 0);
  } else {
    GECKO_ASSERT(answer.size() <= 20 + 8 + 60 + 8);
    GECKO_ASSERT(std::memcmp(answer.data() + 16, data + 12, 4) == 0);
  }
  return 0;
}
