// The datagram of a heartbeat: fixed size, authenticated, useless on any other pair of nodes (docs/protocol/membership.md). Used by the lease
// keeper. Pure: keys and bytes in, bytes or an Error out.
//
// A key belongs to one TLS session between two nodes: both ends derive it from the session (RFC 5705) and forget it when the
// next session has one. Replays within a key are the business of core/keeper (incarnation and counter).
#pragma once

#include <array>

#include "wire/heartbeat.hh"

namespace gecko::wire {

inline constexpr size_t kHeartbeatSize = 128;
inline constexpr size_t kHeartbeatKeySize = 32;
using HeartbeatDatagram = std::array<uint8_t, kHeartbeatSize>;
using HeartbeatKey = std::array<uint8_t, kHeartbeatKeySize>;

// From what both ends of a session export: a key per direction, so that nobody is made to hear itself. `group` and the nodes keep one
// session's keys apart from another's, should two ever export the same.
HeartbeatKey derive_heartbeat_key(ByteView exported, uint64_t group, uint16_t from, uint16_t to);
// The name of both directions' keys, the same at both ends; tells nothing about them.
uint32_t derive_heartbeat_key_id(ByteView exported, uint64_t group);

// `key_id` lets the receiver choose between the old and the new key while a session is replaced; it is not secret.
HeartbeatDatagram seal(const Heartbeat& heartbeat, uint32_t key_id, const HeartbeatKey& key);

// Which key it claims, before anything is believed. Errors: invalid (size, magic, version).
Result<uint32_t> heartbeat_key_id(ByteView datagram);
// Errors: invalid (size, magic, version, padding, fields), permission (not made with this key). Compared in constant time.
Result<Heartbeat> open(ByteView datagram, const HeartbeatKey& key);

}  // namespace gecko::wire
