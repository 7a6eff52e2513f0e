// Whom does a key belong to? Consistent hashing: every node that asks gets the same answer, and when a node comes or goes only what it
// gets or had changes hands (rendezvous hashing, with weights). For slots of the steering program (a client's address: base/client_hash.hh) and
// for bytes of a request. Pure; no errors.
//
// Not a defence: who may choose the keys (addresses of a large network, paths) can choose them so that they meet at one node.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace gecko::core {

// Of bytes: the same on every machine.
uint64_t hash_of(std::string_view bytes);

// Whose is `key`? The larger, the more it wants it; the weight is its part of all keys in proportion. `node`: hash_of its name.
double desire(uint64_t node, uint32_t weight, uint64_t key);

// What of a request's first bytes is hashed: of an HTTP/1 request line the path without its query, else the first line without its end.
// Nothing: neither is complete in these bytes, more may come.
std::optional<std::string_view> request_key(std::string_view first_bytes);

}  // namespace gecko::core
