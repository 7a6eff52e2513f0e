// The same crash for what people use today: keepalived holds an address on n1 or n2, haproxy there serves it from nginx and an echo server (socat).
//
//   owner    the node of the servers that all clients use (n3); haproxy has a spare (n2)
//   contact  the node with the address and the haproxy in use (n1); its servers are elsewhere
//   both     n1 with its own servers in use
//
// Nothing continues a connection there, so its clients do what programs do: a connection that ends is opened again at once, and again every 10 ms
// until somebody answers; one that is told nothing is given up after `kPatience` (programs have 5 to 60 s) and opened again.
#pragma once

#include "clients.hh"
#include "fault.hh"

namespace gecko::bench {

inline constexpr Duration kPatience = std::chrono::seconds(5);
// As quick as it goes: of a second, and of two, by default.
inline constexpr std::chrono::milliseconds kAdvertise{10}, kCheckEvery{50};

struct PeerGaps : Gaps {   // gap: until the client is served again, be it on a new connection
  size_t clients = 0, reset = 0, closed = 0, told_nothing = 0;   // how the first connection ended
  size_t survived = 0;                                           // it did not
  void add(const PeerGaps& other);
};

struct PeerResult {
  PeerGaps server_speaks, client_speaks;
  void add(const PeerResult& other);
};

Result<PeerResult> crash_peer(Fault fault, Victim victim, const CrashClients& clients);

}  // namespace gecko::bench
