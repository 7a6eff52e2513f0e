#include "net/interface.hh"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <ctime>

#include "base/clock.hh"

namespace gecko::net {
namespace {

// The kernel answers within the call; this only keeps a broken one from hanging the daemon.
constexpr timeval kPatience{2, 0};
// Newer than Debian 12's if_link.h has them all (Linux 5.19 and 6.3).
constexpr uint16_t kGroMaxSize = 58, kGroIpv4MaxSize = 64;
// How long the route of a new address may take; it comes at once or within milliseconds.
constexpr auto kRoutePatience = std::chrono::seconds(1);
// Larger than any answer of the kernel (it fills at most 32 KiB per read).
constexpr size_t kAnswerBytes = 64 * 1024;

struct Attribute {
  uint16_t type = 0;
  const uint8_t* data = nullptr;
  size_t size = 0;

  uint32_t u32() const {
    uint32_t value = 0;
    if (size >= sizeof value) std::memcpy(&value, data, sizeof value);
    return value;
  }
};

// Attributes of a message behind its fixed part of `skip` bytes; stops at the first that does not fit.
template <class Visit>
void for_each_attribute(const std::vector<uint8_t>& message, size_t skip, Visit visit) {
  size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(skip);
  while (at + sizeof(rtattr) <= message.size()) {
    rtattr header{};
    std::memcpy(&header, message.data() + at, sizeof header);
    if (header.rta_len < sizeof header || header.rta_len > message.size() - at) return;
    visit(Attribute{static_cast<uint16_t>(header.rta_type & NLA_TYPE_MASK), message.data() + at + RTA_LENGTH(0), header.rta_len - RTA_LENGTH(0)});
    at += RTA_ALIGN(header.rta_len);
  }
}

template <class T>
T fixed_part(const std::vector<uint8_t>& message) {
  T value{};
  if (message.size() >= NLMSG_HDRLEN + sizeof value) std::memcpy(&value, message.data() + NLMSG_HDRLEN, sizeof value);
  return value;
}

uint8_t full_length(const Address& address) { return address.is_v4() ? 32 : 128; }

}  // namespace

struct Rtnetlink::Request {
  Request(uint16_t type, uint16_t flags) {
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    append(&header, sizeof header);
  }
  void append(const void* data, size_t size) {
    const auto* p = static_cast<const uint8_t*>(data);
    bytes.insert(bytes.end(), p, p + size);
    bytes.resize(NLMSG_ALIGN(bytes.size()));
  }
  void attribute(uint16_t type, const void* data, size_t size) {
    const rtattr header{static_cast<uint16_t>(RTA_LENGTH(size)), type};
    append(&header, sizeof header);
    append(data, size);
  }
  std::vector<uint8_t> bytes;
};

Result<Rtnetlink> Rtnetlink::open() {
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd) return os_error("open rtnetlink");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience) != 0)
    return os_error("open rtnetlink");
  return Rtnetlink(std::move(fd));
}

