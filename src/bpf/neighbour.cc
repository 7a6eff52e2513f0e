#include "bpf/neighbour.hh"

#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>

#include "base/fd.hh"

namespace gecko::bpf {

Result<bool> is_neighbour(const Address& address, int ifindex) {
  const std::string doing = "look up the route to node " + address.str();
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd) return os_error(doing);
  struct {
    nlmsghdr header;
    rtmsg route;
    rtattr to_header;
    std::array<uint8_t, 16> to;
    rtattr out_header;
    int out;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_GETROUTE;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.route.rtm_family = AF_INET6;
  request.route.rtm_dst_len = 128;
  request.to_header = {RTA_LENGTH(sizeof request.to), RTA_DST};
  request.to = address.bytes;
  request.out_header = {RTA_LENGTH(sizeof request.out), RTA_OIF};
  request.out = ifindex;
  if (send(fd.get(), &request, sizeof request, 0) < 0) return os_error(doing);
  alignas(nlmsghdr) std::array<char, 8192> buffer;
  const ssize_t got = recv(fd.get(), buffer.data(), buffer.size(), 0);
  if (got < 0) return os_error(doing);
  const auto* answer = reinterpret_cast<const nlmsghdr*>(buffer.data());
  if (!NLMSG_OK(answer, static_cast<unsigned>(got)) || answer->nlmsg_type != RTM_NEWROUTE) return false;  // unreachable: an nlmsgerr
  const auto* route = static_cast<const rtmsg*>(NLMSG_DATA(answer));
  if (route->rtm_type != RTN_UNICAST) return false;
  bool out_there = false;
  int left = static_cast<int>(RTM_PAYLOAD(answer));
  for (const rtattr* a = RTM_RTA(route); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
    if (a->rta_type == RTA_GATEWAY || a->rta_type == RTA_VIA || a->rta_type == RTA_MULTIPATH || a->rta_type == RTA_ENCAP) return false;
    if (a->rta_type == RTA_OIF) out_there = *static_cast<const int*>(RTA_DATA(a)) == ifindex;
  }
  return out_there;
}

}  // namespace gecko::bpf
