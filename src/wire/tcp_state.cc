#include "wire/tcp_state.hh"

#include "base/sequence.hh"

namespace gecko::wire {
namespace {

constexpr uint32_t kMaxWindow = 65535u << 14;
constexpr uint32_t kMaxInt = 0x7fffffff;


bool is_link_local(const Address& a) {  // fe80::/10; IPv4's 169.254/16 needs no scope and may move
  return a.bytes[0] == 0xfe && (a.bytes[1] & 0xc0) == 0x80;
}

}  // namespace

Result<TcpOutline> decode_outline(ByteView in) {
  Reader r(in);
  TcpOutline o;
  const auto read = [&]<class T>(T&& field) {
    if constexpr (std::is_same_v<std::remove_cvref_t<T>, Limited<kMaxQueueBytes, Bytes>>) {
      const size_t size = r.length(kMaxQueueBytes, 1);
      (void)r.view(size);
      (&field.value == &o.state.send_queue ? o.send_bytes : o.recv_bytes) = size;
    } else {
      get(r, field);
    }
  };
  o.state.gecko_fields([&](auto&&... f) { (read(f), ...); });
  GECKO_CHECK(r.finish());
  return o;
}

Status validate(const TcpState& s) {
  const auto bad = [](std::string what) { return Status(make_error(Errc::invalid, "TCP state refused: " + what)); };
  if (s.version != kTcpStateVersion)
    return make_error(Errc::version, "TCP state has format version " + std::to_string(s.version) + ", this node reads " +
                                         std::to_string(kTcpStateVersion) + "; upgrade the older node");
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
  if (s.v4_mapped && !s.flow.local.address.is_v4()) return bad("it is marked v4-mapped but its addresses are IPv6");
  if (is_link_local(s.flow.local.address) || is_link_local(s.flow.peer.address)) return bad("a link-local address means nothing on another machine");
  // The next three are what the kernel checks in TCP_REPAIR_WINDOW; refused here, before a socket exists.
  if (s.max_window < s.snd_wnd) return bad("its send window is over the largest it ever had");
  if (seq_after(s.snd_wl1, s.recv_seq + s.rcv_wnd + 1)) return bad("its last window update lies beyond the receive window");
  if (seq_after(s.rcv_wup, s.recv_seq + (s.fin_received ? 1 : 0))) return bad("it acknowledged more than it received");
  if (s.rcv_wnd > kMaxWindow || s.max_window > kMaxWindow) return bad("a window is larger than TCP can express (RFC 7323 section 2.3)");
  if (!s.window_scaling && (s.snd_wscale != 0 || s.rcv_wscale != 0)) return bad("it has window scales without window scaling");
  if (s.mss == 0) return bad("its maximum segment size is 0");
  // The kernel's own ranges (MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT); 0 means not set.
  if (s.keepidle_s > 32767 || s.keepintvl_s > 32767 || s.keepcnt > 127) return bad("a keepalive parameter is out of range");
  if (s.sndbuf > kMaxInt || s.rcvbuf > kMaxInt) return bad("a buffer is larger than a kernel can make it");
  if (s.user_timeout_ms > kMaxInt || s.rcvlowat > kMaxInt || s.linger_s > kMaxInt) return bad("a socket option is out of range");
  if (s.congestion.find('\0') != std::string::npos) return bad("its congestion control name holds a NUL");
  return {};
}

}  // namespace gecko::wire
