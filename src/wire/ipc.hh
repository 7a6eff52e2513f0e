// Every command the unprivileged half of geckod can give to the privileged half, and every answer (docs/adr/0004).
// The privileged half trusts none of them: a token must exist, a descriptor must be a TCP socket on the group's own address and port,
// a state must validate and belong to the group.
#pragma once

#include "wire/link.hh"

namespace gecko::wire {

// What may wait between geckod's two halves. Both always read, so this is no sign of a peer that does not: what is really on its way is
// bounded where it begins (Group: kMaxMovingBytes; group_ahead.cc: kMaxComing).
inline constexpr size_t kMaxIpcQueued = 1u << 30;

enum class IpcType : uint16_t {
  // unprivileged -> privileged
  freeze = 1,        // +fd: barrier, freeze, capture -> captured
  thaw = 2,          // -> thawed
  retire = 4,        // end a frozen or restored socket without a packet. No answer
  restore = 5,       // -> restored; same token as `ahead` if there was one
  activate = 6,      // -> activated (+fd)
  listen = 7,        // -> listening (+fd)
  socket = 8,        // -> socket_is (+fd)
  contact = 9,       // take or give up the group address on the segment, re-program steering -> done
  syn_slots = 10,    // where new connections go. No answer
  near = 14,         // which nodes are near a network's clients. No answer
  reload_keys = 11,  // copy the key directories again -> done
  ahead = 12,        // received bytes of a connection that is going to be restored -> ahead_kept
  adopt = 13,        // +fd: a connection that a former geckod has frozen; from now on thaw and retire know it by this token -> adopted
  keeper = 15,       // a connection to the lease keeper, which is started if none lives -> keeper_is (+fd)
  are_you_there = 16,   // -> done
  protect_port = 20,    // the gate judges what leaves from this port of the group from now on -> done
  unprotect_port = 21,  // no longer. No answer
  nudge = 22,           // tell these clients what they may hear and have not. No answer
  probe = 24,           // a segment that makes a client, or our kernel, say where it is. No answer
  end_sockets = 30,  // all connections of the group's address and ports end here, silently where the gate guards them -> done
  // answers
  captured = 51, thawed = 52, restored = 55, activated = 56, listening = 57, socket_is = 58, done = 59, ahead_kept = 60, adopted = 61, keeper_is = 62,
};

struct IpcFreeze { uint64_t token = 0; uint16_t group = 0; Flow flow; bool accept_hole = false;
  uint32_t slot = 0;       // its record in the handoff journal
  uint32_t ahead = 0;      // so many of the oldest unread bytes need not be captured,
  uint64_t consumed = 0;   // unless somebody has read since (tcp::consumed)
  GECKO_FIELDS(token, group, flow, accept_hole, slot, ahead, consumed) };
struct IpcAdopt { uint64_t token = 0; uint16_t group = 0; Flow flow; uint32_t slot = 0; GECKO_FIELDS(token, group, flow, slot) };
// ask_client: with a segment that changes nothing where the connection lives and is answered with a reset where it does not
struct IpcRetire { uint64_t token = 0; bool ask_client = false; GECKO_FIELDS(token, ask_client) };
// code 0, or Errc; busy: a hole is in the received sequence, try again or insist
// `ahead`: so many bytes have been left out of the state's receive queue: as asked, or 0.
struct IpcCaptured { uint64_t token = 0; uint16_t code = 0; std::string message; uint32_t ahead = 0, segments_in = 0; Bytes tcp;
  GECKO_FIELDS(token, code, wire::limited<kMaxText>(message), ahead, segments_in, wire::limited<kMaxStateBytes>(tcp)) };
struct IpcToken { uint64_t token = 0; GECKO_FIELDS(token) };
// `from`: the donor's node address. `ahead`: so many bytes were sent ahead with this token.
struct IpcRestore { uint64_t token = 0; uint16_t group = 0; Flow flow; ConnId id; uint64_t epoch = 0; Address from; uint32_t ahead = 0; Bytes tcp;
  GECKO_FIELDS(token, group, flow, id, epoch, from, ahead, wire::limited<kMaxStateBytes>(tcp)) };
// Appended to what is here of this token, where it must end at `offset`; offset 0 begins anew.
struct IpcAhead { uint64_t token = 0; uint32_t offset = 0; Bytes bytes; GECKO_FIELDS(token, offset, wire::limited<kMaxAheadPart>(bytes)) };
struct IpcStatus { uint64_t token = 0; uint16_t code = 0; std::string message; GECKO_FIELDS(token, code, wire::limited<kMaxText>(message)) };
// next_seq: the sequence number that its socket expects from the peer
struct IpcActivated { uint64_t token = 0; uint16_t code = 0; std::string message; uint32_t next_seq = 0;
  GECKO_FIELDS(token, code, wire::limited<kMaxText>(message), next_seq) };
struct IpcListen { uint64_t token = 0; uint16_t group = 0; uint16_t port = 0; uint32_t backlog = 0; GECKO_FIELDS(token, group, port, backlog) };
struct IpcSocket { uint64_t token = 0; uint16_t group = 0; GECKO_FIELDS(token, group) };
struct IpcContact { uint64_t token = 0; uint16_t group = 0; uint16_t contact = 0; bool self = false; GECKO_FIELDS(token, group, contact, self) };
// Nodes by their steering numbers. mode: GECKO_SLOTS_*.
// `slots`: the port's own table; empty: the group's
struct IpcServing { uint16_t port = 0; std::vector<uint16_t> nodes, slots; GECKO_FIELDS(port, wire::limited<64>(nodes), wire::limited<4096>(slots)) };
struct IpcSynSlots { uint16_t group = 0; uint16_t mode = 0; std::vector<uint16_t> slots; std::vector<IpcServing> serving;
  GECKO_FIELDS(group, mode, wire::limited<4096>(slots), wire::limited<64>(serving)) };
struct IpcPort { uint64_t token = 0; uint16_t group = 0; uint16_t port = 0; GECKO_FIELDS(token, group, port) };
inline constexpr size_t kMaxNudges = 1024, kMaxSmallPacket = 160;
struct IpcNudge { uint16_t group = 0; std::vector<Flow> flows; GECKO_FIELDS(group, wire::limited<kMaxNudges>(flows)) };
// A whole IP packet of the group's to a client, as tcp::build_probe makes it.
struct IpcPacket { uint16_t group = 0; Bytes packet; GECKO_FIELDS(group, wire::limited<kMaxSmallPacket>(packet)) };
struct IpcNear { uint16_t group = 0; Address network; std::vector<uint16_t> nodes; GECKO_FIELDS(group, network, wire::limited<64>(nodes)) };

}  // namespace gecko::wire
