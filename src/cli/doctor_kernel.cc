// What this kernel can do, tried and not guessed from its version.
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstring>

#include "base/fd.hh"
#include "bpf/steering.hh"
#include "cli/doctor_checks.hh"
#include "cli/trial.hh"
#include "net/interface.hh"
#include "net/tun.hh"

namespace gecko::cli {
namespace {

using Level = Finding::Level;

Status try_repair() {
  for (const int family : {AF_INET6, AF_INET}) {
    const Fd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    if (!fd) return os_error(family == AF_INET6 ? "open an IPv6 socket" : "open an IPv4 socket");
    if (setsockopt(fd.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) != 0) return os_error("TCP_REPAIR");
  }
  return {};
}

Status try_tun() {
  GECKO_TRY(const auto tun, net::Tun::create());
  return {};
}

// An Ethernet interface that goes with its descriptor.
Result<Fd> make_tap(const char* name) {
  Fd fd(open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  ifreq request{};
  std::strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (!fd || ioctl(fd.get(), TUNSETIFF, &request) != 0) return os_error("make a TAP device to try on");
  return fd;
}

// Loads the real programs and hangs them on an interface: the verifier of this kernel decides.
Status try_steering() {
  GECKO_TRY(const auto tun, net::Tun::create());
  GECKO_TRY(auto steering, bpf::Steering::load());
  GECKO_TRY(auto rtnetlink, net::Rtnetlink::open());
  GECKO_TRY(const Fd tap, make_tap("gecko-try"));
  GECKO_TRY(const auto ethernet, rtnetlink.by_name("gecko-try"));
  return steering.attach(ethernet.index, tun.index());
}

// geckod's unprivileged half writes the flow table by its descriptor alone.
Status try_unprivileged_map() {
  GECKO_TRY(auto steering, bpf::Steering::load());
  GECKO_TRY(Fd map, steering.dup_flow_map());
  bpf::FlowTable table(std::move(map));
  GECKO_CHECK(become_nobody());
  const Flow flow{{*Address::parse("2001:db8::80"), 80}, {*Address::parse("2001:db8::7"), 40000}};
  return table.put(flow, gecko_flow{});
}

void add_trial(Findings& findings, const std::string& check, const Status& tried, const std::string& good, const std::string& why, const std::string& fix) {
  if (tried) findings.push_back({check, Level::ok, good, "", ""});
  else if (tried.error().code == Errc::permission && geteuid() != 0)
    findings.push_back({check, Level::skipped, "not tried: " + tried.error().message, "", "sudo gecko doctor"});
  else findings.push_back({check, Level::failure, tried.error().message, why, fix});
}

}  // namespace

void check_kernel(Findings& findings) {
  utsname name{};
  uname(&name);
  const std::string kernel = std::string("Linux ") + name.release;
  add_trial(findings, "tcp-repair", in_private_network(try_repair), kernel + " moves TCP connections (TCP_REPAIR)",
            "connections cannot be taken out of or put into this kernel",
            "boot a kernel with CONFIG_CHECKPOINT_RESTORE=y (Debian's have it): grep CHECKPOINT_RESTORE /boot/config-$(uname -r)");
  add_trial(findings, "tun", in_private_network(try_tun), "TUN devices can be made", "packets of a connection in motion cannot be held",
            "modprobe tun; in a container also: give it /dev/net/tun");
  add_trial(findings, "steering",
            geteuid() == 0 ? in_private_network(try_steering) : Status(make_error(Errc::permission, "loading programs needs root")),
            "the steering programs load and attach", "packets cannot be steered to the node that owns their connection",
            "see the message; kernels from 5.19 on with CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS are known to work");
  add_trial(findings, "unprivileged-map",
            geteuid() == 0 ? in_private_network(try_unprivileged_map) : Status(make_error(Errc::permission, "it takes root to load the table")),
            "the flow table can be written without privileges", "geckod's unprivileged half cannot switch connections",
            "boot a kernel of version 5.19 or newer");
}

}  // namespace gecko::cli
