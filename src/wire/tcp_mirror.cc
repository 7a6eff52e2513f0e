#include "wire/tcp_mirror.hh"

namespace gecko::wire {

Status validate(const TcpMirror& m) {
  const auto bad = [](const char* what) { return Status(make_error(Errc::invalid, std::string("TCP mirror refused: ") + what)); };
  if (m.version != kTcpMirrorVersion)
    return make_error(Errc::version, "TCP mirror has format version " + std::to_string(m.version) + ", this node reads " +
                                         std::to_string(kTcpMirrorVersion) + "; upgrade the older node");
  constexpr uint32_t kMaxWindow = 65535u << 14;
  if (m.flow.local.port == 0 || m.flow.peer.port == 0) return bad("a port is 0");
  if (m.flow.local.address.is_v4() != m.flow.peer.address.is_v4()) return bad("its two addresses are of different families");
  if (m.flow.local.address.is_unspecified() || m.flow.peer.address.is_unspecified()) return bad("an address is unspecified");
  if (m.v4_mapped && !m.flow.local.address.is_v4()) return bad("it is marked v4-mapped but its addresses are IPv6");
  if (m.mss == 0) return bad("its maximum segment size is 0");
  if (m.snd_wscale > 14 || m.rcv_wscale > 14) return bad("a window scale is over 14 (RFC 7323 section 2.3)");
  if (!m.window_scaling && (m.snd_wscale != 0 || m.rcv_wscale != 0)) return bad("it has window scales without window scaling");
  if (m.snd_edge - m.snd_una > kMaxWindow) return bad("the peer's window ends before what the peer has acknowledged, or is larger than TCP can express");
  if (m.rcv_edge - m.rcv_nxt > kMaxWindow) return bad("its receive window ends before what it has received, or is larger than TCP can express");
  return {};
}

}  // namespace gecko::wire
