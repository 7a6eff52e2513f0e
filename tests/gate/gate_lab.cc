#include "gate_lab.hh"

#include <unistd.h>

#include <cstdlib>

namespace gecko::lab_test {
namespace {

constexpr const char* kRoles[] = {"client", "node"};

}  // namespace

Address GateLab::group(bool v4) { return *Address::parse(v4 ? "192.0.2.80" : "2001:db8:f::80"); }
Address GateLab::client_address(bool v4) { return *Address::parse(v4 ? "198.51.100.2" : "2001:db8:c::2"); }

Result<std::unique_ptr<GateLab>> GateLab::build(const std::string& family) {
  remove_stale(family);
  std::unique_ptr<GateLab> lab(new GateLab(family + std::to_string(getpid()) + "-"));
  GECKO_CHECK(lab->setup());
  return lab;
}

GateLab::~GateLab() {
  for (const char* role : kRoles) (void)std::system(("ip netns del " + prefix_ + role + " 2>/dev/null").c_str());
}

Status GateLab::setup() {
  for (const char* role : kRoles) {
    if (std::system(("ip netns add " + prefix_ + role).c_str()) != 0) return make_error(Errc::permission, "network namespaces need root");
    GECKO_CHECK(NetLab::run(prefix_ + role, "ip link set lo up; sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0"));
  }
  GECKO_CHECK(NetLab::run(node(), "ip link add eth0 type veth peer name eth0 netns " + client() +
                                      " && ip link set eth0 up && "
                                      "ip addr add 2001:db8:c::1/64 dev eth0 nodad && ip addr add 198.51.100.1/24 dev eth0 && "
                                      "ip addr add 2001:db8:f::80/128 dev lo nodad && ip addr add 192.0.2.80/32 dev lo"));
  GECKO_CHECK(NetLab::run(client(),
                          "ip link set eth0 up && ip addr add 2001:db8:c::2/64 dev eth0 nodad && ip addr add 198.51.100.2/24 dev eth0 && "
                          "ip route add 2001:db8:f::80/128 via 2001:db8:c::1 && ip route add 192.0.2.80/32 via 198.51.100.1"));
  nic_ = NetLab::ifindex(node(), kNic);
  return {};
}

Status GateLab::close_gate(std::chrono::milliseconds lease) {
  GECKO_TRY(gate_, bpf::Gate::load());
  GECKO_TRY(const Fd lease_map, gate_->dup_lease_map());
  GECKO_TRY(leases_, bpf::LeaseTable::map(lease_map));
  lend(lease);
  Status attached;
  NetLab::in(node(), [&] { attached = gate_->attach(nic_); });
  GECKO_CHECK(attached);
  for (const bool v4 : {false, true}) GECKO_CHECK(gate_->protect_port({group(v4), kPort, kRow}));
  return {};
}

Status GateLab::replace_gate() {
  Result<bpf::Gate> next = make_error(Errc::internal, "");
  Status attached;
  NetLab::in(node(), [&] {
    next = bpf::Gate::load(nic_);
    if (next) attached = next->attach(nic_);
  });
  GECKO_CHECK(attached);
  if (!next) return next.error();
  if (!next->adopted()) return make_error(Errc::not_found, "the gate that was attached has not been taken over");
  gate_ = std::move(*next);
  return {};
}

Status GateLab::open_gate() {
  Status detached;
  NetLab::in(node(), [&] { detached = bpf::Gate::detach_from(nic_); });
  return detached;
}

}  // namespace gecko::lab_test
