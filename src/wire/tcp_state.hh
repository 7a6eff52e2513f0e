// The state of one TCP connection as it travels between nodes (docs/protocol/tcp-state.md): everything TCP_REPAIR can
// take out of one kernel and put into another. Positions are TCP sequence numbers (RFC 9293), lengths are bytes.
#pragma once

#include "wire/codec.hh"

namespace gecko::wire {

inline constexpr uint16_t kTcpStateVersion = 1;
inline constexpr size_t kMaxQueueBytes = 32u << 20;  // one direction; larger socket buffers are refused at capture

// RFC 9293 section 3.3.2, the states that have a descriptor and can move.
enum class TcpPhase : uint8_t { established = 0, close_wait, fin_wait1, fin_wait2, last_ack, closing };
constexpr TcpPhase enum_max(TcpPhase) { return TcpPhase::closing; }

struct TcpState {
  uint16_t version = kTcpStateVersion;
  Flow flow;
  bool v4_mapped = false;      // an IPv4 connection on an AF_INET6 socket: the application sees ::ffff:a.b.c.d
  TcpPhase phase = TcpPhase::established;

  // Queues. `send_queue` holds sent-but-unacknowledged bytes first, then the never-sent ones (`unsent` of them).
  // `send_seq` is the sequence number of the byte after send_queue (FIN not counted); `recv_seq` the one after recv_queue.
  uint32_t send_seq = 0;
  uint32_t recv_seq = 0;
  uint32_t unsent = 0;
  Bytes send_queue;
  Bytes recv_queue;
  bool fin_sent = false;       // our FIN is in the queue or on the wire
  bool fin_acked = false;      // FIN_WAIT2
  bool fin_received = false;

  // Windows (struct tcp_repair_window).
  uint32_t snd_wl1 = 0, snd_wnd = 0, max_window = 0, rcv_wnd = 0, rcv_wup = 0;

  // Negotiated options.
  uint16_t mss = 0;            // clamp as negotiated (TCPOPT_MAXSEG)
  bool window_scaling = false;
  uint8_t snd_wscale = 0, rcv_wscale = 0;
  bool sack = false;
  bool timestamps = false;
  uint32_t timestamp = 0;      // our TSval clock at capture (TCP_TIMESTAMP)

  // Behaviour of the socket.
  std::string congestion;      // TCP_CONGESTION name
  bool nodelay = false, cork = false, keepalive = false, oobinline = false;
  uint32_t keepidle_s = 0, keepintvl_s = 0, keepcnt = 0;  // 0: not set; read only while keepalive is on
  uint32_t user_timeout_ms = 0, notsent_lowat = 0, priority = 0;
  uint32_t sndbuf = 0, rcvbuf = 0;   // size at capture in kernel bytes (already doubled, see socket(7))
  bool sndbuf_locked = false, rcvbuf_locked = false;  // set by the user; else autotuning stays on
  uint64_t max_pacing_rate = ~uint64_t{0};  // bytes/s (SO_MAX_PACING_RATE), all ones: unlimited
  uint8_t tclass = 0, hop_limit = 0; // 0 hop limit: default
  uint32_t rcvlowat = 1;
  bool linger = false;
  uint32_t linger_s = 0;

  GECKO_FIELDS(version, flow, v4_mapped, phase, send_seq, recv_seq, unsent, wire::limited<kMaxQueueBytes>(send_queue),
               wire::limited<kMaxQueueBytes>(recv_queue), fin_sent, fin_acked, fin_received, snd_wl1, snd_wnd, max_window, rcv_wnd,
               rcv_wup, mss, window_scaling, snd_wscale, rcv_wscale, sack, timestamps, timestamp, wire::limited<16>(congestion),
               nodelay, cork, keepalive, oobinline, keepidle_s, keepintvl_s, keepcnt, user_timeout_ms, notsent_lowat, priority,
               sndbuf, rcvbuf, sndbuf_locked, rcvbuf_locked, max_pacing_rate, tclass, hop_limit, rcvlowat, linger, linger_s)
};

// A state without the bytes in its queues: they may be megabytes, and who only looks need not copy them.
struct TcpOutline {
  TcpState state;                    // its queues are empty
  size_t send_bytes = 0, recv_bytes = 0;
};
Result<TcpOutline> decode_outline(ByteView in);

// Cross-field checks after decode: unsent <= |send_queue|, wscale <= 14, flags consistent with phase, flow complete.
Status validate(const TcpState& state);

}  // namespace gecko::wire
