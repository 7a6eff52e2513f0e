#include "net/interface.hh"

#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.hh"

namespace gecko::net {
namespace {

struct AddressRequest {
  nlmsghdr header{};
  ifaddrmsg address{};
  char attributes[128]{};

  void attribute(uint16_t type, const void* data, size_t size) {
    auto* attr = reinterpret_cast<rtattr*>(reinterpret_cast<char*>(this) + NLMSG_ALIGN(header.nlmsg_len));
    attr->rta_type = type;
    attr->rta_len = static_cast<uint16_t>(RTA_LENGTH(size));
    std::memcpy(RTA_DATA(attr), data, size);
    header.nlmsg_len = static_cast<uint32_t>(NLMSG_ALIGN(header.nlmsg_len) + RTA_LENGTH(size));
  }
};

// 0 or a negative errno, as the kernel acknowledges.
int ask_kernel(const AddressRequest& request) {
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd || ::send(fd.get(), &request, request.header.nlmsg_len, 0) < 0) return -errno;
  alignas(nlmsghdr) char answer[1024];
  const ssize_t n = ::recv(fd.get(), answer, sizeof answer, 0);
  if (n < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(nlmsgerr)))) return n < 0 ? -errno : -EPROTO;
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer);
  if (header->nlmsg_type != NLMSG_ERROR) return -EPROTO;
  return static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
}

Status change_address(const std::string& name, const Address& address, uint16_t type, uint16_t flags, int harmless) {
  GECKO_TRY(const auto interface, interface_by_name(name));
  AddressRequest request;
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof(ifaddrmsg));
  request.header.nlmsg_type = type;
  request.header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
  const bool v4 = address.is_v4();
  request.address.ifa_family = static_cast<uint8_t>(address.family());
  request.address.ifa_prefixlen = v4 ? 32 : 128;
  request.address.ifa_flags = v4 ? 0 : IFA_F_NODAD;
  request.address.ifa_index = static_cast<uint32_t>(interface.index);
  const void* bytes = address.bytes.data() + (v4 ? 12 : 0);
  request.attribute(IFA_LOCAL, bytes, v4 ? 4 : 16);
  request.attribute(IFA_ADDRESS, bytes, v4 ? 4 : 16);
  const int error = ask_kernel(request);
  if (error != 0 && error != harmless)
    return os_error((type == RTM_NEWADDR ? "add address " : "remove address ") + address.str() + (type == RTM_NEWADDR ? " to " : " from ") + name, -error);
  return {};
}

}  // namespace

Result<Interface> interface_by_name(const std::string& name) {
  Interface result;
  result.name = name;
  ifreq request{};
  if (name.empty() || name.size() >= IFNAMSIZ) return make_error(Errc::invalid, "'" + name + "' is not an interface name");
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return os_error("open a control socket");
  if (::ioctl(fd.get(), SIOCGIFINDEX, &request) != 0)
    return make_error(Errc::not_found, "there is no interface '" + name + "' here; 'ip link' lists them");
  result.index = request.ifr_ifindex;
  if (::ioctl(fd.get(), SIOCGIFMTU, &request) != 0) return os_error("read the MTU of " + name);
  result.mtu = static_cast<uint32_t>(request.ifr_mtu);
  if (::ioctl(fd.get(), SIOCGIFHWADDR, &request) == 0) std::memcpy(result.mac.data(), request.ifr_hwaddr.sa_data, 6);
  return result;
}

Result<Interface> interface_with(const Address& address) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return os_error("list the addresses of this machine");
  std::string name;
  for (const ifaddrs* it = list; it != nullptr && name.empty(); it = it->ifa_next) {
    if (it->ifa_addr == nullptr || (it->ifa_addr->sa_family != AF_INET && it->ifa_addr->sa_family != AF_INET6)) continue;
    sockaddr_storage sa{};
    std::memcpy(&sa, it->ifa_addr, it->ifa_addr->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    const auto endpoint = Endpoint::from_sockaddr(sa);
    if (endpoint && endpoint->address == address) name = it->ifa_name;
  }
  ::freeifaddrs(list);
  if (name.empty()) return make_error(Errc::not_found, "no interface of this machine has address " + address.str());
  return interface_by_name(name);
}

Status add_address(const std::string& interface, const Address& address) {
  return change_address(interface, address, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, -EEXIST);
}

Status remove_address(const std::string& interface, const Address& address) {
  return change_address(interface, address, RTM_DELADDR, 0, -EADDRNOTAVAIL);
}

Status set_up(const std::string& interface) {
  ifreq request{};
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd || ::ioctl(fd.get(), SIOCGIFFLAGS, &request) != 0) return os_error("read the flags of " + interface);
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (::ioctl(fd.get(), SIOCSIFFLAGS, &request) != 0) return os_error("set " + interface + " up");
  return {};
}

Status write_sysctl(const std::string& path, const std::string& value) {
  Fd fd(::open(("/proc/sys/" + path).c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd || ::write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) return os_error("write " + value + " to /proc/sys/" + path);
  return {};
}

Result<std::string> read_sysctl(const std::string& path) {
  Fd fd(::open(("/proc/sys/" + path).c_str(), O_RDONLY | O_CLOEXEC));
  char text[256];
  const ssize_t n = fd ? ::read(fd.get(), text, sizeof text) : -1;
  if (n < 0) return os_error("read /proc/sys/" + path);
  std::string value(text, static_cast<size_t>(n));
  while (!value.empty() && (value.back() == '\n' || value.back() == ' ')) value.pop_back();
  return value;
}

}  // namespace gecko::net
