// The PROXY protocol's header, version 2 (binary): tells a server behind geckoproxy who its client is. Sent once, before the client's first byte,
// on every connection to the server; a connection that arrives from another node announces the same client there.
#pragma once

#include <string>

#include "base/address.hh"

namespace gecko::proxy {

// For a connection from `flow.peer` to `flow.local`; IPv4 pairs as TCP over IPv4, all others as TCP over IPv6.
std::string proxy_header(const Flow& flow);

}  // namespace gecko::proxy
