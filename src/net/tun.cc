#include "net/tun.hh"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "net/interface.hh"

namespace gecko::net {

Result<Fd> create_tun(const std::string& name) {
  Fd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!tun) {
    Error error = os_error("open /dev/net/tun");
    if (errno == ENOENT || errno == ENODEV) error.message += "; load it with 'modprobe tun', or use a kernel with CONFIG_TUN";
    return error;
  }
  ifreq request{};
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  if (::ioctl(tun.get(), TUNSETIFF, &request) != 0) {
    Error error = os_error("create the device " + name);
    if (errno == EBUSY) error = make_error(Errc::exists, "the device " + name + " is in use by another process: a geckod runs in this network namespace already");
    return error;
  }
  // Accept checksummed-later and segmented-later packets from the kernel: what was one packet for the NIC stays one here.
  if (::ioctl(tun.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) != 0) return os_error("enable offloads on " + name);
  Fd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  request.ifr_qlen = kTunQueue;
  if (!control || ::ioctl(control.get(), SIOCSIFTXQLEN, &request) != 0) return os_error("set the queue length of " + name);
  (void)write_sysctl("net/ipv6/conf/" + name + "/addr_gen_mode", "1");   // no link-local address, no router solicitations
  GECKO_CHECK(set_up(name));
  return tun;
}

Status write_tun_packet(int tun, wire::ByteView packet) {
  uint8_t header[10] = {};
  iovec parts[] = {{header, sizeof header}, {const_cast<uint8_t*>(packet.data()), packet.size()}};
  if (::writev(tun, parts, 2) < 0) return os_error("write a packet to the hold device");
  return {};
}

}  // namespace gecko::net
