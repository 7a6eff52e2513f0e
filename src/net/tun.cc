#include "net/tun.hh"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "net/interface.hh"

// Linux 6.2; missing in Debian 12's headers.
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

namespace gecko::net {

Result<Tun> Tun::create(const TunOptions& options) {
  const std::string doing = "create TUN device '" + options.name + "'";
  if (options.name.empty() || options.name.size() >= IFNAMSIZ) return make_error(Errc::invalid, doing + ": a name has 1 to 15 characters");
  Tun tun;
  tun.fd_ = Fd(open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!tun.fd_) {
    Error error = os_error(doing + ": open /dev/net/tun");
    if (error.code == Errc::not_found) error.message += "; load the module: modprobe tun";
    return error;
  }
  ifreq request{};
  std::memcpy(request.ifr_name, options.name.data(), options.name.size());
  // EXCL: never attach to somebody's device of the same name.
  request.ifr_flags = static_cast<short>(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL);
  if (ioctl(tun.fd_.get(), TUNSETIFF, &request) != 0) {
    if (errno == EBUSY) return make_error(Errc::exists, doing + ": an interface of that name exists");
    Error error = os_error(doing);
    if (error.code == Errc::permission) error.message += "; this needs CAP_NET_ADMIN";
    return error;
  }
  tun.name_.assign(request.ifr_name, strnlen(request.ifr_name, IFNAMSIZ));
  const unsigned tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
  tun.udp_offload_ = ioctl(tun.fd_.get(), TUNSETOFFLOAD, static_cast<unsigned long>(tcp | TUN_F_USO4 | TUN_F_USO6)) == 0;
  if (!tun.udp_offload_ && ioctl(tun.fd_.get(), TUNSETOFFLOAD, static_cast<unsigned long>(tcp)) != 0)
    return os_error(doing + ": switch on segmentation offload");

  GECKO_TRY(Rtnetlink links, Rtnetlink::open());
  GECKO_TRY(const Interface interface, links.by_name(tun.name_));
  tun.index_ = interface.index;
  // Before it is up: a device that comes up gives itself a link-local address and asks for routers.
  if (auto quiet = links.disable_autoconfiguration(interface); !quiet && quiet.error().code != Errc::not_found)
    return quiet.error();  // not_found: no IPv6 here
  // Packets come back in here from the clients' addresses, which are routed elsewhere: loose (2), since the stricter of this and "all" counts.
  GECKO_CHECK(write_sysctl("net/ipv4/conf/" + tun.name_ + "/rp_filter", "2"));
  GECKO_CHECK(links.set_mtu(tun.index_, options.mtu));
  GECKO_CHECK(links.set_queue_length(tun.index_, options.queue_length));
  GECKO_CHECK(links.set_up(tun.index_, true));
  return tun;
}

Tun Tun::adopt(Fd fd, std::string name, int index) {
  Tun tun;
  tun.fd_ = std::move(fd);
  tun.name_ = std::move(name);
  tun.index_ = index;
  return tun;
}

Result<std::optional<TunPacket>> Tun::read_packet(std::span<uint8_t> buffer) {
  TunPacket packet;
  iovec iov[2] = {{&packet.offload, sizeof packet.offload}, {buffer.data(), buffer.size()}};
  ssize_t got = 0;
  do got = readv(fd_.get(), iov, 2);
  while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return std::optional<TunPacket>();
  if (got < 0) return os_error("read from " + name_);
  const size_t size = static_cast<size_t>(got);
  if (size < sizeof packet.offload) return make_error(Errc::internal, "read from " + name_ + ": no offload header");
  // The kernel cuts silently; a full buffer is the only sign.
  if (size - sizeof packet.offload >= buffer.size())
    return make_error(Errc::limit, "read from " + name_ + ": a packet is larger than the buffer of " + std::to_string(buffer.size()) + " bytes");
  packet.data = buffer.first(size - sizeof packet.offload);
  return std::optional(packet);
}

Status Tun::write_packet(const OffloadHeader& offload, std::span<const uint8_t> data) {
  iovec iov[2] = {{const_cast<OffloadHeader*>(&offload), sizeof offload}, {const_cast<uint8_t*>(data.data()), data.size()}};
  ssize_t sent = 0;
  do sent = writev(fd_.get(), iov, 2);
  while (sent < 0 && errno == EINTR);
  if (sent == static_cast<ssize_t>(sizeof offload + data.size())) return {};
  if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)) return make_error(Errc::busy, "write to " + name_ + ": no room now");
  if (sent < 0) return os_error("write to " + name_);
  return make_error(Errc::invalid, "write to " + name_ + ": the kernel took only a part of the packet");
}

}  // namespace gecko::net
