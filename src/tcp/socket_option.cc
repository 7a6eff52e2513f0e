#include "tcp/socket_option.hh"

namespace gecko::tcp {

const char* to_string(KernelState state) {
  switch (state) {
    case kEstablished: return "ESTABLISHED";
    case kSynSent: return "SYN_SENT";
    case kSynRecv: return "SYN_RECV";
    case kFinWait1: return "FIN_WAIT1";
    case kFinWait2: return "FIN_WAIT2";
    case kTimeWait: return "TIME_WAIT";
    case kClose: return "CLOSE";
    case kCloseWait: return "CLOSE_WAIT";
    case kLastAck: return "LAST_ACK";
    case kListen: return "LISTEN";
    case kClosing: return "CLOSING";
  }
  return "an unknown state";
}

std::string describe(int fd) {
  const auto name = [fd](auto get) -> std::string {
    sockaddr_storage at{};
    socklen_t size = sizeof at;
    if (get(fd, reinterpret_cast<sockaddr*>(&at), &size) != 0) return "?";
    const auto endpoint = Endpoint::from_sockaddr(at);
    return endpoint ? endpoint->str() : "?";
  };
  return "TCP connection " + name(::getpeername) + " -> " + name(::getsockname) + " (descriptor " + std::to_string(fd) + ")";
}

Error socket_error(int fd, const char* doing, int err) { return os_error(describe(fd) + ": " + doing, err); }

void name_capability(Error& error, int err) {
  if (err == EPERM) error.message += "; this needs CAP_NET_ADMIN in the user namespace that owns the network namespace";
}

Error privileged_error(int fd, const char* doing, int err) {
  Error error = socket_error(fd, doing, err);
  name_capability(error, err);
  return error;
}

}  // namespace gecko::tcp
