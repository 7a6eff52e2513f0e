// Finds connections whose segments are signed (TCP MD5, RFC 2385; TCP-AO, RFC 5925). Their keys are secrets of the
// operator that a connection's state must not carry between machines, so such a connection cannot move.
#pragma once

#include <linux/tcp.h>

#include "base/result.hh"

namespace gecko::tcp {

// Errors: unsupported. Free for a connection that has both timestamps and SACK: Linux never negotiates both beside a
// signature, the options would not fit (tcp_synack_options). The others are looked up through sock_diag in the caller's network namespace, about 20 us.
Status refuse_signed(int fd, const tcp_info& info);

}  // namespace gecko::tcp
