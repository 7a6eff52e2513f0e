// TCP endpoints for tests: streams whose every byte is known by its position, so that loss, duplication and disorder show.
#pragma once

#include <optional>
#include <string>

#include "base/address.hh"
#include "base/fd.hh"

namespace gecko::lab_test {

// Blocking sockets with a deadline of `kPatience` for every call: a test ends, whatever breaks.
inline constexpr int kPatienceSeconds = 15;

Result<Fd> listen_on(const std::string& ns, const Endpoint& at);
Result<Fd> accept_from(const Fd& listener);
Result<Fd> connect_from(const std::string& ns, const Endpoint& to, uint16_t local_port = 0);
Result<Flow> flow_of(const Fd& client);

// Sends bytes [from, from + size) of the pattern.
Status send_pattern(const Fd& fd, uint64_t from, uint64_t size);
// Receives exactly that; the error names the position of the first wrong byte.
Status receive_pattern(const Fd& fd, uint64_t from, uint64_t size);
// The other side has closed in an orderly way and nothing more came.
Status expect_end(const Fd& fd);

}  // namespace gecko::lab_test
