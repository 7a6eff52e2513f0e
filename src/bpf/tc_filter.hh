// Filters on an interface's clsact qdisc, ours and other people's. Used by steering.cc and gate.cc; works in the calling thread's namespace.
//
// Ours sit at one priority and handle, so that a new daemon replaces what its predecessor left in one step, without a packet
// passing un-steered. A filter of somebody else at that very place is refused, never replaced.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.hh"

namespace gecko::bpf {

enum class Hook { ingress, egress };

// Behind the gate program (which must see packets before a redirect takes them away), before most others.
inline constexpr uint32_t kTcPriority = 500;
inline constexpr uint32_t kGatePriority = 400;
inline constexpr uint32_t kTcHandle = 0x67;

// Creates the clsact qdisc; true: it was not there before.
Result<bool> ensure_clsact(int ifindex);
// The programs of the NIC count on 14 bytes of Ethernet header. Error: unsupported, not_found.
Status must_be_ethernet(int ifindex);
// The program of our filter there; nothing if there is none. Error `exists`: a foreign filter has our place.
Result<std::optional<uint32_t>> our_program(int ifindex, Hook hook, uint32_t priority = kTcPriority);
Status put_filter(int ifindex, Hook hook, int program_fd, uint32_t priority = kTcPriority);
Status remove_filter(int ifindex, Hook hook, uint32_t priority = kTcPriority);  // missing (interface included) is not an error
// Removes clsact if no filter is left on it.
Status remove_unused_clsact(int ifindex);

}  // namespace gecko::bpf
