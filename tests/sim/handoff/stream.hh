// The TCP of the simulation: as much of it as can be lost, doubled or garbled by a handoff. Bytes are numbered from 0 in each direction; a
// segment is a range of numbers and a cumulative acknowledgement. Loss is repaired by retransmission from the last acknowledged byte.
#pragma once

#include <cstdint>
#include <string>

#include "wire/codec.hh"

namespace gecko::sim {

using ConnNo = uint32_t;

struct Segment {
  ConnNo conn = 0;
  uint64_t from = 0, to = 0;   // data [from, to)
  uint64_t ack = 0;            // next byte expected from the other side
  uint8_t hops = 0;            // forwarded from node to node
};

// One server-side socket's positions: what freeze captures and restore loads.
struct Positions {
  uint64_t in_next = 0;        // received in order
  uint64_t in_read = 0;        // taken by the application
  uint64_t out_written = 0;    // by the application
  uint64_t out_acked = 0;
  GECKO_FIELDS(in_next, in_read, out_written, out_acked)
};

// The application's state: travels as the blob.
struct AppState {
  uint64_t consumed = 0, produced = 0;
  GECKO_FIELDS(consumed, produced)
};

// Answers are a little longer than requests, differently for each: positions of the two directions differ.
inline uint64_t answer_length(uint64_t request) { return 1 + (request % 3 == 0) + (request % 7 == 0); }

// Connection numbers as identities and back.
inline ConnId conn_id(ConnNo conn) {
  ConnId id;
  for (size_t i = 0; i < 4; ++i) id.bytes[i] = static_cast<uint8_t>(conn >> (8 * i));
  id.bytes[15] = 0x5a;
  return id;
}
inline ConnNo conn_no(const ConnId& id) {
  ConnNo conn = 0;
  for (size_t i = 0; i < 4; ++i) conn |= ConnNo{id.bytes[i]} << (8 * i);
  return conn;
}
inline Flow conn_flow(ConnNo conn) {
  Flow flow;
  flow.local.address.bytes = {0x20, 0x01, 0x0d, 0xb8, 0, 0xf, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80};
  flow.local.port = 80;
  flow.peer.address.bytes = {0x20, 0x01, 0x0d, 0xb8, 0, 0xc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  flow.peer.port = static_cast<uint16_t>(1024 + conn % 60000);
  return flow;
}

}  // namespace gecko::sim
