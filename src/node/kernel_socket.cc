#include "node/kernel_socket.hh"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/fd.hh"

namespace gecko::node {

Result<bool> kernel_has_socket(const Flow& flow) {
  Fd fd(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd) return os_error("open a socket diagnosis channel");
  struct {
    nlmsghdr header{};
    inet_diag_req_v2 request{};
  } ask;
  ask.header.nlmsg_len = sizeof ask;
  ask.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  ask.header.nlmsg_flags = NLM_F_REQUEST;
  const bool v4 = flow.local.address.is_v4();
  const size_t skip = v4 ? 12 : 0, size = v4 ? 4 : 16;
  ask.request.sdiag_family = static_cast<uint8_t>(flow.local.address.family());
  ask.request.sdiag_protocol = IPPROTO_TCP;
  ask.request.idiag_states = ~0u;
  ask.request.id.idiag_sport = htons(flow.local.port);
  ask.request.id.idiag_dport = htons(flow.peer.port);
  std::memcpy(ask.request.id.idiag_src, flow.local.address.bytes.data() + skip, size);
  std::memcpy(ask.request.id.idiag_dst, flow.peer.address.bytes.data() + skip, size);
  ask.request.id.idiag_cookie[0] = ask.request.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  if (::send(fd.get(), &ask, sizeof ask, 0) < 0) return os_error("ask for a socket");
  alignas(nlmsghdr) char buffer[4096];
  const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
  if (n < static_cast<ssize_t>(sizeof(nlmsghdr))) return os_error("read a socket's description");
  const auto* header = reinterpret_cast<const nlmsghdr*>(buffer);
  if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || n < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(inet_diag_msg)))) return false;
  const auto* found = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
  return found->idiag_state != TCP_LISTEN && found->idiag_state != TCP_CLOSE;
}

}  // namespace gecko::node
