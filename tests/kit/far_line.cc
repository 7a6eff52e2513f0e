#include "kit/far_line.hh"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <vector>

namespace gecko::kit {
namespace {

constexpr size_t kNetworkBytes = 6;          // a /48
constexpr size_t kDestinationAt = 24;        // in an IPv6 header
constexpr size_t kLargestPacket = 2048;      // the device has an MTU of 1500 and no offloads

// The router's address on the nodes' segment.
Result<std::array<uint8_t, 6>> router_mac(const lab::Lab& lab) {
  std::array<uint8_t, 6> mac{};
  GECKO_CHECK(lab.inside("router", [&]() -> Status {
    const Fd any(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strcpy(request.ifr_name, "br0");
    if (!any || ::ioctl(any.get(), SIOCGIFHWADDR, &request) != 0) return os_error("read the router's hardware address");
    std::memcpy(mac.data(), request.ifr_hwaddr.sa_data, mac.size());
    return {};
  }));
  return mac;
}

}  // namespace

Result<std::unique_ptr<FarLine>> FarLine::lay(const lab::Lab& lab, const std::string& node, const Address& network, Duration delay) {
  std::unique_ptr<FarLine> line(new FarLine());
  line->network_ = network;
  line->delay_ = delay;
  GECKO_TRY(line->router_, router_mac(lab));
  static std::atomic<int> number = 0;
  const std::string device = "far" + std::to_string(number++);
  GECKO_CHECK(lab.inside(node, [&] { return line->open(device); }));
  for (const auto& words : {std::vector<std::string>{"ip", "link", "set", device, "mtu", "1500", "up"},
                            std::vector<std::string>{"ip", "-6", "route", "add", network.str() + "/48", "dev", device}}) {
    GECKO_TRY(const auto out, lab.output(node, words));
    if (out.code != 0) return make_error(Errc::internal, "lay a far line at " + node + ": " + out.err);
  }
  line->thread_ = std::thread([raw = line.get()] { raw->carry(); });
  return line;
}

FarLine::~FarLine() {
  if (!thread_.joinable()) return;
  (void)::eventfd_write(stop_.get(), 1);
  thread_.join();
}

Status FarLine::open(const std::string& device) {
  tun_ = Fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  ifreq request{};
  device.copy(request.ifr_name, sizeof request.ifr_name - 1);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (!tun_ || ::ioctl(tun_.get(), TUNSETIFF, &request) != 0) return os_error("make the device of a far line");
  cable_ = Fd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0));   // receives nothing: no protocol
  cable_index_ = static_cast<int>(::if_nametoindex("eth0"));
  stop_ = Fd(::eventfd(0, EFD_CLOEXEC));
  if (!cable_ || !stop_ || cable_index_ == 0) return os_error("open the cable of a far line");
  return {};
}

void FarLine::carry() {
  struct OnItsWay {
    Time due;
    std::vector<uint8_t> packet;
  };
  std::deque<OnItsWay> line;
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_protocol = htons(ETH_P_IPV6);
  to.sll_ifindex = cable_index_;
  to.sll_halen = ETH_ALEN;
  std::copy(router_.begin(), router_.end(), to.sll_addr);
  std::array<uint8_t, kLargestPacket> buffer{};
  for (;;) {
    Time now = monotonic_now();
    for (; !line.empty() && line.front().due <= now; line.pop_front()) {
      const auto& packet = line.front().packet;
      (void)::sendto(cable_.get(), packet.data(), packet.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
    }
    pollfd fds[] = {{tun_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    const auto wait = line.empty() ? -1 : static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(line.front().due - now).count());
    (void)::poll(fds, 2, wait);
    if (fds[1].revents != 0 || (fds[0].revents & (POLLERR | POLLNVAL)) != 0) return;
    now = monotonic_now();
    for (;;) {
      const ssize_t n = ::read(tun_.get(), buffer.data(), buffer.size());
      if (n <= 0) break;
      const auto size = static_cast<size_t>(n);
      // The device's own chatter (router solicitations, multicast reports) is not for the network.
      if (size < 40 || !std::equal(buffer.begin() + kDestinationAt, buffer.begin() + kDestinationAt + kNetworkBytes, network_.bytes.begin())) continue;
      line.push_back({now + delay_, {buffer.begin(), buffer.begin() + n}});
      ++packets_;
    }
  }
}

}  // namespace gecko::kit