// Sends one request and reads up to its end: an acknowledgement, an error, or the end of a dump.
Status Rtnetlink::transact(Request& request, const std::string& doing, std::vector<std::vector<uint8_t>>* answers) {
  nlmsghdr header{};
  std::memcpy(&header, request.bytes.data(), sizeof header);
  header.nlmsg_len = static_cast<uint32_t>(request.bytes.size());
  header.nlmsg_seq = ++sequence_;
  std::memcpy(request.bytes.data(), &header, sizeof header);
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (sendto(socket_.get(), request.bytes.data(), request.bytes.size(), 0, reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel) < 0)
    return os_error(doing);
  std::vector<uint8_t> buffer(kAnswerBytes);
  for (;;) {
    sockaddr_nl from{};
    socklen_t from_size = sizeof from;
    const ssize_t got = recvfrom(socket_.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &from_size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return os_error(doing);
    if (from.nl_pid != 0) continue;  // not the kernel
    for (size_t at = 0; at + sizeof header <= static_cast<size_t>(got);) {
      std::memcpy(&header, buffer.data() + at, sizeof header);
      if (header.nlmsg_len < sizeof header || header.nlmsg_len > static_cast<size_t>(got) - at) return make_error(Errc::internal, doing + ": malformed answer");
      const size_t begin = at;
      at += NLMSG_ALIGN(header.nlmsg_len);
      if (header.nlmsg_seq != sequence_) continue;  // left over from an earlier request that timed out
      if (header.nlmsg_type == NLMSG_DONE) return {};
      if (header.nlmsg_type == NLMSG_ERROR) {
        nlmsgerr error{};
        if (header.nlmsg_len < NLMSG_LENGTH(sizeof error.error)) return make_error(Errc::internal, doing + ": malformed answer");
        std::memcpy(&error.error, buffer.data() + begin + NLMSG_HDRLEN, sizeof error.error);
        if (error.error == 0) return {};
        Error failed = os_error(doing, -error.error);
        if (error.error == -EPERM) failed.message += "; this needs CAP_NET_ADMIN";
        if (error.error == -EADDRNOTAVAIL) failed.code = Errc::not_found;
        return failed;
      }
      if (answers != nullptr)
        answers->emplace_back(buffer.begin() + static_cast<ptrdiff_t>(begin), buffer.begin() + static_cast<ptrdiff_t>(begin + header.nlmsg_len));
    }
  }
}

Result<std::vector<Interface>> Rtnetlink::interfaces() {
  Request request(RTM_GETLINK, NLM_F_DUMP);
  const ifinfomsg all{};
  request.append(&all, sizeof all);
  std::vector<std::vector<uint8_t>> answers;
  GECKO_CHECK(transact(request, "list network interfaces", &answers));
  std::vector<Interface> out;
  for (const auto& answer : answers) {
    const auto info = fixed_part<ifinfomsg>(answer);
    Interface one;
    one.index = info.ifi_index;
    one.up = (info.ifi_flags & IFF_UP) != 0;
    one.loopback = (info.ifi_flags & IFF_LOOPBACK) != 0;
    for_each_attribute(answer, sizeof info, [&](const Attribute& a) {
      if (a.type == IFLA_IFNAME && a.size > 0) one.name.assign(reinterpret_cast<const char*>(a.data), strnlen(reinterpret_cast<const char*>(a.data), a.size));
      else if (a.type == IFLA_MTU) one.mtu = a.u32();
      else if (a.type == kGroMaxSize || a.type == kGroIpv4MaxSize) one.gro_max = std::max(one.gro_max, a.u32());
      else if (a.type == IFLA_TXQLEN) one.queue_length = a.u32();
      else if (a.type == IFLA_ADDRESS && a.size == one.mac.size() && info.ifi_type == ARPHRD_ETHER) {
        one.ethernet = true;
        std::memcpy(one.mac.data(), a.data, a.size);
      }
    });
    out.push_back(std::move(one));
  }
  return out;
}

Result<Interface> Rtnetlink::by_name(const std::string& name) {
  GECKO_TRY(const auto all, interfaces());
  std::string names;
  for (const auto& one : all) {
    if (one.name == name) return one;
    names += (names.empty() ? "" : ", ") + one.name;
  }
  return make_error(Errc::not_found, "no interface is named '" + name + "'; there are: " + names);
}

Result<Interface> Rtnetlink::by_index(int index) {
  GECKO_TRY(const auto all, interfaces());
  for (const auto& one : all)
    if (one.index == index) return one;
  return make_error(Errc::not_found, "no interface has number " + std::to_string(index));
}

Result<std::vector<InterfaceAddress>> Rtnetlink::addresses() {
  Request request(RTM_GETADDR, NLM_F_DUMP);
  const ifaddrmsg all{};
  request.append(&all, sizeof all);
  std::vector<std::vector<uint8_t>> answers;
  GECKO_CHECK(transact(request, "list addresses", &answers));
  std::vector<InterfaceAddress> out;
  for (const auto& answer : answers) {
    const auto info = fixed_part<ifaddrmsg>(answer);
    InterfaceAddress one;
    one.index = static_cast<int>(info.ifa_index);
    one.prefix_length = info.ifa_prefixlen;
    uint32_t flags = info.ifa_flags;
    bool have = false, local = false;
    for_each_attribute(answer, sizeof info, [&](const Attribute& a) {
      if (a.type == IFA_FLAGS) flags = a.u32();
      // IFA_LOCAL is the own address; IFA_ADDRESS is the same, or the other end of a point-to-point link.
      if (a.type != IFA_LOCAL && (a.type != IFA_ADDRESS || local)) return;
      if (info.ifa_family == AF_INET6 && a.size == 16) {
        std::memcpy(one.address.bytes.data(), a.data, 16);
      } else if (info.ifa_family == AF_INET && a.size == 4) {
        uint32_t v4 = 0;
        std::memcpy(&v4, a.data, 4);
        one.address = Address::from_v4(ntohl(v4));
      } else {
        return;
      }
      have = true;
      local = a.type == IFA_LOCAL;
    });
    one.tentative = (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) != 0;
    if (have) out.push_back(one);
  }
  return out;
}

Result<Interface> Rtnetlink::holder(const Address& address) {
  GECKO_TRY(const auto all, addresses());
  for (const auto& one : all)
    if (one.address == address) return by_index(one.index);
  return make_error(Errc::not_found, "no interface of this machine has the address " + address.str());
}

Status Rtnetlink::change_address(uint16_t type, uint16_t flags, int index, const Address& address, uint8_t prefix_length, const std::string& doing) {
  Request request(type, static_cast<uint16_t>(NLM_F_ACK | flags));
  ifaddrmsg info{};
  info.ifa_family = static_cast<uint8_t>(address.family());
  info.ifa_prefixlen = prefix_length;
  info.ifa_flags = address.is_v4() ? 0 : IFA_F_NODAD;
  info.ifa_scope = RT_SCOPE_UNIVERSE;
  info.ifa_index = static_cast<uint32_t>(index);
  request.append(&info, sizeof info);
  const uint8_t* bytes = address.bytes.data() + (address.is_v4() ? 12 : 0);
  const size_t size = address.is_v4() ? 4 : 16;
  request.attribute(IFA_LOCAL, bytes, size);
  request.attribute(IFA_ADDRESS, bytes, size);
  // Deprecated from the start (RFC 6724, rule 3): it is served on, but no program of this node that did not ask for it connects *from* it.
  // Every node has this address, so such a connection's answers would end at whichever node is nearest.
  const ifa_cacheinfo life{0, UINT32_MAX, 0, 0};   // preferred: not at all; valid: for ever
  if (type == RTM_NEWADDR && !address.is_v4()) request.attribute(IFA_CACHEINFO, &life, sizeof life);
  return transact(request, doing, nullptr);
}

// Would a packet to this address be received here?
Result<bool> Rtnetlink::is_local(const Address& address) {
  Request request(RTM_GETROUTE, NLM_F_ACK);  // the acknowledgement ends the answer
  rtmsg route{};
  route.rtm_family = static_cast<uint8_t>(address.family());
  route.rtm_dst_len = full_length(address);
  request.append(&route, sizeof route);
  request.attribute(RTA_DST, address.bytes.data() + (address.is_v4() ? 12 : 0), address.is_v4() ? 4 : 16);
  std::vector<std::vector<uint8_t>> answers;
  const auto found = transact(request, "look up the route to " + address.str(), &answers);
  if (!found || answers.empty()) return false;  // no route at all is an error of the kernel's, and just a "no" here
  return fixed_part<rtmsg>(answers.front()).rtm_type == RTN_LOCAL;
}

Status Rtnetlink::add_address(int index, const Address& address) {
  const std::string doing = "add address " + address.str() + " to interface " + std::to_string(index);
  GECKO_CHECK(change_address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, address, full_length(address), doing));
  // IPv6: a work item of the kernel inserts the local route, "no duplicate address detection" or not. Seen: up to some milliseconds.
  for (const Time deadline = monotonic_now() + kRoutePatience; !is_local(address).value_or(false);) {
    if (monotonic_now() > deadline) {
      (void)remove_address(index, address).has_value();
      return make_error(Errc::timeout, doing + ": the kernel makes no route to it");
    }
    const timespec pause{0, 200'000};
    nanosleep(&pause, nullptr);
  }
  return {};
}

Status Rtnetlink::remove_address(int index, const Address& address) {
  const std::string doing = "remove address " + address.str() + " from interface " + std::to_string(index);
  GECKO_TRY(const auto all, addresses());
  for (const auto& one : all)
    if (one.index == index && one.address == address) return change_address(RTM_DELADDR, 0, index, address, one.prefix_length, doing);
  return make_error(Errc::not_found, doing + ": it is not there");
}

Status Rtnetlink::change_link(int index, const std::string& doing, unsigned flags, unsigned flag_mask, uint16_t attribute, uint32_t value) {
  Request request(RTM_NEWLINK, NLM_F_ACK);
  ifinfomsg info{};
  info.ifi_index = index;
  info.ifi_flags = flags;
  info.ifi_change = flag_mask;
  request.append(&info, sizeof info);
  if (attribute != IFLA_UNSPEC) request.attribute(attribute, &value, sizeof value);
  return transact(request, doing + " interface " + std::to_string(index), nullptr);
}

Status Rtnetlink::set_up(int index, bool up) { return change_link(index, up ? "set up" : "set down", up ? IFF_UP : 0, IFF_UP, IFLA_UNSPEC, 0); }
Status Rtnetlink::set_mtu(int index, uint32_t bytes) { return change_link(index, "set MTU " + std::to_string(bytes) + " of", 0, 0, IFLA_MTU, bytes); }
Status Rtnetlink::set_queue_length(int index, uint32_t packets) {
  return change_link(index, "set queue length " + std::to_string(packets) + " of", 0, 0, IFLA_TXQLEN, packets);
}

Status Rtnetlink::disable_autoconfiguration(const Interface& interface) {
  const std::string conf = "net/ipv6/conf/" + interface.name + "/";
  for (const auto& [key, value] : {std::pair("addr_gen_mode", "1"), std::pair("accept_ra", "0"), std::pair("router_solicitations", "0")})
    GECKO_CHECK(write_sysctl(conf + key, value));
  return {};
}

// --- sysctl --------------------------------------------------------------------------------------------------------------

namespace {

Result<std::string> sysctl_file(const std::string& path) {
  // Interface names come from files and operators: none may lead out of /proc/sys/net.
  if (!path.starts_with("net/") || path.find("..") != std::string::npos || path.find('\0') != std::string::npos)
    return make_error(Errc::invalid, "'" + path + "' is not a setting of the network (net/...)");
  return "/proc/sys/" + path;
}

}  // namespace

Status write_sysctl(const std::string& path, const std::string& value) {
  GECKO_TRY(const std::string file, sysctl_file(path));
  const Fd fd(open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return os_error("set " + file + " to " + value);
  if (write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) return os_error("set " + file + " to " + value);
  return {};
}

Result<std::string> read_sysctl(const std::string& path) {
  GECKO_TRY(const std::string file, sysctl_file(path));
  const Fd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return os_error("read " + file);
  char buffer[4096];
  const ssize_t got = read(fd.get(), buffer, sizeof buffer);
  if (got < 0) return os_error("read " + file);
  std::string value(buffer, static_cast<size_t>(got));
  while (!value.empty() && value.back() == '\n') value.pop_back();
  return value;
}

}  // namespace gecko::net
