// The injector without geckod: raw sockets, one per family and direction-agnostic. A packet to a local address goes
// through the loopback device and comes back in as received.
#include "base/fd.hh"
#include "tcp/connection.hh"
#include "tcp/socket_option.hh"

namespace gecko::tcp {
namespace {

class RawInjector final : public Injector {
 public:
  RawInjector(Fd v4, Fd v6) : v4_(std::move(v4)), v6_(std::move(v6)) {}
  Status to_local(wire::ByteView packet) override { return send(packet, "to this machine"); }
  Status to_peer(wire::ByteView packet) override { return send(packet, "to the peer"); }

 private:
  Status send(wire::ByteView packet, const char* where) {
    sockaddr_storage to{};
    socklen_t size = 0;
    const bool v4 = !packet.empty() && packet[0] >> 4 == 4;
    if (packet.size() < (v4 ? 20u : 40u)) return make_error(Errc::invalid, "a packet to inject is shorter than its IP header");
    if (v4) {
      auto& in = reinterpret_cast<sockaddr_in&>(to);
      in.sin_family = AF_INET;
      std::memcpy(&in.sin_addr, packet.data() + 16, 4);
      size = sizeof in;
    } else {
      auto& in6 = reinterpret_cast<sockaddr_in6&>(to);
      in6.sin6_family = AF_INET6;
      std::memcpy(&in6.sin6_addr, packet.data() + 24, 16);
      size = sizeof in6;
    }
    const ssize_t sent = ::sendto(v4 ? v4_.get() : v6_.get(), packet.data(), packet.size(), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&to), size);
    if (sent != static_cast<ssize_t>(packet.size())) return os_error(std::string("injecting a raw packet ") + where);
    return {};
  }

  Fd v4_, v6_;
};

}  // namespace

Result<std::unique_ptr<Injector>> make_raw_injector() {
  // IPPROTO_RAW sockets take whole packets and never receive any.
  Fd v4(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!v4) return os_error("opening a raw IPv4 socket (needs CAP_NET_RAW)");
  Fd v6(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!v6) return os_error("opening a raw IPv6 socket (needs CAP_NET_RAW)");
  return std::unique_ptr<Injector>(std::make_unique<RawInjector>(std::move(v4), std::move(v6)));
}

}  // namespace gecko::tcp
