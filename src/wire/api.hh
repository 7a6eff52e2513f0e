// Every message on geckod's UNIX socket: applications (libgecko) and operators (gecko).
// Framed (wire/frame.hh); "+fd" says that one descriptor travels with the message.
#pragma once

#include "wire/link.hh"

namespace gecko::wire {

// 2: placement; 3: checkpoint, recovered connections; 4: input, stable; 5: stable checkpoints; 6: here
inline constexpr uint16_t kApiVersion = 6;
inline constexpr uint16_t kApiVersionMin = 1;
inline constexpr size_t kMaxJson = 16u << 20;

enum class ApiType : uint16_t {
  // application -> geckod
  hello = 1,
  join = 2,             // serve this group; answered by joined or error
  leave = 3,            // no new connections to this application; its own go on. Answered by done
  listen = 4,           // answered by listening (+fd) or error
  opened = 5,           // a connection accepted (or made from the group address): it can be moved from now on. No answer
  closed = 6,           // the application has closed it. No answer
  handoff = 7,          // +fd: the application has let go of it; answered by outcome
  yielded = 8,          // +fd: answer to yield
  not_yielded = 9,      // answer to yield: gone or not movable now
  handoff_client = 10,  // all connections of a client, wherever their owner; answered by client_result
  set_contact = 11,     // answered by done or error
  socket = 12,          // a socket bound to the group address and a steerable port, to connect from; answered by socket_is (+fd) or error
  admin = 13,           // operator: JSON; answered by admin_reply
  subscribe = 14,       // members now and on every change
  listens = 15,         // after a restart of geckod: the application still has the listening socket of this port. No answer
  stays = 16,           // this connection cannot move, and why; empty: it can again. No answer
  orphan = 17,          // +fd: a former geckod died while this connection was on its way, and left it frozen. Answered by outcome (request 0)
  room = 18,            // how many connections the application can still take: its limit of descriptors. No answer; older libraries say nothing
  checkpoint = 19,      // the application's state at this point of the connection's streams, for the day its node dies (version 3). No answer
  recovery = 20,        // whether it wants recovery for a port's connections, before it listens there; unsaid: as the group has it. No answer (version 3)
  ending = 21,          // it shuts its side of this connection down in a moment. No answer (version 3)
  // replicated connections (docs/adr/0026; version 4)
  input = 22,           // what the program has read of a connection, before it is given to the program. No answer
  // Answered by stable, as soon as the backups have the input up to there and the checkpoints said before this: at once where it is not replicated.
  await_stable = 23,
  replication = 24,     // whether this program's connections of a port are to be replicated, before it listens there; unsaid: as the group has it. No answer
  // It has heard of an arrival that comes `again` (version 6). What it had said of the connection before, it had said of one that ended here. No answer
  here = 25,
  // geckod -> application
  welcome = 50,
  joined = 51,
  error = 52,
  done = 53,
  listening = 54,       // +fd
  arrive = 55,          // +fd: a connection is yours now
  yield = 56,           // let go of this connection: lock out your threads, answer with its descriptor and state blob
  outcome = 57,         // of a handoff or a yield: moved (forget it) or returned (it is yours again, unharmed)
  client_result = 58,
  socket_is = 59,       // +fd
  admin_reply = 60,
  members = 61,
  evict = 62,           // this connection cannot move and its node is to be empty: shut it down, its client comes again and finds another node
  placement = 63,       // how the group's policy places connections; before every `members` (version 2)
  stable = 64,          // answer to await_stable (version 4)
};

struct ApiHello { uint16_t version = kApiVersion, version_min = kApiVersionMin; std::string program;
  GECKO_FIELDS(version, version_min, wire::limited<64>(program)) };
struct Welcome { uint16_t version = 0; std::string software, node;
  GECKO_FIELDS(version, wire::limited<32>(software), wire::limited<kMaxName>(node)) };

struct Join { uint64_t request = 0; std::string group; GECKO_FIELDS(request, wire::limited<kMaxName>(group)) };
struct JoinedBefore3 { uint64_t request = 0; std::string group, node; Address address; std::vector<uint16_t> ports; bool contact = false;
  GECKO_FIELDS(request, wire::limited<kMaxName>(group), wire::limited<kMaxName>(node), address, wire::limited<64>(ports), contact) };
struct JoinedBefore4 { uint64_t request = 0; std::string group, node; Address address; std::vector<uint16_t> ports; bool contact = false, recovers = false;
  GECKO_FIELDS(request, wire::limited<kMaxName>(group), wire::limited<kMaxName>(node), address, wire::limited<64>(ports), contact, recovers) };
// recovers: the group file says so; else nobody is interested in checkpoints. replicates: nor, without it, in what programs read.
struct Joined { uint64_t request = 0; std::string group, node; Address address; std::vector<uint16_t> ports;
  bool contact = false, recovers = false, replicates = false;
  GECKO_FIELDS(request, wire::limited<kMaxName>(group), wire::limited<kMaxName>(node), address, wire::limited<64>(ports), contact, recovers, replicates) };
struct Leave { uint64_t request = 0; GECKO_FIELDS(request) };
struct ApiError { uint64_t request = 0; uint16_t code = 0; std::string message; GECKO_FIELDS(request, code, wire::limited<kMaxText>(message)) };
struct Done { uint64_t request = 0; GECKO_FIELDS(request) };
struct Listen { uint64_t request = 0; uint16_t port = 0; uint32_t backlog = 0; GECKO_FIELDS(request, port, backlog) };
struct Listens { uint16_t port = 0; GECKO_FIELDS(port) };
struct AppRecovery { uint16_t port = 0; bool wanted = true; GECKO_FIELDS(port, wanted) };
struct Listening { uint64_t request = 0; GECKO_FIELDS(request) };

// So many connections may arrive, counted since this session joined. What is on its way to the application is within it.
struct Room { uint64_t arrivals = 0; GECKO_FIELDS(arrivals) };

// The library makes the id (ConnId::random), so that no answer has to be awaited.
struct OpenedBefore3 { ConnId id; Flow flow; bool movable = true; uint64_t epoch = 1; GECKO_FIELDS(id, flow, movable, epoch) };
struct Opened { ConnId id; Flow flow; bool movable = true; uint64_t epoch = 1; StreamBase base{};
  GECKO_FIELDS(id, flow, movable, epoch, base) };
struct Stays { ConnId id; std::string reason; GECKO_FIELDS(id, wire::limited<kMaxText>(reason)) };
// epoch: as the application knew it before the handoff.
using AppOrphan = Opened;
// Offsets as in a Checkpoint between nodes (wire/mirror.hh). A later one replaces it.
struct AppCheckpoint { ConnId id; uint64_t input = 0, output = 0; Bytes blob; GECKO_FIELDS(id, input, output, wire::limited<kMaxBlob>(blob)) };
// offset: of the first of these bytes, counted from the connection's birth. The first part says where the program begins, and may be empty. end: the
// client's FIN comes after them.
struct AppInput { ConnId id; uint64_t offset = 0; bool end = false; Bytes bytes; GECKO_FIELDS(id, offset, end, wire::limited<256u << 10>(bytes)) };
// offset: nothing beyond what it has reported. checkpoints: that it has made of this connection; given back in the answer.
struct AppAwait { ConnId id; uint64_t offset = 0, checkpoints = 0; GECKO_FIELDS(id, offset, checkpoints) };
struct AppStable { ConnId id; uint64_t offset = 0, checkpoints = 0; GECKO_FIELDS(id, offset, checkpoints) };
struct AppAwaitBefore5 { ConnId id; uint64_t offset = 0; GECKO_FIELDS(id, offset) };
struct AppStableBefore5 { ConnId id; uint64_t offset = 0; GECKO_FIELDS(id, offset) };
struct AppReplication { uint16_t port = 0; bool wanted = true; GECKO_FIELDS(port, wanted) };
struct AppClosed { ConnId id; GECKO_FIELDS(id) };
struct AppHere { ConnId id; GECKO_FIELDS(id) };
// target empty: the group's policy or the least loaded other node. Node name or node address otherwise.
// After a yield that was answered with `again`, an empty target is the node that the yield was for.
// attempts: how many targets geckod may try in all (1..3; only without a named target).
struct AppHandoff { uint64_t request = 0; ConnId id; std::string target; uint8_t attempts = 1; Bytes blob;
  GECKO_FIELDS(request, id, wire::limited<kMaxName>(target), attempts, wire::limited<kMaxBlob>(blob)) };
struct Yield { ConnId id; GECKO_FIELDS(id) };
struct AppEvict { ConnId id; GECKO_FIELDS(id) };
struct Yielded { ConnId id; Bytes blob; GECKO_FIELDS(id, wire::limited<kMaxBlob>(blob)) };
// code `again`: not now; the application hands it off by itself as soon as it can (no second yield is needed).
struct NotYielded { ConnId id; uint16_t code = 0; std::string reason; GECKO_FIELDS(id, code, wire::limited<kMaxText>(reason)) };
// code 0: moved to `node`. Otherwise the connection is where it was and lives; `node` is the target that failed.
// Always before the `arrive` with which the same connection comes back, but for a move to the node itself.
// final = false: one target failed, geckod goes on with another (for the policy's report). epoch: with which it is here again; 0: as before.
struct AppOutcome { uint64_t request = 0; ConnId id; uint16_t code = 0; std::string message, node; bool final = true; uint64_t epoch = 0;
  GECKO_FIELDS(request, id, code, wire::limited<kMaxText>(message), wire::limited<kMaxName>(node), final, epoch) };
struct ArriveBefore3 { ConnId id; uint64_t epoch = 0; Flow flow; std::string from; Bytes blob;
  GECKO_FIELDS(id, epoch, flow, wire::limited<kMaxName>(from), wire::limited<kMaxBlob>(blob)) };
struct ArriveBefore4 { ConnId id; uint64_t epoch = 0; Flow flow; std::string from; Bytes blob{}; StreamBase base{};
  bool recovered = false, saved = false; uint64_t input = 0, output = 0;
  GECKO_FIELDS(id, epoch, flow, wire::limited<kMaxName>(from), wire::limited<kMaxBlob>(blob), base, recovered, saved, input, output) };
// recovered: `from` has died; the streams stand at `base`; then `saved` tells whether `blob` is a checkpoint, of the offsets input and output.
// replayed: the socket gives once more what had been read since (base.received is `input`), and what the program writes once more, from `output` to
// base.sent, the client has. logged: input up to here is with geckod already. again: this application has had it
// before, and it ended here without a word (this node's life as a member was over); answered by `here`.
struct ArriveBefore6 { ConnId id; uint64_t epoch = 0; Flow flow; std::string from; Bytes blob{}; StreamBase base{};
  bool recovered = false, saved = false; uint64_t input = 0, output = 0; bool replayed = false; uint64_t logged = 0;
  GECKO_FIELDS(id, epoch, flow, wire::limited<kMaxName>(from), wire::limited<kMaxBlob>(blob), base, recovered, saved, input, output, replayed, logged) };
struct Arrive { ConnId id; uint64_t epoch = 0; Flow flow; std::string from; Bytes blob{}; StreamBase base{};
  bool recovered = false, saved = false; uint64_t input = 0, output = 0; bool replayed = false; uint64_t logged = 0; bool again = false;
  GECKO_FIELDS(id, epoch, flow, wire::limited<kMaxName>(from), wire::limited<kMaxBlob>(blob), base, recovered, saved, input, output, replayed, logged,
               again) };
struct HandoffClient { uint64_t request = 0; Endpoint client; std::string target; GECKO_FIELDS(request, client, wire::limited<kMaxName>(target)) };
struct ClientOutcome { ConnId id; Endpoint client; std::string from; uint16_t code = 0; std::string reason;
  GECKO_FIELDS(id, client, wire::limited<kMaxName>(from), code, wire::limited<kMaxText>(reason)) };
struct ClientResult { uint64_t request = 0; std::vector<ClientOutcome> outcomes; GECKO_FIELDS(request, wire::limited<kMaxHints>(outcomes)) };
struct SetContact { uint64_t request = 0; std::string node; GECKO_FIELDS(request, wire::limited<kMaxName>(node)) };
struct Socket { uint64_t request = 0; GECKO_FIELDS(request) };
struct SocketIs { uint64_t request = 0; Endpoint local; GECKO_FIELDS(request, local) };
struct Admin { uint64_t request = 0; std::string json; GECKO_FIELDS(request, wire::limited<kMaxJson>(json)) };
struct AdminReply { uint64_t request = 0; std::string json; GECKO_FIELDS(request, wire::limited<kMaxJson>(json)) };
struct ApiMember { std::string name; Address address; bool up = false, self = false, contact = false; uint32_t connections = 0; uint16_t applications = 0;
  GECKO_FIELDS(wire::limited<kMaxName>(name), address, up, self, contact, connections, applications) };
// What `members` has no room for, in its order. ports: what the node has applications for; only if `reports`, otherwise it may be any (a node
// of an older version).
struct MemberPlacement { uint32_t weight = 1; bool reports = false; std::vector<uint16_t> ports; GECKO_FIELDS(weight, reports, wire::limited<64>(ports)) };
// policy: as in the group file. at_syn: it has placed new clients before an application sees them.
struct Placement { std::string policy; bool at_syn = false; uint32_t first_bytes = 0, first_bytes_timeout_ms = 0; std::vector<MemberPlacement> members;
  GECKO_FIELDS(wire::limited<32>(policy), at_syn, first_bytes, first_bytes_timeout_ms, wire::limited<64>(members)) };
struct Members { std::vector<ApiMember> members; GECKO_FIELDS(wire::limited<64>(members)) };

}  // namespace gecko::wire
