#include "wire/tcp_state.hh"

namespace gecko::wire {

Status validate(const TcpState& s) {
  const auto bad = [](std::string what) { return Status(make_error(Errc::invalid, "TCP state refused: " + what)); };
  if (s.version != kTcpStateVersion)
    return make_error(Errc::version, "TCP state has format version " + std::to_string(s.version) + ", this node reads " + std::to_string(kTcpStateVersion) + "; upgrade the older node");
  if (s.unsent > s.send_queue.size()) return bad("more unsent bytes than its send queue holds");
  if (s.snd_wscale > 14 || s.rcv_wscale > 14) return bad("a window scale is over 14 (RFC 7323 section 2.3)");
  if (s.flow.local.port == 0 || s.flow.peer.port == 0) return bad("a port is 0");
  if (s.flow.local.address.is_v4() != s.flow.peer.address.is_v4()) return bad("its two addresses are of different families");
  if (s.flow.local.address.is_unspecified() || s.flow.peer.address.is_unspecified()) return bad("an address is unspecified");
  const bool needs_fin_received = s.phase == TcpPhase::close_wait || s.phase == TcpPhase::last_ack || s.phase == TcpPhase::closing;
  const bool needs_fin_sent = s.phase == TcpPhase::fin_wait1 || s.phase == TcpPhase::fin_wait2 || s.phase == TcpPhase::last_ack || s.phase == TcpPhase::closing;
  if (s.fin_received != needs_fin_received) return bad("its FIN-received flag contradicts its state");
  if (s.fin_sent != needs_fin_sent) return bad("its FIN-sent flag contradicts its state");
  if (s.fin_acked != (s.phase == TcpPhase::fin_wait2)) return bad("its FIN-acknowledged flag contradicts its state");
  if (s.fin_acked && !s.send_queue.empty()) return bad("its FIN is acknowledged but bytes before it are not");
  if (s.congestion.find('\0') != std::string::npos) return bad("its congestion control name holds a NUL");
  return {};
}

}  // namespace gecko::wire
