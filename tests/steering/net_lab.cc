#include "net_lab.hh"

#include <dirent.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cstdio>
#include <memory>

namespace gecko::lab_test {
namespace {

Status shell(const std::string& command) {
  FILE* pipe = popen(("exec 2>&1; " + command).c_str(), "re");
  if (pipe == nullptr) return os_error("run " + command);
  std::string said;
  std::array<char, 512> buffer;
  while (const size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) said.append(buffer.data(), n);
  if (pclose(pipe) != 0) return make_error(Errc::internal, command + ": " + said);
  return {};
}

}  // namespace

void remove_stale(const std::string& family) {
  DIR* dir = opendir("/run/netns");
  if (dir == nullptr) return;
  std::vector<std::string> stale;
  while (const dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    if (!name.starts_with(family)) continue;
    const pid_t pid = std::atoi(name.c_str() + family.size());
    if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH) stale.push_back(name);
  }
  closedir(dir);
  for (const std::string& name : stale) (void)shell("ip netns del " + name);
}

Address NetLab::group(bool v4) { return *Address::parse(v4 ? "192.0.2.80" : "2001:db8:f::80"); }
Address NetLab::client_address(bool v4) { return *Address::parse(v4 ? "198.51.100.2" : "2001:db8:c::2"); }
Address NetLab::underlay(int node) { return *Address::parse("2001:db8:a::" + std::to_string(node + 1)); }

Result<std::unique_ptr<NetLab>> NetLab::build(const std::string& family) {
  remove_stale(family);
  std::unique_ptr<NetLab> lab(new NetLab(family + std::to_string(getpid()) + "-"));
  GECKO_CHECK(lab->setup());
  return lab;
}

NetLab::~NetLab() {
  for (const char* role : {"client", "router", "switch", "n0", "n1", "n2"}) (void)shell("ip netns del " + prefix_ + role);
}

Status NetLab::setup() {
  const std::string all[] = {client(), router(), prefix_ + "switch", node(0), node(1), node(2)};
  for (const std::string& ns : all) {
    GECKO_CHECK(shell("ip netns add " + ns));
    GECKO_CHECK(run(ns, "ip link set lo up; sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 "
                        "net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0"));
  }
  const std::string sw = prefix_ + "switch";
  // A plain switch: without bridge netfilter, which checks IP headers of frames that are none of its business.
  GECKO_CHECK(run(sw, "ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up && "
                      "sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 net.bridge.bridge-nf-call-arptables=0"));
  const auto plug = [&](const std::string& ns, const std::string& nic, const std::string& port) -> Status {
    GECKO_CHECK(run(ns, "ip link add " + nic + " type veth peer name " + port + " netns " + sw + " && ip link set " + nic + " up"));
    return run(sw, "ip link set " + port + " master br0 up");
  };
  GECKO_CHECK(plug(router(), "eth1", "router"));
  GECKO_CHECK(run(router(), "ip addr add 2001:db8:a::ff/64 dev eth1 nodad && ip addr add 203.0.113.254/24 dev eth1"));
  GECKO_CHECK(run(client(), "ip link add eth0 type veth peer name eth0 netns " + router() + " && ip link set eth0 up && "
                            "ip addr add 2001:db8:c::2/64 dev eth0 nodad && ip addr add 198.51.100.2/24 dev eth0"));
  GECKO_CHECK(
      run(router(),
          "ip link set eth0 up && ip addr add 2001:db8:c::1/64 dev eth0 nodad && ip addr add 198.51.100.1/24 dev eth0 && "
          "sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth1.send_redirects=0"));
  GECKO_CHECK(run(client(), "ip route add default via 2001:db8:c::1 && ip route add default via 198.51.100.1"));
  for (int i = 0; i < kNodes; ++i) {
    const std::string n = std::to_string(i + 1);
    GECKO_CHECK(plug(node(i), kNic, "n" + std::to_string(i)));
    GECKO_CHECK(run(node(i), "ip addr add 2001:db8:a::" + n + "/64 dev eth0 nodad && ip addr add 203.0.113." + n + "/24 dev eth0 && "
                             "ip route add default via 2001:db8:a::ff && ip route add default via 203.0.113.254 && "
                             "ip addr add 2001:db8:f::80/128 dev lo nodad && ip addr add 192.0.2.80/32 dev lo && "
                             "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"));
  }
  return run(router(), "ip route add 2001:db8:f::80/128 via 2001:db8:a::1 && ip route add 192.0.2.80/32 via 203.0.113.1");
}

void NetLab::in(const std::string& ns, const std::function<void()>& work) {
  std::thread([&] {
    const Fd fd(open(("/run/netns/" + ns).c_str(), O_RDONLY | O_CLOEXEC));
    GECKO_ASSERT(fd && setns(fd.get(), CLONE_NEWNET) == 0);
    work();
  }).join();
}

Status NetLab::run(const std::string& ns, const std::string& command) {
  Status status;
  in(ns, [&] { status = shell(command); });
  return status;
}

Fd NetLab::socket_in(const std::string& ns, int family, int type, int protocol) {
  Fd fd;
  in(ns, [&] { fd.reset(socket(family, type | SOCK_CLOEXEC, protocol)); });
  return fd;
}

int NetLab::ifindex(const std::string& ns, const char* name) {
  int index = 0;
  in(ns, [&] { index = static_cast<int>(if_nametoindex(name)); });
  return index;
}

Result<Fd> NetLab::open_hold(const std::string& ns) {
  Fd fd;
  Status status;
  in(ns, [&] {
    fd.reset(open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    ifreq request{};
    request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    std::strncpy(request.ifr_name, kHold, IFNAMSIZ - 1);
    if (!fd || ioctl(fd.get(), TUNSETIFF, &request) != 0 || ioctl(fd.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) != 0) {
      status = os_error("open the hold device");
      return;
    }
    // No addresses of its own and no router solicitations; IPv4 sources are reached through another interface.
    status = shell(std::string("ip link set ") + kHold + " addrgenmode none && ip link set " + kHold + " up && sysctl -qw net.ipv4.conf." + kHold +
                   ".rp_filter=0");
  });
  if (!status) return status.error();
  return fd;
}

}  // namespace gecko::lab_test
