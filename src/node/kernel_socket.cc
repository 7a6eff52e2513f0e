#include "node/kernel_socket.hh"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/fd.hh"

namespace gecko::node {

namespace {

// <netinet/tcp.h> names them, but its tcp_info has no smallest round trip, and <linux/tcp.h> cannot be included beside it.
constexpr uint8_t TCP_ESTABLISHED = 1, TCP_SYN_RECV = 3, TCP_TIME_WAIT = 6, TCP_CLOSE = 7, TCP_CLOSE_WAIT = 8, TCP_LAST_ACK = 9, TCP_LISTEN = 10,
                  TCP_CLOSING = 11;
constexpr size_t kDescription = 4096;

// The kernel's answer about the socket of a flow; nullptr: there is none.
Result<const nlmsghdr*> describe(const Flow& flow, uint8_t extensions, char (&buffer)[kDescription]) {
  static Fd fd;   // asked about every new connection: opening and closing would be most of the cost
  static uint32_t sequence = 0;
  if (!fd) fd.reset(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG));
  if (!fd) return os_error("open a socket diagnosis channel");
  struct {
    nlmsghdr header{};
    inet_diag_req_v2 request{};
  } ask;
  ask.header.nlmsg_len = sizeof ask;
  ask.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  ask.header.nlmsg_flags = NLM_F_REQUEST;
  ask.header.nlmsg_seq = ++sequence;
  const bool v4 = flow.local.address.is_v4();
  const size_t skip = v4 ? 12 : 0, size = v4 ? 4 : 16;
  ask.request.sdiag_family = static_cast<uint8_t>(flow.local.address.family());
  ask.request.sdiag_protocol = IPPROTO_TCP;
  ask.request.idiag_states = ~0u;
  ask.request.idiag_ext = extensions;
  ask.request.id.idiag_sport = htons(flow.local.port);
  ask.request.id.idiag_dport = htons(flow.peer.port);
  std::memcpy(ask.request.id.idiag_src, flow.local.address.bytes.data() + skip, size);
  std::memcpy(ask.request.id.idiag_dst, flow.peer.address.bytes.data() + skip, size);
  ask.request.id.idiag_cookie[0] = ask.request.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  if (::send(fd.get(), &ask, sizeof ask, 0) < 0) return os_error("ask for a socket");
  const auto* header = reinterpret_cast<const nlmsghdr*>(buffer);
  ssize_t n = 0;
  do {   // the kernel answers before send() returns; an answer somebody did not wait for may come first
    n = ::recv(fd.get(), buffer, sizeof buffer, 0);
    if (n < static_cast<ssize_t>(sizeof(nlmsghdr))) return os_error("read a socket's description");
  } while (header->nlmsg_seq != sequence);
  if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || n < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(inet_diag_msg)))) return static_cast<const nlmsghdr*>(nullptr);
  return header;
}

std::optional<tcp_info> info_of(const nlmsghdr* header) {
  const auto* attribute = reinterpret_cast<const rtattr*>(static_cast<const char*>(NLMSG_DATA(header)) + NLMSG_ALIGN(sizeof(inet_diag_msg)));
  auto left = static_cast<unsigned>(header->nlmsg_len - NLMSG_LENGTH(sizeof(inet_diag_msg)));
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    if (attribute->rta_type != INET_DIAG_INFO) continue;
    tcp_info info{};   // an older kernel's is shorter
    std::memcpy(&info, RTA_DATA(attribute), std::min<size_t>(sizeof info, RTA_PAYLOAD(attribute)));
    return info;
  }
  return std::nullopt;
}

}  // namespace

Result<bool> kernel_has_socket(const Flow& flow) {
  alignas(nlmsghdr) char buffer[kDescription];
  GECKO_TRY(const auto* header, describe(flow, 0, buffer));
  if (header == nullptr) return false;
  const auto* found = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
  return found->idiag_state != TCP_LISTEN && found->idiag_state != TCP_CLOSE;
}

Result<uint32_t> kernel_round_trip(const Flow& flow) {
  alignas(nlmsghdr) char buffer[kDescription];
  GECKO_TRY(const auto* header, describe(flow, 1u << (INET_DIAG_INFO - 1), buffer));
  if (header == nullptr) return uint32_t{0};
  const auto info = info_of(header);
  return !info || info->tcpi_min_rtt == UINT32_MAX ? uint32_t{0} : info->tcpi_min_rtt;
}

bool KernelFacts::fin_received() const { return state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING || state == TCP_TIME_WAIT; }
bool KernelFacts::ending() const { return state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT; }

