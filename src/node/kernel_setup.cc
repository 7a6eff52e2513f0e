#include "node/kernel_setup.hh"

#include <fcntl.h>

#include <algorithm>
#include <set>

#include "base/log.hh"
#include "net/interface.hh"
#include "net/tun.hh"
#include "node/daemon.hh"

namespace gecko::node {
namespace {

constexpr const char* kHoldDevice = "gecko-hold";
// Room for one MSS below the smallest inner packet: IPv6 header 40, TCP header 20 (RFC 9293 section 3.7.1); IPv4: 20 + 20.
constexpr uint16_t kHeaders6 = 60, kHeaders4 = 40;

class Journal {
 public:
  static Result<Journal> open(const std::string& dir) {
    Journal journal;
    const std::string path = dir + "/kernel.journal";
    journal.fd_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!journal.fd_) return os_error("open " + path);
    return journal;
  }
  Status note(const std::string& kind, const std::string& name) {
    if (!noted_.insert(kind + name).second) return {};
    const std::string line = kind + " " + name + "\n";
    if (::write(fd_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) return os_error("write the journal of kernel objects");
    return {};
  }

 private:
  Fd fd_;
  std::set<std::string> noted_;
};

// Notes the old value, so that `gecko clean` can bring it back. One that is right already is not ours to bring back.
Status change_sysctl(Journal& journal, const std::string& path, const std::string& value) {
  GECKO_TRY(const std::string old, net::read_sysctl(path));
  if (old == value) return {};
  GECKO_CHECK(journal.note("sysctl", path + " " + old));
  return net::write_sysctl(path, value);
}

}  // namespace

Status attach_gate(const Options& options, bpf::Gate& gate, int only) {
  GECKO_TRY(auto journal, Journal::open(options.runtime_dir));
  GECKO_TRY(auto rtnetlink, net::Rtnetlink::open());
  GECKO_TRY(const auto interfaces, rtnetlink.interfaces());
  for (const auto& interface : interfaces) {
    if (interface.loopback || !interface.ethernet || (only != 0 && interface.index != only)) continue;
    GECKO_CHECK(journal.note("filter", interface.name));
    if (auto ok = gate.attach(interface.index); !ok) log_warn("what leaves by " + interface.name + " is not judged: " + ok.error().message);
  }
  return {};
}

// A former geckod's, which protected connections; this one's groups ask for no recovery.
static Status detach_gate(net::Rtnetlink& rtnetlink) {
  GECKO_TRY(const auto interfaces, rtnetlink.interfaces());
  for (const auto& interface : interfaces)
    if (!interface.loopback && interface.ethernet) (void)bpf::Gate::detach_from(interface.index);
  return {};
}

Result<Privileged::Kernel> set_up_kernel(const Options& options) {
  GECKO_TRY(auto journal, Journal::open(options.runtime_dir));
  const NodeNumbers numbers(options.groups);

  GECKO_TRY(auto steering, bpf::Steering::load());
  GECKO_CHECK(journal.note("tun", kHoldDevice));
  GECKO_TRY(auto hold, net::Tun::create({.name = kHoldDevice}));
  const int hold_index = hold.index();
  GECKO_TRY(auto rtnetlink, net::Rtnetlink::open());
  // Packets written back have a client's source: no reverse path check on this device (needed for IPv4 groups).
  (void)net::write_sysctl(std::string("net/ipv4/conf/") + kHoldDevice + "/rp_filter", "0");

  GECKO_TRY(const auto loopback, rtnetlink.by_name("lo"));
  Privileged::Kernel kernel{std::move(steering), std::move(hold), {}, {}, {}, {}};
  // A witness is left out: nothing is forwarded to it, and nothing that it encapsulates is taken.
  for (const auto& group : options.groups)
    for (const auto& node : group.nodes)
      if (!node.witness) GECKO_CHECK(kernel.steering.set_node(numbers.of(node.address), node.address));

  std::set<int> attached;
  for (uint16_t i = 0; i < options.groups.size(); ++i) {
    const auto& group = options.groups[i];
    const auto self = static_cast<size_t>(group.index_of(options.node));
    auto interface = group.interface.empty() ? rtnetlink.holder(group.nodes[self].address) : rtnetlink.by_name(group.interface);
    if (!interface) {
      interface.error().message += "; node '" + options.node + "' has address " + group.nodes[self].address.str() + " in " + group.file +
                                   ": give the address to an interface, or name it with 'interface'";
      return interface.error();
    }
    GECKO_CHECK(journal.note("address", group.address.str() + " lo"));
    GECKO_CHECK(journal.note("address", group.address.str() + " " + interface->name));
    if (group.address.is_v4()) {
      // Only the contact, which has the address on the interface itself, answers for it (and nobody uses it as a source for ARP).
      GECKO_CHECK(change_sysctl(journal, "net/ipv4/conf/" + interface->name + "/arp_ignore", "1"));
      GECKO_CHECK(change_sysctl(journal, "net/ipv4/conf/" + interface->name + "/arp_announce", "2"));
    }
    if (auto added = rtnetlink.add_address(loopback.index, group.address); !added && added.error().code != Errc::exists) return added.error();
    bpf::GroupSteering steer;
    steer.address = group.address;
    steer.ports = group.ports;
    steer.index = i;
    steer.self = steer.contact = numbers.of(group.nodes[self].address);
    steer.return_home = group.return_path == config::ReturnPath::home;
    steer.encap_mtu = static_cast<uint16_t>(interface->mtu - kEncapsulation);
    steer.mss_max = static_cast<uint16_t>(steer.encap_mtu - (group.address.is_v4() ? kHeaders4 : kHeaders6));
    const auto slice = outbound_slice(group, 0);   // the first one begins there, whoever has it
    steer.outbound_first = slice.first;
    steer.outbound_each = slice.count;
    for (const auto& node : group.nodes)
      if (!node.witness) steer.outbound_nodes.push_back(numbers.of(node.address));
    GECKO_CHECK(kernel.steering.set_group(steer));
    if (attached.insert(interface->index).second) {
      GECKO_CHECK(journal.note("filter", interface->name));
      GECKO_CHECK(kernel.steering.attach(interface->index, hold_index));
    }
    kernel.groups.push_back(std::move(steer));
    kernel.interfaces.push_back(*interface);
  }
  const bool recovers = std::ranges::any_of(options.groups, [](const auto& g) { return g.recovery != config::Recovery::none; });
  if (!recovers) {
    GECKO_CHECK(detach_gate(rtnetlink));
  } else {
    GECKO_TRY(kernel.gate, bpf::Gate::load(kernel.interfaces.front().index));
    GECKO_TRY(kernel.lease_map, kernel.gate->dup_lease_map());
    GECKO_CHECK(attach_gate(options, *kernel.gate));
  }
  return kernel;
}

}  // namespace gecko::node
