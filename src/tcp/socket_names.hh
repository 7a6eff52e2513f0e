// The two addresses of a connected socket and the family the application sees them in.
#pragma once

#include "base/address.hh"

namespace gecko::tcp {

struct SocketNames {
  Flow flow;
  bool v4_mapped = false;  // IPv4 on an AF_INET6 socket
};
// Errors: closed (not connected), unsupported (not an internet socket; link-local addresses, which mean nothing elsewhere).
Result<SocketNames> read_names(int fd);

}  // namespace gecko::tcp
