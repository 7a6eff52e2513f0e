// Every message between two nodes of a group: reading this list is reading the architecture (docs/protocol/links.md).
// They travel framed over mutually authenticated TLS 1.3 links, one link per (group, pair of nodes).
#pragma once

#include "wire/codec.hh"

namespace gecko::wire {

// A node speaks its own version and the two before.
inline constexpr uint16_t kLinkVersion = 5;          // 4: views (57 to 69), mirrors (70 to 74); 5: input (75 to 77)
inline constexpr uint16_t kLinkVersionMin = 3;
inline constexpr size_t kMaxBlob = 1u << 20;     // application state that travels with a connection
inline constexpr size_t kMaxText = 1024;         // error texts
inline constexpr size_t kMaxName = 63;
inline constexpr size_t kMaxHints = 4096;        // flow hints per message
inline constexpr size_t kMaxStateBytes = 66u << 20;
inline constexpr size_t kMaxAheadPart = 256u << 10;   // of received bytes that go ahead of a state: one read, one frame

enum class LinkType : uint16_t {
  // session
  hello = 1,            // both, first
  ping = 2, pong = 3,   // liveness and load
  serves = 4,           // for which ports the sender has applications: after hello and when it changes
  paths = 5,            // how far clients' networks are from the sender, measured on its connections: new and changed ones
  // handoff of one connection (docs/protocol/handoff.md); D donor, A acceptor
  prepare = 10,         // D->A  may I give you this one? (nothing has happened yet)
  ready = 11,           // A->D  yes; a place is reserved
  refuse = 12,          // A->D  no (to prepare or state), with the reason
  state = 13,           // D->A  frozen; here it is
  restored = 14,        // A->D  the socket exists here, silent
  commit = 15,          // D->A  ownership is yours: the point of no return
  active = 16,          // A->D  it lives here now
  abort = 17,           // D->A  forget it (before commit only)
  unknown = 18,         // A->D  answer to commit: it never came to life here and never will
  ahead = 19,           // D->A  between ready and state: unread bytes, while the connection still lives
  ahead_taken = 20,     // A->D  so many of them are here
  gone = 21,            // A->D  answer to commit: it may have lived here, in a former life of this node, and does not any more
  // who owns which flow
  hints = 30,           // flows and their owners (to a new contact; on a change)
  closed = 31,          // owner -> contact and former owners
  ask_owner = 32,       // contact -> all: is this flow yours?
  owner_is = 33,        // answer
  contact = 34,         // who is contact, with a term that only grows
  // operator's and application's wishes that another node must carry out
  move_request = 40,
  move_result = 41,
  // emptying nodes (docs/protocol/drain.md)
  drain_wish = 50,      // this node is to be empty, or may serve again; told to all, passed on
  drain_look = 51,      // how far is your drain?
  drain_report = 52,    // answer
  drained_ask = 53,     // the drained node -> all: I own nothing any more; do you agree?
  drained_answer = 54,
  evict = 55,           // end what cannot move
  shed = 56,            // balance: give so many of your connections to that node
  // who is a member (docs/protocol/membership.md, bodies in wire/membership.hh)
  heartbeat_key = 57,   // the sender's lease keeper has this session's key: its peer may use it
  first_view = 58,      // nobody has a view: may I form it? And the answer
  view_prepare = 60, view_promise = 61, view_propose = 62, view_accepted = 63, view_refused = 64,   // votes on the next view
  view_is = 65,         // decided
  view_ask = 66,        // mine is this one, do you have a later one? The first word on a new link; epoch 0: I have none
  join_ask = 67, leave_ask = 68, recovered = 69,
  // protection of connections (wire/mirror.hh; version 4)
  mirrors = 70,         // owner -> backup: connections and where they stand, in numbered batches
  mirrors_kept = 71,    // answer: I have all of them up to this batch
  checkpoint = 72,      // owner -> backup: an application's state at two offsets
  recover_ask = 73,     // heir -> members: which of these do you own?
  recover_answer = 74,
  // replicated connections (docs/adr/0026; version 5)
  inputs = 75,          // owner -> backup: the clients' bytes as the programs read them
  inputs_kept = 76,     // answer: I have this connection's up to there
  replica = 77,         // D->A  between ready and state: what the connection is recovered from
};

struct Hello {
  uint16_t version = kLinkVersion, version_min = kLinkVersionMin;
  std::string software;        // "0.1.0", for status only
  std::string group, node;
  uint64_t incarnation = 0;    // changes with every start of geckod
  std::string config_digest;   // differing digests: the link stands, status says degraded
  GECKO_FIELDS(version, version_min, wire::limited<32>(software), wire::limited<kMaxName>(group), wire::limited<kMaxName>(node), incarnation,
               wire::limited<64>(config_digest))
};
// The version two nodes speak, or an error that says which one to upgrade.
Result<uint16_t> negotiate(uint16_t mine, uint16_t mine_min, uint16_t theirs, uint16_t theirs_min);

struct Ping {                       // also the pong
  uint64_t sequence = 0;
  uint32_t connections = 0;         // owned by the sender in this group
  uint16_t applications = 0;        // joined at the sender
  bool draining = false;
  GECKO_FIELDS(sequence, connections, applications, draining)
};

struct Serves { std::vector<uint16_t> ports; GECKO_FIELDS(wire::limited<64>(ports)) };
inline constexpr size_t kMaxPaths = 1024;        // per message
struct Path { Address network; uint32_t rtt_us = 0; GECKO_FIELDS(network, rtt_us) };   // IPv4 /24, IPv6 /48; the smallest round trip
struct Paths { std::vector<Path> paths; GECKO_FIELDS(wire::limited<kMaxPaths>(paths)) };

struct Prepare {
  uint64_t xid = 0;                 // unique per donor incarnation
  ConnId id;
  uint64_t epoch = 0;               // the new owner's epoch: the donor's plus one
  Flow flow;
  GECKO_FIELDS(xid, id, epoch, flow)
};
struct Ready { uint64_t xid = 0; GECKO_FIELDS(xid) };
struct Refuse {
  uint64_t xid = 0;
  uint16_t code = 0;                // Errc
  std::string reason;
  GECKO_FIELDS(xid, code, wire::limited<kMaxText>(reason))
};
struct State {
  uint64_t xid = 0;
  ConnId id;
  uint64_t epoch = 0;
  Bytes tcp;                        // encoded TcpState
  Bytes blob;                       // the application's
  StreamBase base{};                // of the socket that is made of it (version 4)
  GECKO_FIELDS(xid, id, epoch, wire::limited<kMaxStateBytes>(tcp), wire::limited<kMaxBlob>(blob), base)
};
struct StateBefore4 {
  uint64_t xid = 0;
  ConnId id;
  uint64_t epoch = 0;
  Bytes tcp, blob;
  GECKO_FIELDS(xid, id, epoch, wire::limited<kMaxStateBytes>(tcp), wire::limited<kMaxBlob>(blob))
};
struct Restored { uint64_t xid = 0; GECKO_FIELDS(xid) };
struct Commit {
  uint64_t xid = 0;
  ConnId id;
  uint64_t epoch = 0;
  GECKO_FIELDS(xid, id, epoch)
};
struct Active { uint64_t xid = 0; GECKO_FIELDS(xid) };
struct Abort { uint64_t xid = 0; GECKO_FIELDS(xid) };
struct Unknown { uint64_t xid = 0; GECKO_FIELDS(xid) };
struct Gone { uint64_t xid = 0; GECKO_FIELDS(xid) };

// The oldest unread bytes of the connection, in order. `offset`: how many came before; 0 begins anew. `last`: nothing more comes, and the
// state relies on exactly offset + |bytes| of them (0: on none).
struct Ahead {
  uint64_t xid = 0;
  uint32_t offset = 0;
  bool last = false;
  Bytes bytes;
  GECKO_FIELDS(xid, offset, last, wire::limited<kMaxAheadPart>(bytes))
};
struct AheadTaken {
  uint64_t xid = 0;
  uint32_t bytes = 0;               // in all
  bool refused = false;             // no room or no place reserved: send the state whole
  GECKO_FIELDS(xid, bytes, refused)
};

struct Hint {
  Flow flow;
  uint16_t owner = 0;               // index in the group file's node list; kNoNode: it was lost, nobody's
  uint64_t epoch = 0;
  GECKO_FIELDS(flow, owner, epoch)
};
struct Hints { std::vector<Hint> hints; GECKO_FIELDS(wire::limited<kMaxHints>(hints)) };
struct Closed { Flow flow; uint64_t epoch = 0; GECKO_FIELDS(flow, epoch) };
struct AskOwner { Flow flow; GECKO_FIELDS(flow) };
struct OwnerIs { Flow flow; bool mine = false; uint64_t epoch = 0; GECKO_FIELDS(flow, mine, epoch) };
struct Contact { uint16_t node = 0; uint64_t term = 0; GECKO_FIELDS(node, term) };

struct MoveRequest {                // "hand off all connections of this client that you own"
  uint64_t request = 0;
  Endpoint client;                  // port 0: all of that address
  uint16_t target = 0;
  GECKO_FIELDS(request, client, target)
};
struct MoveOutcome {
  ConnId id;
  Endpoint client;
  uint16_t code = 0;                // 0: moved; else Errc
  std::string reason;
  GECKO_FIELDS(id, client, code, wire::limited<kMaxText>(reason))
};
struct MoveResult {
  uint64_t request = 0;
  std::vector<MoveOutcome> outcomes;
  GECKO_FIELDS(request, wire::limited<kMaxHints>(outcomes))
};

struct DrainWish { uint16_t node = 0; bool drain = false; uint64_t term = 0; GECKO_FIELDS(node, drain, term) };
struct DrainLook { uint64_t request = 0; GECKO_FIELDS(request) };
inline constexpr size_t kMaxStays = 1000;        // connections that stay, listed with their reasons; all are counted
struct Stay { Endpoint client; uint32_t age_s = 0; std::string why; GECKO_FIELDS(client, age_s, wire::limited<kMaxText>(why)) };
struct DrainReport {
  uint64_t request = 0;
  bool draining = false;
  uint32_t connections = 0;         // owned now; of them:
  uint32_t movable = 0, moving = 0, stayed = 0;   // may move at all; on their way; asked in vain so far
  uint32_t moved = 0;               // away since the drain began
  uint32_t unaccepted = 0;          // in the kernel, not yet with an application
  uint32_t held_packets = 0;
  uint64_t since_ms = 0;            // how long the drain has lasted; once done, how long it took
  bool done = false;                // nothing is left, and every other node that is up has confirmed it
  std::vector<uint16_t> confirmed;  // by these nodes
  std::vector<Stay> stays;
  GECKO_FIELDS(request, draining, connections, movable, moving, stayed, moved, unaccepted, held_packets, since_ms, done, wire::limited<64>(confirmed),
               wire::limited<kMaxStays>(stays))
};
struct DrainedAsk { uint64_t round = 0; GECKO_FIELDS(round) };
struct DrainedAnswer { uint64_t round = 0; bool agree = false; GECKO_FIELDS(round, agree) };
struct Evict { uint64_t request = 0; GECKO_FIELDS(request) };     // no answer: drain_look shows what is left
struct Shed { uint16_t target = 0; uint32_t connections = 0; GECKO_FIELDS(target, connections) };

}  // namespace gecko::wire
