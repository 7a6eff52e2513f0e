// Socket options as one-liners whose errors name the option. For the files of this folder only. All calls preserve
// nothing and allocate only when they fail.
#pragma once

#include <linux/tcp.h>  // the kernel's own header: glibc's netinet/tcp.h has an old tcp_info and clashes with it
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "base/address.hh"
#include "base/result.hh"

// Newer than the headers of the oldest supported build system, or in a header that clashes.
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

namespace gecko::tcp {

inline constexpr int kSolTcp = IPPROTO_TCP;

// struct tcp_info's tcpi_state (include/net/tcp_states.h in the kernel; the header that exports it clashes with linux/tcp.h).
enum KernelState : uint8_t {
  kEstablished = 1, kSynSent = 2, kSynRecv = 3, kFinWait1 = 4, kFinWait2 = 5, kTimeWait = 6, kClose = 7, kCloseWait = 8,
  kLastAck = 9, kListen = 10, kClosing = 11,
};
const char* to_string(KernelState state);

// Which sockets these are, for messages: "TCP connection CLIENT -> SERVER (descriptor 7)".
std::string describe(int fd);
// An error from errno that says what was tried on which connection.
Error socket_error(int fd, const char* doing, int err = errno);

// The same for the calls that need the capability: an EPERM says which.
Error privileged_error(int fd, const char* doing, int err = errno);
void name_capability(Error& error, int err);

inline bool set_raw(int fd, int level, int name, const void* value, socklen_t size) { return ::setsockopt(fd, level, name, value, size) == 0; }
inline bool set_int(int fd, int level, int name, int value) { return set_raw(fd, level, name, &value, sizeof value); }
template <class T>
bool get_raw(int fd, int level, int name, T& value) {
  socklen_t size = sizeof value;
  return ::getsockopt(fd, level, name, &value, &size) == 0;
}

}  // namespace gecko::tcp
