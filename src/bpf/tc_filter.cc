#include "bpf/tc_filter.hh"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <string>

#include "base/fd.hh"

namespace gecko::bpf {
namespace {

std::string place(int ifindex, std::string_view what) {
  char name[IF_NAMESIZE] = {};
  return std::string(what) + " on interface " + (if_indextoname(static_cast<unsigned>(ifindex), name) ? name : std::to_string(ifindex).c_str());
}

std::string place(int ifindex, Hook hook, std::string_view what) {
  return place(ifindex, std::string(what) + (hook == Hook::ingress ? " ingress" : " egress"));
}

bpf_tc_hook to_hook(int ifindex, Hook hook) {
  bpf_tc_hook h{};
  h.sz = sizeof h;
  h.ifindex = ifindex;
  h.attach_point = hook == Hook::ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
  return h;
}

// Asks the kernel for all filters at one hook; stops at the first.
Result<bool> has_filters(int ifindex, uint32_t minor) {
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd) return os_error("open netlink socket");
  struct {
    nlmsghdr header;
    tcmsg tc;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_GETTFILTER;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.tc.tcm_family = AF_UNSPEC;
  request.tc.tcm_ifindex = ifindex;
  request.tc.tcm_parent = TC_H_MAKE(TC_H_CLSACT, minor);
  if (send(fd.get(), &request, sizeof request, 0) < 0) return os_error(place(ifindex, "list filters"));
  alignas(nlmsghdr) std::array<char, 32768> buffer;
  for (;;) {
    const ssize_t got = recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return os_error(place(ifindex, "list filters"));
    auto left = static_cast<unsigned>(got);
    for (auto* m = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
      if (m->nlmsg_type == NLMSG_DONE || m->nlmsg_type == NLMSG_ERROR) return false;
      if (m->nlmsg_type == RTM_NEWTFILTER) return true;
    }
  }
}

bool is_ours(uint32_t program) {
  const Fd fd(bpf_prog_get_fd_by_id(program));
  bpf_prog_info info{};
  uint32_t size = sizeof info;
  return fd && bpf_obj_get_info_by_fd(fd.get(), &info, &size) == 0 && std::string_view(info.name).starts_with("gecko_");
}

}  // namespace

Result<bool> ensure_clsact(int ifindex) {
  bpf_tc_hook hook = to_hook(ifindex, Hook::ingress);
  const int error = bpf_tc_hook_create(&hook);
  if (error == 0) return true;
  if (error == -EEXIST) return false;
  return os_error(place(ifindex, "create clsact qdisc"), -error);
}

Status must_be_ethernet(int ifindex) {
  const Fd fd(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  if (!fd || if_indextoname(static_cast<unsigned>(ifindex), request.ifr_name) == nullptr || ioctl(fd.get(), SIOCGIFHWADDR, &request) != 0)
    return os_error(place(ifindex, "read link type"));
  if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER)
    return make_error(Errc::unsupported, place(ifindex, "attach programs") + ": not an Ethernet interface (link type " +
                                             std::to_string(request.ifr_hwaddr.sa_family) + "); name one with 'interface' in the group file");
  return {};
}

Result<std::optional<uint32_t>> our_program(int ifindex, Hook at, uint32_t priority) {
  bpf_tc_hook hook = to_hook(ifindex, at);
  LIBBPF_OPTS(bpf_tc_opts, opts, .handle = kTcHandle, .priority = priority);
  const int error = bpf_tc_query(&hook, &opts);
  if (error == -ENOENT || error == -ENODEV) return std::optional<uint32_t>();
  if (error == -EINVAL) {
    // No clsact qdisc at all, or a filter of another kind.
    GECKO_TRY(const bool used, has_filters(ifindex, at == Hook::ingress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS));
    if (!used) return std::optional<uint32_t>();
  } else if (error != 0) {
    return os_error(place(ifindex, at, "query filter"), -error);
  }
  if (error != 0 || !is_ours(opts.prog_id))
    return make_error(Errc::exists, place(ifindex, at, "attach") + ": priority " + std::to_string(priority) +
                                        " handle 0x67 holds a filter that is not Gecko's; "
                                        "remove it ('tc filter show dev ... ' lists it)");
  return std::optional(opts.prog_id);
}

Status put_filter(int ifindex, Hook at, int program_fd, uint32_t priority) {
  bpf_tc_hook hook = to_hook(ifindex, at);
  LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = program_fd, .flags = BPF_TC_F_REPLACE, .handle = kTcHandle, .priority = priority);
  if (const int error = bpf_tc_attach(&hook, &opts); error != 0) return os_error(place(ifindex, at, "attach program"), -error);
  return {};
}

Status remove_filter(int ifindex, Hook at, uint32_t priority) {
  const Result<std::optional<uint32_t>> program = our_program(ifindex, at, priority);
  if (!program) return program.error().code == Errc::exists ? Status() : program.error();  // somebody else's: nothing of ours there
  if (!*program) return {};
  bpf_tc_hook hook = to_hook(ifindex, at);
  LIBBPF_OPTS(bpf_tc_opts, opts, .handle = kTcHandle, .priority = priority);
  const int error = bpf_tc_detach(&hook, &opts);
  if (error != 0 && error != -ENOENT && error != -ENODEV) return os_error(place(ifindex, at, "detach program"), -error);
  return {};
}

Status remove_unused_clsact(int ifindex) {
  for (const uint32_t minor : {TC_H_MIN_INGRESS, TC_H_MIN_EGRESS}) {
    GECKO_TRY(const bool used, has_filters(ifindex, minor));
    if (used) return {};
  }
  bpf_tc_hook hook = to_hook(ifindex, Hook::ingress);
  hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
  const int error = bpf_tc_hook_destroy(&hook);
  if (error != 0 && error != -ENOENT && error != -EINVAL && error != -ENODEV) return os_error(place(ifindex, "remove clsact qdisc"), -error);
  return {};
}

}  // namespace gecko::bpf
