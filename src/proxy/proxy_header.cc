#include "proxy/proxy_header.hh"

namespace gecko::proxy {
namespace {

constexpr std::string_view kSignature{"\r\n\r\n\0\r\nQUIT\n", 12};
constexpr char kVersion2Proxy = 0x21, kTcpOverIpv4 = 0x11, kTcpOverIpv6 = 0x21;

void add_port(std::string& out, uint16_t port) {
  out += static_cast<char>(port >> 8);
  out += static_cast<char>(port & 0xff);
}

}  // namespace

std::string proxy_header(const Flow& flow) {
  const bool v4 = flow.peer.address.is_v4() && flow.local.address.is_v4();
  const size_t skip = v4 ? 12 : 0;   // an IPv4 address is the end of its mapped form
  std::string out(kSignature);
  out += kVersion2Proxy;
  out += v4 ? kTcpOverIpv4 : kTcpOverIpv6;
  add_port(out, v4 ? 12 : 36);       // length of what follows
  for (const Endpoint* end : {&flow.peer, &flow.local})
    out.append(reinterpret_cast<const char*>(end->address.bytes.data()) + skip, 16 - skip);
  add_port(out, flow.peer.port);
  add_port(out, flow.local.port);
  return out;
}

}  // namespace gecko::proxy
