// One segment that makes the peer say at once what it has received and how much room it has: the first bytes that it
// has not acknowledged, or without such one byte at snd_una-1, which it has already. An empty probe is not enough: answers
// to those are rate limited (tcp_invalid_ratelimit, 500 ms), answers to segments with data are not (measured: 80 of 80
// answered against 5 of 80).
#pragma once

#include <linux/tcp.h>

#include "tcp/packet.hh"

namespace gecko::tcp {

struct Nudge {
  Flow flow;
  uint32_t snd_una = 0, rcv_nxt = 0;
  uint32_t window = 0;          // bytes
  uint8_t rcv_wscale = 0;
  bool timestamps = false;
  uint32_t timestamp = 0;
  uint8_t hop_limit = 0;        // 0: 64
  uint8_t traffic_class = 0;
};

// `outstanding`: sent from snd_una on and not acknowledged. Should they be lost, they come again here: a restored socket has
// no round trip time and waits a second before it repeats anything (TCP_TIMEOUT_INIT), from anew with every move.
wire::Bytes build_nudge(const Nudge& nudge, wire::ByteView outstanding = {});
// A plain acknowledgement instead, at the next sequence number to be sent: in the peer's window, so that it counts.
wire::Bytes build_acknowledgement(const Nudge& nudge, uint32_t snd_nxt);

// Everything a nudge needs, read from a frozen socket.
Result<Nudge> read_nudge(int frozen_fd, const tcp_repair_window& window);

}  // namespace gecko::tcp
