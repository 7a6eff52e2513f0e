// What geckod and its lease keeper say to each other (docs/adr/0017, "Lease keeper"). Framed, over a UNIX socket of the runtime directory: the
// privileged half connects (a process of root), passes the gate's lease map if there is one, and hands the connection to the unprivileged
// half, which greets. The newest greeting counts: that of a restarted geckod.
//
// `group`: its index among the group files of this node. Times: CLOCK_BOOTTIME, nanoseconds.
#pragma once

#include "wire/heartbeat.hh"
#include "wire/membership.hh"

namespace gecko::wire {

inline constexpr int kKeeperVersion = 2;               // a keeper of another one is replaced
inline constexpr size_t kMaxKeeperFrame = 16u << 10;   // a view has 2.7 KB, the peers of a group 1.5 KB
inline constexpr size_t kMaxKeeperGroups = 256;
inline constexpr size_t kMaxSerial = 64;                // of a certificate, in hex: 20 bytes by RFC 5280

enum class KeeperType : uint16_t {
  // geckod -> keeper
  hello = 1,        // first; answered by here
  peers = 2,        // whom to watch, and where they are
  key = 3,          // of a node link that came up: accept it from now on
  use_key = 4,      // the peer's keeper accepts it: seal with it from now on
  adopt = 5, hold = 6, release = 7, appoint = 8,   // core::Keeper's
  lives = 9,        // geckod does: at least every restart_grace / 2. No answer
  quit = 10,        // end: this geckod needs a keeper with other settings
  lease_map = 11,   // +fd: the gate's leases, to be written from now on
  forget_key = 12,  // of that peer, at once: it is not heard, answered or granted anything before it has another one
  // keeper -> geckod
  here = 50, held = 51, suspicions = 52, newer = 53, lease = 54, contact = 55,
  keyed = 56,       // after here, for each group
};

struct KeeperHello { uint64_t settings = 0; GECKO_FIELDS(settings) };
// How the keeper is, per group. Incarnation 0: nobody has told it of a life yet.
struct KeeperLife { uint64_t incarnation = 0, epoch = 0, suspects = 0, agreed = 0; GECKO_FIELDS(incarnation, epoch, suspects, agreed) };
struct KeeperHere { bool same_settings = false; std::vector<KeeperLife> groups; GECKO_FIELDS(same_settings, wire::limited<kMaxKeeperGroups>(groups)) };

struct KeeperPeer { uint16_t node = 0; Endpoint at; GECKO_FIELDS(node, at) };
struct KeeperPeers { uint16_t group = 0; std::vector<KeeperPeer> peers; GECKO_FIELDS(group, wire::limited<kMaxNodeIndex + 1>(peers)) };
struct KeeperKey { uint16_t group = 0, peer = 0; uint32_t key_id = 0; std::array<uint8_t, 32> send{}, receive{}; std::string serial;
  GECKO_FIELDS(group, peer, key_id, send, receive, wire::limited<kMaxSerial>(serial)) };
struct KeeperForgetKey { uint16_t group = 0, peer = 0; GECKO_FIELDS(group, peer) };
struct KeeperUseKey { uint16_t group = 0, peer = 0; uint32_t key_id = 0; GECKO_FIELDS(group, peer, key_id) };
struct KeeperAdopt { uint16_t group = 0; View view; uint64_t incarnation = 0; GECKO_FIELDS(group, view, incarnation) };
struct KeeperHold { uint16_t group = 0; uint64_t token = 0, epoch = 0, removed = 0; GECKO_FIELDS(group, token, epoch, removed) };
struct KeeperRelease { uint16_t group = 0; GECKO_FIELDS(group) };
struct KeeperAppoint { uint16_t group = 0, node = 0; GECKO_FIELDS(group, node) };
struct KeeperLives { uint64_t sequence = 0; GECKO_FIELDS(sequence) };

struct KeeperHeld { uint16_t group = 0; uint64_t token = 0; GECKO_FIELDS(group, token) };
struct KeeperSuspicions { uint16_t group = 0; uint64_t mine = 0, agreed = 0; GECKO_FIELDS(group, mine, agreed) };
struct KeeperNewer { uint16_t group = 0, at = 0; uint64_t epoch = 0; GECKO_FIELDS(group, at, epoch) };
// When a lease begins and ends, and every half second. `term`: of the gate; another one with each life of this node.
struct KeeperLease { uint16_t group = 0, term = 0; bool holds = false; uint64_t until_ns = 0; GECKO_FIELDS(group, term, holds, until_ns) };
// Whose certificate each key came from, also where it is forgotten: a restarted geckod may know it for revoked.
struct KeeperSerial { uint16_t peer = 0; std::string serial; GECKO_FIELDS(peer, wire::limited<kMaxSerial>(serial)) };
struct KeeperKeyed { uint16_t group = 0; std::vector<KeeperSerial> peers; GECKO_FIELDS(group, wire::limited<kMaxNodeIndex + 1>(peers)) };
struct KeeperContact { uint16_t group = 0, node = 0; uint64_t term = 0; bool acting = false; GECKO_FIELDS(group, node, term, acting) };

}  // namespace gecko::wire
