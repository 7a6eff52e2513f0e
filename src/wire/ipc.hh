// Every command the unprivileged half of geckod can give to the privileged half, and every answer (docs/adr/0004).
// The privileged half trusts none of them: a token must exist, a descriptor must be a TCP socket on the group's own address and port,
// a state must validate and belong to the group.
#pragma once

#include "wire/link.hh"

namespace gecko::wire {

enum class IpcType : uint16_t {
  // unprivileged -> privileged
  freeze = 1,        // +fd: barrier, freeze, capture -> captured
  thaw = 2,          // -> thawed
  committing = 3,    // ownership is about to leave: if the other half dies now, stay silent
  retire = 4,        // end a frozen or restored socket without a packet. No answer
  restore = 5,       // -> restored
  activate = 6,      // -> activated (+fd)
  listen = 7,        // -> listening (+fd)
  socket = 8,        // -> socket_is (+fd)
  contact = 9,       // take or give up the group address on the segment, re-program steering -> done
  syn_slots = 10,    // where new connections go. No answer
  reload_keys = 11,  // copy the key directories again -> done
  // answers
  captured = 51, thawed = 52, restored = 55, activated = 56, listening = 57, socket_is = 58, done = 59,
};

struct IpcFreeze { uint64_t token = 0; uint16_t group = 0; Flow flow; bool accept_hole = false; GECKO_FIELDS(token, group, flow, accept_hole) };
// code 0, or Errc; busy: a hole is in the received sequence, try again or insist
struct IpcCaptured { uint64_t token = 0; uint16_t code = 0; std::string message; Bytes tcp;
  GECKO_FIELDS(token, code, wire::limited<kMaxText>(message), wire::limited<kMaxStateBytes>(tcp)) };
struct IpcToken { uint64_t token = 0; GECKO_FIELDS(token) };
struct IpcRestore { uint64_t token = 0; uint16_t group = 0; Flow flow; Bytes tcp; GECKO_FIELDS(token, group, flow, wire::limited<kMaxStateBytes>(tcp)) };
struct IpcStatus { uint64_t token = 0; uint16_t code = 0; std::string message; GECKO_FIELDS(token, code, wire::limited<kMaxText>(message)) };
struct IpcListen { uint64_t token = 0; uint16_t group = 0; uint16_t port = 0; uint32_t backlog = 0; GECKO_FIELDS(token, group, port, backlog) };
struct IpcSocket { uint64_t token = 0; uint16_t group = 0; GECKO_FIELDS(token, group) };
struct IpcContact { uint64_t token = 0; uint16_t group = 0; uint16_t contact = 0; bool self = false; GECKO_FIELDS(token, group, contact, self) };
struct IpcSynSlots { uint16_t group = 0; std::vector<uint16_t> slots; GECKO_FIELDS(group, wire::limited<256>(slots)) };

}  // namespace gecko::wire
