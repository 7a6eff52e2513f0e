// What travels with a client's connection from geckoproxy to geckoproxy: hardly anything, because connections leave only when the server
// knows nothing about them. At most 16 bytes; versioned.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace gecko::proxy {

struct Baggage {
  uint64_t answered = 0;   // requests so far, on all nodes; 0: nothing has been said yet
  uint8_t detours = 0;     // nodes whose server refused it
};

std::vector<uint8_t> pack(const Baggage& baggage);
// Nothing: some other program's, or a future version's.
std::optional<Baggage> unpack(std::span<const uint8_t> bytes);

}  // namespace gecko::proxy
