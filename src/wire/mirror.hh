// What an owner tells the backups of its connections, and what an heir asks about them (docs/protocol/mirrors.md, docs/adr/0020, 0026). Link version 4;
// input: 5.
//
// The owner numbers its connections (`handle`): unique in its life, never used again, so that what changes often is short. A backup's answer is
// cumulative: it has every batch up to the number it says.
#pragma once

#include "wire/link.hh"
#include "wire/tcp_mirror.hh"

namespace gecko::wire {

inline constexpr size_t kMaxMirrors = 2048;      // per message: some 230 KiB
inline constexpr size_t kMaxClaims = 4096;
// Replicated connections (docs/adr/0026).
inline constexpr size_t kMaxInputPart = 256u << 10;   // one read of a program, one message of it
inline constexpr size_t kMaxInputs = 1024;            // parts per message; all together about 1 MiB
inline constexpr size_t kMaxInputLog = 4u << 20;      // a connection's bytes since its last checkpoint that are kept
inline constexpr size_t kMaxSavedPoints = 8;          // a connection's checkpoints whose output has not been acknowledged yet

// All that a backup is to know of a connection: at its birth, when it gets its identity, when it has moved here, and to a new backup.
struct Mirror {
  uint32_t handle = 0;
  ConnId id;                        // zeros: no application has accepted it yet
  uint64_t epoch = 0;
  TcpMirror tcp;
  GECKO_FIELDS(handle, id, epoch, tcp)
};

// Where a connection stands whose mirror the backup has.
struct MirrorMove {
  uint32_t handle = 0;
  uint32_t snd_una = 0, snd_edge = 0, rcv_nxt = 0, rcv_edge = 0, echoed_clock = 0, clock = 0;
  uint64_t acked = 0, received = 0;
  bool fin_received = false;
  GECKO_FIELDS(handle, snd_una, snd_edge, rcv_nxt, rcv_edge, echoed_clock, clock, acked, received, fin_received)
};

// One batch. To a backup that may have mirrors of this life from an earlier link everything is sent again, in batches of which the first says
// `begins` and the last `completes`: what was not among them is not mirrored any more. Until then the backup keeps what it had.
struct Mirrors {
  uint64_t incarnation = 0;         // the owner's life
  uint64_t batch = 0;               // grows by one with every message of this type from this life to this backup
  bool begins = false, completes = false;
  std::vector<uint32_t> ended;      // closed, or moved away
  std::vector<Mirror> mirrors;
  std::vector<MirrorMove> moves;    // of handles that the backup does not have: ignored
  GECKO_FIELDS(incarnation, batch, begins, completes, wire::limited<kMaxMirrors>(ended), wire::limited<kMaxMirrors>(mirrors),
               wire::limited<kMaxMirrors>(moves))
};

struct MirrorsKept {
  uint64_t incarnation = 0;         // the owner's, as in the batch
  uint64_t batch = 0;
  std::vector<uint32_t> refused;    // of this batch: no room, or nonsense. They are not protected here
  GECKO_FIELDS(incarnation, batch, wire::limited<kMaxMirrors>(refused))
};

// The application's state at two offsets of the stream, counted from its birth: `input` bytes read, `output` bytes written. A later one replaces it.
struct Checkpoint {
  uint64_t incarnation = 0;
  uint32_t handle = 0;
  uint64_t input = 0, output = 0;
  Bytes blob;
  GECKO_FIELDS(incarnation, handle, input, output, wire::limited<kMaxBlob>(blob))
};

// Bytes of a client as the program has read them. The first part of a connection says where its log begins, and may be empty; one that begins beyond
// what is here begins the log anew.
struct Input {
  uint32_t handle = 0;
  uint64_t offset = 0;              // of the stream, counted from its birth: of the first of these bytes
  bool end = false;                 // the client's FIN comes after them, and the program has seen it
  Bytes bytes;
  GECKO_FIELDS(handle, offset, end, wire::limited<kMaxInputPart>(bytes))
};
struct Inputs {
  uint64_t incarnation = 0;
  std::vector<Input> parts;
  GECKO_FIELDS(incarnation, wire::limited<kMaxInputs>(parts))
};
struct InputMark {
  uint32_t handle = 0;
  uint64_t offset = 0;              // all before it is here
  bool end = false;                 // and the end
  bool refused = false;             // no room: it is not replicated here
  GECKO_FIELDS(handle, offset, end, refused)
};
struct InputsKept {
  uint64_t incarnation = 0;         // the owner's
  std::vector<InputMark> marks;     // one per connection of the message
  GECKO_FIELDS(incarnation, wire::limited<kMaxInputs>(marks))
};

// What a replicated connection is recovered from, with it to its new owner.
struct SavedPoint {
  uint64_t input = 0, output = 0;   // as in a Checkpoint
  Bytes blob;
  GECKO_FIELDS(input, output, wire::limited<kMaxBlob>(blob))
};
struct Replica {
  uint64_t xid = 0;
  uint64_t stable = 0;              // input that the donor's backups have; the client may have been told so
  uint32_t told_ack = 0, told_edge = 0;   // what the client has been told: acknowledgement, end of the window
  std::vector<SavedPoint> saved;    // oldest first
  uint64_t offset = 0;              // of `input`
  bool end = false;
  Bytes input;
  GECKO_FIELDS(xid, stable, told_ack, told_edge, wire::limited<kMaxSavedPoints>(saved), offset, end, wire::limited<kMaxInputLog>(input))
};

// A connection as the asker knows it, or as its owner answers.
struct Claim {
  ConnId id;                        // zeros: by its flow
  Flow flow;
  uint64_t epoch = 0;
  bool operator==(const Claim&) const = default;
  GECKO_FIELDS(id, flow, epoch)
};

// Heir to every member of the view: which of these connections of a dead life do you own, in this or a later epoch? To be answered after the view
// has been adopted; from then on the answerer takes over nothing more from that life.
struct RecoverAsk {
  uint64_t request = 0;
  uint64_t view_epoch = 0;
  uint16_t node = 0;                // the dead owner,
  uint64_t incarnation = 0;         // ... its life
  std::vector<Claim> claims;
  GECKO_FIELDS(request, view_epoch, node, incarnation, wire::limited<kMaxClaims>(claims))
};
struct RecoverAnswer {
  uint64_t request = 0;
  std::vector<Claim> owned;         // by the answerer, with its epochs; all others are not its
  GECKO_FIELDS(request, wire::limited<kMaxClaims>(owned))
};

// What a decoder cannot see: handles, positions.
Status validate(const Mirror& mirror);

}  // namespace gecko::wire
