#include "tcp/socket_names.hh"

#include "tcp/socket_option.hh"

namespace gecko::tcp {

Result<SocketNames> read_names(int fd) {
  sockaddr_storage local{}, peer{};
  socklen_t local_size = sizeof local, peer_size = sizeof peer;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &local_size) != 0 ||
      ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_size) != 0)
    return socket_error(fd, "reading its addresses");
  for (const auto* address : {&local, &peer})
    if (address->ss_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr))
      return make_error(Errc::unsupported, describe(fd) + " uses a link-local address, which means nothing on another machine; "
                                                          "let the client use a global one");
  SocketNames names;
  GECKO_TRY(names.flow.local, Endpoint::from_sockaddr(local));
  GECKO_TRY(names.flow.peer, Endpoint::from_sockaddr(peer));
  names.v4_mapped = local.ss_family == AF_INET6 && names.flow.local.address.is_v4();
  return names;
}

}  // namespace gecko::tcp
