#include "tcp/signed_check.hh"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include "base/fd.hh"
#include "tcp/socket_option.hh"

#ifndef TCP_AO_INFO
#define TCP_AO_INFO 40
#endif

namespace gecko::tcp {
namespace {

bool has_authentication_option(int fd) {
  // struct tcp_ao_info_opt; only whether the call knows of keys matters. Kernels before 6.7 say ENOPROTOOPT.
  alignas(8) char info[128] = {};
  socklen_t size = sizeof info;
  return ::getsockopt(fd, kSolTcp, TCP_AO_INFO, info, &size) == 0;
}

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

bool fill(int fd, Request& request) {
  sockaddr_storage local{}, peer{};
  socklen_t local_size = sizeof local, peer_size = sizeof peer;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &local_size) != 0) return false;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_size) != 0) return false;
  request = {};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.body.sdiag_family = static_cast<uint8_t>(local.ss_family);
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_ext = 1u << (INET_DIAG_INFO - 1);  // the keys come only together with this
  request.body.idiag_states = ~0u;
  auto& id = request.body.id;
  id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  if (local.ss_family == AF_INET) {
    const auto &l = reinterpret_cast<sockaddr_in&>(local), &p = reinterpret_cast<sockaddr_in&>(peer);
    id.idiag_sport = l.sin_port;
    id.idiag_dport = p.sin_port;
    std::memcpy(id.idiag_src, &l.sin_addr, 4);
    std::memcpy(id.idiag_dst, &p.sin_addr, 4);
  } else {
    const auto &l = reinterpret_cast<sockaddr_in6&>(local), &p = reinterpret_cast<sockaddr_in6&>(peer);
    id.idiag_sport = l.sin6_port;
    id.idiag_dport = p.sin6_port;
    std::memcpy(id.idiag_src, &l.sin6_addr, 16);
    std::memcpy(id.idiag_dst, &p.sin6_addr, 16);
  }
  return true;
}

bool names_md5_key(const char* reply, size_t size) {
  if (size < sizeof(nlmsghdr)) return false;
  const auto* header = reinterpret_cast<const nlmsghdr*>(reply);
  const size_t left = std::min(size, static_cast<size_t>(header->nlmsg_len));
  const size_t fixed = NLMSG_LENGTH(sizeof(inet_diag_msg));
  if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || left < fixed) return false;  // not found here: another namespace
  for (const char *at = reply + NLMSG_ALIGN(fixed), *end = reply + left; static_cast<size_t>(end - at) >= sizeof(nlattr);) {
    const auto* attribute = reinterpret_cast<const nlattr*>(at);
    if (attribute->nla_len < sizeof(nlattr) || attribute->nla_len > end - at) break;
    if (attribute->nla_type == INET_DIAG_MD5SIG && attribute->nla_len > sizeof(nlattr)) return true;
    if (NLA_ALIGN(attribute->nla_len) > end - at) break;
    at += NLA_ALIGN(attribute->nla_len);
  }
  return false;
}

bool has_md5_key(int fd) {
  Request request;
  if (!fill(fd, request)) return false;
  const Fd netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink || ::send(netlink.get(), &request, sizeof request, 0) < 0) return false;
  alignas(nlmsghdr) char reply[8192];
  const ssize_t got = ::recv(netlink.get(), reply, sizeof reply, MSG_DONTWAIT);  // netlink answers within the send call
  const bool result = got > 0 && names_md5_key(reply, static_cast<size_t>(got));
  ::explicit_bzero(reply, sizeof reply);  // it holds the key itself
  return result;
}

}  // namespace

Status refuse_signed(int fd, const tcp_info& info) {
  constexpr uint8_t both = TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK;
  if ((info.tcpi_options & both) == both) return {};
  const bool ao = has_authentication_option(fd);
  if (!ao && !has_md5_key(fd)) return {};
  return make_error(Errc::unsupported, describe(fd) + " is signed with " + (ao ? "TCP-AO" : "TCP MD5") +
                                           " keys, and keys do not travel between machines; it cannot move");
}

}  // namespace gecko::tcp