Result<std::optional<KernelFacts>> kernel_facts(const Flow& flow) {
  constexpr uint32_t kTimestampOption = 12;   // bytes of a segment that the clamp counts and the usable size does not
  alignas(nlmsghdr) char buffer[kDescription];
  GECKO_TRY(const auto* header, describe(flow, 1u << (INET_DIAG_INFO - 1), buffer));
  if (header == nullptr) return std::optional<KernelFacts>();
  const auto* found = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
  const auto info = info_of(header);
  if (!info || found->idiag_state == TCP_LISTEN || found->idiag_state == TCP_CLOSE || found->idiag_state == TCP_SYN_RECV)
    return std::optional<KernelFacts>();
  KernelFacts f;
  f.state = found->idiag_state;
  f.unacknowledged = found->idiag_wqueue;
  f.v4_mapped = flow.local.address.is_v4() && found->idiag_family == AF_INET6;
  f.timestamps = (info->tcpi_options & TCPI_OPT_TIMESTAMPS) != 0;
  f.sack = (info->tcpi_options & TCPI_OPT_SACK) != 0;
  f.window_scaling = (info->tcpi_options & TCPI_OPT_WSCALE) != 0;
  if (f.window_scaling) {
    f.snd_wscale = info->tcpi_snd_wscale;
    f.rcv_wscale = info->tcpi_rcv_wscale;
  }
  f.mss = static_cast<uint16_t>(std::min<uint32_t>(info->tcpi_snd_mss + (f.timestamps ? kTimestampOption : 0), UINT16_MAX));
  f.bytes_acked = info->tcpi_bytes_acked;
  f.bytes_received = info->tcpi_bytes_received;
  return std::optional(f);
}

namespace {

struct DiagRequest {
  nlmsghdr header{};
  inet_diag_req_v2 request{};
};

DiagRequest dump_request(int family, uint32_t states) {
  DiagRequest ask;
  ask.header.nlmsg_len = sizeof ask;
  ask.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  ask.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  ask.request.sdiag_family = static_cast<uint8_t>(family);
  ask.request.sdiag_protocol = IPPROTO_TCP;
  ask.request.idiag_states = states;
  return ask;
}

// Every socket of this address and these ports in these states; of an IPv4 address with family AF_INET6, those that have it mapped.
template <class Visit>
Status for_each_socket(int channel, int family, uint32_t states, const Address& local, const std::vector<uint16_t>& ports, Visit visit) {
  const DiagRequest ask = dump_request(family, states);
  if (::send(channel, &ask, sizeof ask, 0) < 0) return os_error("ask for connections");
  const size_t skip = local.is_v4() ? 12 : 0, size = local.is_v4() ? 4 : 16;
  const size_t mapped = family == AF_INET6 && local.is_v4() ? 12 : 0;
  alignas(nlmsghdr) char buffer[16384];
  for (;;) {
    const ssize_t got = ::recv(channel, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return os_error("read the descriptions of connections");
    auto left = static_cast<size_t>(got);
    for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return {};
      if (header->nlmsg_type == NLMSG_ERROR) return make_error(Errc::unsupported, "this kernel does not describe its sockets (CONFIG_INET_DIAG)");
      if (header->nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) continue;
      const auto* found = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
      if (std::find(ports.begin(), ports.end(), ntohs(found->id.idiag_sport)) == ports.end()) continue;
      if (std::memcmp(reinterpret_cast<const uint8_t*>(found->id.idiag_src) + mapped, local.bytes.data() + skip, size) == 0) visit(*found);
    }
  }
}

Result<Fd> open_diagnosis() {
  Fd fd(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd) return os_error("open a socket diagnosis channel");
  return fd;
}

}  // namespace

Status end_kernel_sockets(const Address& local, const std::vector<uint16_t>& ports) {
  GECKO_TRY(const Fd fd, open_diagnosis());
  std::vector<inet_diag_msg> found;
  for (const int family : {AF_INET6, AF_INET}) {
    if (family == AF_INET && !local.is_v4()) continue;
    GECKO_CHECK(for_each_socket(fd.get(), family, ~(1u << TCP_LISTEN), local, ports, [&](const inet_diag_msg& socket) { found.push_back(socket); }));
  }
  DiagRequest ask = dump_request(AF_UNSPEC, ~(1u << TCP_LISTEN));
  ask.header.nlmsg_type = SOCK_DESTROY;
  ask.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  Status status;
  for (const auto& socket : found) {
    ask.request.sdiag_family = socket.idiag_family;
    ask.request.id = socket.id;
    struct {
      nlmsghdr header;
      nlmsgerr error;
    } answer{};
    if (::send(fd.get(), &ask, sizeof ask, 0) < 0 || ::recv(fd.get(), &answer, sizeof answer, MSG_TRUNC) < 0) return os_error("end a connection");
    // One that has ended by itself meanwhile, or waits for its last packets, is no error.
    if (answer.header.nlmsg_type == NLMSG_ERROR && answer.error.error == -EOPNOTSUPP)
      status = make_error(Errc::unsupported, "this kernel ends no connections (CONFIG_INET_DIAG_DESTROY)");
  }
  return status;
}

Result<uint32_t> count_unaccepted(const Address& local, const std::vector<uint16_t>& ports) {
  GECKO_TRY(const Fd fd, open_diagnosis());
  uint32_t count = 0;
  GECKO_CHECK(for_each_socket(fd.get(), local.family(), 1u << TCP_LISTEN | 1u << TCP_SYN_RECV, local, ports, [&](const inet_diag_msg& found) {
    count += found.idiag_state == TCP_LISTEN ? found.idiag_rqueue : 1;   // of a listening socket: what waits to be accepted
  }));
  return count;
}

}  // namespace gecko::node
