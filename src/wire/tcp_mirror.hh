// What a backup knows of a connection that another node owns (docs/protocol/tcp-mirror.md): enough to bring it back to life in another kernel, once
// the peer has said where it is. 87 bytes. Unlike wire::TcpState it is written while the connection lives, and may be old when it is read.
//
// Positions are TCP sequence numbers (RFC 9293 section 3.4), each with the bytes of the stream that came before it, counted from the connection's
// birth: sequence numbers come round after 4 GiB.
#pragma once

#include "wire/codec.hh"

namespace gecko::wire {

inline constexpr uint16_t kTcpMirrorVersion = 1;

struct TcpMirror {
  uint16_t version = kTcpMirrorVersion;
  Flow flow;
  bool v4_mapped = false;      // an IPv4 connection on an AF_INET6 socket

  // Negotiated at its birth.
  uint16_t mss = 0;            // clamp as negotiated (TCPOPT_MAXSEG)
  bool window_scaling = false;
  uint8_t snd_wscale = 0, rcv_wscale = 0;
  bool sack = false;
  bool timestamps = false;

  // What the peer had acknowledged: `acked` bytes, up to `snd_una`; less than it has by now, never more. And how far it had allowed us to send.
  uint32_t snd_una = 0;
  uint64_t acked = 0;
  uint32_t snd_edge = 0;
  // What had been acknowledged to the peer: `received` bytes, up to `rcv_nxt` (its FIN not counted), and the right edge of the window it was told.
  uint32_t rcv_nxt = 0;
  uint64_t received = 0;
  uint32_t rcv_edge = 0;
  bool fin_received = false;   // and acknowledged
  // Our clock (TSval) as the peer had told it back last, and as it stood when this was written; both 0 without timestamps.
  uint32_t echoed_clock = 0, clock = 0;

  GECKO_FIELDS(version, flow, v4_mapped, mss, window_scaling, snd_wscale, rcv_wscale, sack, timestamps, snd_una, acked, snd_edge, rcv_nxt, received,
               rcv_edge, fin_received, echoed_clock, clock)
};

// Cross-field checks after decode: what wire::validate(TcpState) would refuse of a state made from it.
Status validate(const TcpMirror& mirror);

}  // namespace gecko::wire
