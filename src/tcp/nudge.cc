#include "tcp/nudge.hh"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "base/sequence.hh"
#include "tcp/socket_names.hh"
#include "tcp/socket_option.hh"

namespace gecko::tcp {

namespace {

wire::Bytes build(const Nudge& n, uint32_t seq, wire::ByteView payload) {
  Segment s;
  s.from = n.flow.local;
  s.to = n.flow.peer;
  s.seq = seq;
  s.ack = n.rcv_nxt;
  s.window = static_cast<uint16_t>(std::min<uint32_t>(n.window >> n.rcv_wscale, 65535));
  s.timestamps = n.timestamps;  // the echo stays 0: what to echo is not known, and 0 is not measured by the peer
  s.ts_value = n.timestamp;
  if (n.hop_limit != 0) s.hop_limit = n.hop_limit;
  s.traffic_class = n.traffic_class;
  s.payload = payload;
  return build_packet(s);
}

}  // namespace

wire::Bytes build_nudge(const Nudge& nudge, wire::ByteView outstanding) {
  constexpr size_t kFitsAnywhere = 512;  // the least any path carries is 576 bytes (RFC 9293 section 3.7.1)
  if (!outstanding.empty()) return build(nudge, nudge.snd_una, outstanding.first(std::min(kFitsAnywhere, outstanding.size())));
  static const uint8_t already_acknowledged = 0;  // its value does not matter: the peer only looks at its position
  return build(nudge, nudge.snd_una - 1, {&already_acknowledged, 1});
}

wire::Bytes build_acknowledgement(const Nudge& nudge, uint32_t snd_nxt) { return build(nudge, snd_nxt, {}); }

Result<Nudge> read_nudge(int fd, const tcp_repair_window& window) {
  GECKO_TRY(const SocketNames names, read_names(fd));
  Nudge n;
  n.flow = names.flow;
  tcp_info info{};
  uint32_t write_seq = 0;
  int unacknowledged = 0;
  const bool ok = get_raw(fd, kSolTcp, TCP_INFO, info) && ::ioctl(fd, SIOCOUTQ, &unacknowledged) == 0 &&
                  set_int(fd, kSolTcp, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE) && get_raw(fd, kSolTcp, TCP_QUEUE_SEQ, write_seq) &&
                  set_int(fd, kSolTcp, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE) && get_raw(fd, kSolTcp, TCP_QUEUE_SEQ, n.rcv_nxt) &&
                  set_int(fd, kSolTcp, TCP_REPAIR_QUEUE, TCP_NO_QUEUE) && get_raw(fd, kSolTcp, TCP_TIMESTAMP, n.timestamp);
  if (!ok) return socket_error(fd, "reading its positions");
  n.snd_una = write_seq - static_cast<uint32_t>(unacknowledged);
  const uint32_t right_edge = window.rcv_wup + window.rcv_wnd;
  n.window = seq_after(right_edge, n.rcv_nxt) ? right_edge - n.rcv_nxt : 0;
  n.rcv_wscale = info.tcpi_rcv_wscale;
  n.timestamps = (info.tcpi_options & TCPI_OPT_TIMESTAMPS) != 0;
  return n;
}

}  // namespace gecko::tcp
