// What around geckod may harm it: limits, clock, other daemons, sysctls; and one group's file on this node.
#include <dirent.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "cli/doctor_checks.hh"
#include "config/keys.hh"
#include "net/interface.hh"

namespace gecko::cli {
namespace {

using Level = Finding::Level;

// An outer IPv6 header around each packet that is forwarded to another node.
constexpr uint32_t kEncapsulation = 40;
constexpr uint32_t kSmallestIpv6Mtu = 1280;  // RFC 8200 section 5
constexpr uint32_t kLargestPacket = 65536;   // beyond begins BIG TCP: such a packet has no room in its length field for a header around it

void check_root(Findings& findings) {
  if (geteuid() == 0) findings.push_back({"rights", Level::ok, "running as root", "", ""});
  else findings.push_back({"rights", Level::skipped, "not root: some checks below could not be made", "", "sudo gecko doctor"});
}

void check_ipv6(Findings& findings) {
  for (const char* path : {"net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/lo/disable_ipv6"}) {
    const auto value = net::read_sysctl(path);
    if (!value) {
      findings.push_back({"ipv6", Level::failure, "this kernel runs without IPv6 (no /proc/sys/net/ipv6)", "nodes reach each other by IPv6",
                          "remove ipv6.disable=1 from the kernel's command line"});
      return;
    }
    if (*value != "0") {
      std::string key = path;
      std::replace(key.begin(), key.end(), '/', '.');
      findings.push_back({"ipv6", Level::failure, key + " is " + *value, "nodes reach each other by IPv6, and lo carries the group address",
                          "sysctl -w " + key + "=0, and the same in /etc/sysctl.d"});
      return;
    }
  }
  findings.push_back({"ipv6", Level::ok, "IPv6 is on", "", ""});
}

void check_descriptors(Findings& findings, const std::vector<config::GroupConfig>& groups) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  uint64_t wanted = 1024;  // links, applications, the daemon itself
  for (const auto& group : groups) wanted += group.max_connections;
  if (groups.empty()) wanted += config::GroupConfig{}.max_connections;
  if (limit.rlim_max >= wanted) {
    findings.push_back({"descriptors", Level::ok, "up to " + std::to_string(limit.rlim_max) + " descriptors per process", "", ""});
  } else {
    findings.push_back({"descriptors", Level::warning,
                        "a process may have " + std::to_string(limit.rlim_max) + " descriptors, max_connections wants " + std::to_string(wanted),
                        "each connection in motion is one: a drain of a full node would come in several steps",
                        "systemctl edit geckod: [Service] LimitNOFILE=" + std::to_string(wanted)});
  }
}

void check_clock(Findings& findings) {
  timex state{};
  const int result = adjtimex(&state);
  if (time(nullptr) < 1'700'000'000)
    findings.push_back({"clock", Level::failure, "this machine's date lies years back", "certificates of the other nodes look not yet valid",
                        "timedatectl set-ntp true"});
  else if (result == TIME_ERROR || (state.status & STA_UNSYNC) != 0)
    findings.push_back({"clock", Level::note, "the clock is not kept by NTP (or this is a container that cannot tell)",
                        "certificates have dates; nothing else depends on it", "timedatectl set-ntp true"});
  else findings.push_back({"clock", Level::ok, "the clock is synchronised", "", ""});
}

// systemd-networkd removes addresses it has not set itself when it (re)starts; the group address on the interface would be one.
void check_networkd(Findings& findings) {
  std::error_code ignored;
  std::string managed;
  for (const auto& entry : std::filesystem::directory_iterator("/run/systemd/netif/links", ignored)) {
    std::ifstream file(entry.path());
    std::string text((std::istreambuf_iterator<char>(file)), {}), name;
    if (text.find("ADMIN_STATE=configured") == std::string::npos) continue;
    if (const size_t at = text.find("NETWORK_FILE="); at != std::string::npos) name = text.substr(at + 13, text.find('\n', at) - at - 13);
    if (name.empty()) continue;
    std::ifstream network(name);
    text.assign((std::istreambuf_iterator<char>(network)), {});
    if (text.find("\nKeepConfiguration=") == std::string::npos) managed += (managed.empty() ? "" : ", ") + name;
  }
  if (managed.empty()) findings.push_back({"foreign-addresses", Level::ok, "no systemd-networkd that removes addresses", "", ""});
  else findings.push_back({"foreign-addresses", Level::warning, "systemd-networkd manages interfaces by " + managed + " without KeepConfiguration",
                           "when it restarts it removes addresses that others have set: the contact would lose the group address",
                           "add to [Network] there: KeepConfiguration=static, then networkctl reload"});
}

void check_reverse_path(Findings& findings, const std::vector<config::GroupConfig>& groups) {
  const bool ipv4 = std::any_of(groups.begin(), groups.end(), [](const auto& group) { return group.address.is_v4(); });
  const auto all = net::read_sysctl("net/ipv4/conf/all/rp_filter");
  if (all && *all == "1")
    findings.push_back({"rp-filter", ipv4 ? Level::failure : Level::note, "net.ipv4.conf.all.rp_filter is 1 (strict)",
                        "with an IPv4 group, packets that come by way of another node are dropped silently",
                        "sysctl -w net.ipv4.conf.all.rp_filter=2, and the same in /etc/sysctl.d"});
  else findings.push_back({"rp-filter", Level::ok, "no strict reverse path filter", "", ""});
}

// Where this node keeps its promises about who is a member. Of the default directory: another is named on geckod's command line only.
void check_state(Findings& findings) {
  constexpr const char* kDirectory = "/var/lib/gecko";
  struct statvfs room{};
  const std::string mend = "mkdir -p /var/lib/gecko, on a disk that outlives the machine, has room and is fast";
  const char* why = "a node that cannot store its promises does not vote on who is a member";
  if (access(kDirectory, F_OK) != 0)
    findings.push_back({"state", Level::note, std::string(kDirectory) + " is not there", "geckod makes it when it starts first", ""});
  else if (geteuid() != 0)
    findings.push_back({"state", Level::skipped, std::string(kDirectory) + " can only be looked at by root", "", "sudo gecko doctor"});
  else if (access(kDirectory, W_OK) != 0)
    findings.push_back({"state", Level::failure, std::string(kDirectory) + " cannot be written: " + std::strerror(errno), why, mend});
  else if (statvfs(kDirectory, &room) == 0 && (room.f_flag & ST_RDONLY) != 0)
    findings.push_back({"state", Level::failure, std::string(kDirectory) + " is on a disk that can only be read", why, mend});
  else if (room.f_bavail * room.f_frsize < (1u << 20))
    findings.push_back({"state", Level::warning, "the disk of " + std::string(kDirectory) + " is full", why, "make room there: geckod needs 16 KiB per group"});
  else findings.push_back({"state", Level::ok, std::string(kDirectory) + " can be written", "", ""});
}

// Of a witness: the one that its links and heartbeats need. The group's address is announced elsewhere.
Result<net::Interface> interface_of(const config::GroupConfig& group, const config::Node& self) {
  GECKO_TRY(auto rtnetlink, net::Rtnetlink::open());
  return group.interface.empty() || self.witness ? rtnetlink.holder(self.address) : rtnetlink.by_name(group.interface);
}

// Clients' packets pass it, some with a header around them.
void check_interface(Findings& findings, const std::string& prefix, const net::Interface& interface) {
  const std::string mtu = prefix + interface.name + " has an MTU of " + std::to_string(interface.mtu);
  if (interface.mtu < kSmallestIpv6Mtu + kEncapsulation)
    findings.push_back({"mtu", Level::failure, mtu, "a forwarded packet has " + std::to_string(kEncapsulation) + " bytes around it, and IPv6 needs 1280 inside",
                        "ip link set " + interface.name + " mtu 1500"});
  else findings.push_back({"mtu", Level::ok, mtu + ", clients' packets may have " + std::to_string(interface.mtu - kEncapsulation), "", ""});
  if (interface.gro_max > kLargestPacket)
    findings.push_back({"big-tcp", Level::warning,
                        prefix + interface.name + " puts packets of up to " + std::to_string(interface.gro_max) + " bytes together (BIG TCP)",
                        "larger ones than " + std::to_string(kLargestPacket) + " cannot be forwarded to another node: they are dropped and sent again",
                        "ip link set " + interface.name + " gro_max_size 65536 gro_ipv4_max_size 65536"});
}

}  // namespace

// What every link needs, then what live connections do.
void check_machine(Findings& findings, const std::vector<config::GroupConfig>& groups, bool witness) {
  check_root(findings);
  check_ipv6(findings);
  check_clock(findings);
  check_state(findings);
  if (witness) return;
  check_descriptors(findings, groups);
  check_networkd(findings);
  check_reverse_path(findings, groups);
}

void check_group(Findings& findings, const config::GroupConfig& group, const std::string& node, const std::string& keys) {
  const std::string prefix = "group " + group.name + ": ";
  const config::Node* self = group.find(node);
  if (self == nullptr) {
    findings.push_back({"node-name", Level::failure, prefix + "no [[node]] is named '" + node + "'", "geckod would not start",
                        "name this machine as in " + group.file + ", or use --node (for geckod too)"});
    return;
  }
  if (const auto interface = interface_of(group, *self); !interface)
    findings.push_back({"interface", Level::failure, prefix + interface.error().message, "geckod would not start",
                        "ip address add " + self->address.str() + "/64 dev INTERFACE" + (self->witness ? "" : ", or name another under [group] interface")});
  else if (!self->witness) check_interface(findings, prefix, *interface);
  const std::string directory = !keys.empty() ? keys : !group.keys.empty() ? group.keys : "/etc/gecko/keys/" + group.name;
  const auto certificate = config::key_show(directory + "/node.crt");
  if (!certificate && certificate.error().code == Errc::permission) {
    findings.push_back({"keys", Level::skipped, prefix + certificate.error().message, "", "sudo gecko doctor"});
  } else if (!certificate) {
    findings.push_back({"keys", Level::failure, prefix + certificate.error().message, "other nodes would not let this one in",
                        "gecko key sign " + node + " on the machine with the CA, then copy the result to " + directory});
  } else if (certificate->group != group.name || certificate->node != node) {
    findings.push_back(
        {"keys", Level::failure, prefix + directory + " holds the key of node '" + certificate->node + "' of group '" + certificate->group + "'",
         "other nodes would not let this one in", "gecko key sign " + node + " on the machine with the CA, then copy the result to " + directory});
  } else {
    char soon[32];
    const time_t in_30_days = time(nullptr) + 30 * 86400;
    tm parts{};
    gmtime_r(&in_30_days, &parts);
    strftime(soon, sizeof soon, "%Y-%m-%dT%H:%M:%SZ", &parts);  // ISO 8601 UTC compares as text
    if (certificate->not_after < soon)
      findings.push_back({"keys", Level::warning, prefix + "this node's certificate ends " + certificate->not_after,
                          "no new link to other nodes from then on", "gecko key rotate " + node + " on the machine with the CA"});
    else findings.push_back({"keys", Level::ok, prefix + "certificate of " + node + " valid until " + certificate->not_after, "", ""});
  }
}

}  // namespace gecko::cli
