// freeze, thaw and retire: what happens to the donor's socket around a capture.
#include "tcp/connection.hh"
#include "tcp/deaf_filter.hh"
#include "tcp/nudge.hh"
#include "tcp/signed_check.hh"
#include "tcp/socket_option.hh"

namespace gecko::tcp {
namespace {

bool movable(uint8_t state) {
  switch (state) {
    case kEstablished: case kFinWait1: case kFinWait2: case kCloseWait: case kLastAck: case kClosing: return true;
    default: return false;
  }
}

// Reads state and refuses what cannot move, before anything is changed.
Result<tcp_info> inspect(int fd) {
  tcp_info info{};
  if (!get_raw(fd, kSolTcp, TCP_INFO, info)) {
    const int err = errno;
    if (err == ENOPROTOOPT || err == EOPNOTSUPP || err == ENOTSOCK)
      return make_error(Errc::unsupported, "descriptor " + std::to_string(fd) + " is not a TCP socket; only TCP connections can move");
    return os_error("descriptor " + std::to_string(fd) + ": TCP_INFO", err);
  }
  if (!movable(info.tcpi_state))
    return make_error(Errc::closed, describe(fd) + " is in state " + to_string(static_cast<KernelState>(info.tcpi_state)) +
                                        ", which cannot move; only an established connection or one half closed can");
  char ulp[16] = {};
  socklen_t ulp_size = sizeof ulp - 1;
  if (::getsockopt(fd, kSolTcp, TCP_ULP, ulp, &ulp_size) == 0 && ulp_size != 0 && ulp[0] != '\0') {
    const std::string name(ulp);
    const std::string what = name == "mptcp" ? "is Multipath TCP" : name == "tls" ? "uses kernel TLS" : "uses the upper layer protocol '" + name + "'";
    return make_error(Errc::unsupported, describe(fd) + " " + what + ", whose state the kernel does not give away; use plain TCP");
  }
  GECKO_CHECK(refuse_signed(fd, info));
  if (const auto filter = attached_filter(fd); filter != FilterKind::none) {
    int repair = 0;
    if (get_raw(fd, kSolTcp, TCP_REPAIR, repair) && repair != 0)
      return make_error(Errc::busy, describe(fd) + " is frozen already; thaw or retire it first");
    return make_error(Errc::unsupported, describe(fd) + " has a socket filter of its own, which would be lost; detach it before the move");
  }
  return info;
}

}  // namespace

bool prepare() { return prepare_deaf_filter(); }

Result<Frozen> freeze(int fd) {
  GECKO_TRY(const tcp_info info, inspect(fd));
  // Input first, so that nothing moves any more while the rest is read.
  if (!make_deaf(fd)) return privileged_error(fd, "attaching the filter that stops its input");
  int keepalive = 0;
  const auto undo = [fd, &keepalive](const char* doing) {
    Error error = privileged_error(fd, doing);
    if (keepalive != 0) set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    make_hearing(fd);
    return error;
  };
  if (!get_raw(fd, SOL_SOCKET, SO_KEEPALIVE, keepalive) || (keepalive != 0 && !set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 0)))
    return undo("stopping its keepalive probes");
  if (!set_int(fd, kSolTcp, TCP_REPAIR, TCP_REPAIR_ON)) return undo("entering repair mode");
  // Repair mode alone does not stop output: the pacing timer goes on sending what is queued. A closed send window does.
  tcp_repair_window window{};
  bool ok = get_raw(fd, kSolTcp, TCP_REPAIR_WINDOW, window);
  Frozen frozen{window.snd_wl1, window.snd_wnd, window.max_window, window.rcv_wnd, window.rcv_wup,
                info.tcpi_segs_in, info.tcpi_unacked, info.tcpi_notsent_bytes, info.tcpi_state, keepalive != 0};
  window.snd_wnd = 0;
  window.snd_wl1 -= 1;   // any segment that still comes in replaces it, and so tells that the window is its word, not ours
  ok = ok && set_raw(fd, kSolTcp, TCP_REPAIR_WINDOW, &window, sizeof window);
  // From here on nothing new is sent; until here it may have been.
  if (ok && frozen.notsent_bytes != 0) {
    tcp_info after{};
    ok = get_raw(fd, kSolTcp, TCP_INFO, after);
    frozen.notsent_bytes = after.tcpi_notsent_bytes;
  }
  if (!ok) {
    Error error = undo("closing its send window");
    set_int(fd, kSolTcp, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
    set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    return error;
  }
  return frozen;
}

Status thaw(int fd, const Frozen& frozen, Injector* injector) {
  tcp_repair_window window{};
  if (!get_raw(fd, kSolTcp, TCP_REPAIR_WINDOW, window)) return socket_error(fd, "thawing (is it frozen?)");
  // A packet that was already past the filter may have said what the window is now: newer than the saved value.
  if (!heard_since_freeze(window.snd_wl1, frozen)) window.snd_wnd = frozen.snd_wnd;
  window.max_window = std::max(window.max_window, window.snd_wnd);
  if (!set_raw(fd, kSolTcp, TCP_REPAIR_WINDOW, &window, sizeof window)) return socket_error(fd, "opening its send window again");

  // Without a nudge it goes on as well, only slower: no reason to leave it frozen.
  const auto nudge = injector ? read_nudge(fd, window) : Result<Nudge>(Error{});
  if (!make_hearing(fd)) return socket_error(fd, "detaching the filter that stops its input");
  const bool nudged = nudge && injector->to_peer(build_nudge(*nudge));
  if (!set_int(fd, kSolTcp, TCP_REPAIR, nudged ? TCP_REPAIR_OFF_NO_WP : TCP_REPAIR_OFF)) return socket_error(fd, "leaving repair mode");
  if (frozen.keepalive) set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  // Leaving repair mode sets "no reuse", and no new listener could bind this port.
  set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  // The pacing timer may have found the window closed and given up, and nothing else would start output again until the
  // peer speaks: un-corking a socket that is not corked only pushes what is queued.
  int cork = 0;
  if (get_raw(fd, kSolTcp, TCP_CORK, cork) && cork == 0) set_int(fd, kSolTcp, TCP_CORK, 0);
  return {};
}

Result<Frozen> find_frozen(int fd) {
  int repair = 0;
  if (!get_raw(fd, kSolTcp, TCP_REPAIR, repair)) return socket_error(fd, "looking whether it is frozen");
  if (repair == 0) return make_error(Errc::invalid, describe(fd) + " is not frozen");
  tcp_repair_window window{};
  if (!get_raw(fd, kSolTcp, TCP_REPAIR_WINDOW, window)) return socket_error(fd, "reading its windows");
  // Whether it has heard something since is not known; a window that is too large only costs a segment that is sent again.
  return Frozen{window.snd_wl1 + 1, window.max_window, window.max_window, window.rcv_wnd, window.rcv_wup, 0, 0, 0, 0};
}

Result<wire::Bytes> nudge_of(int fd) {
  tcp_repair_window window{};
  if (!get_raw(fd, kSolTcp, TCP_REPAIR_WINDOW, window)) return socket_error(fd, "reading its windows (is it frozen?)");
  GECKO_TRY(const Nudge nudge, read_nudge(fd, window));
  return build_nudge(nudge);
}

Status retire(int fd) {
  // In repair mode, always: outside of it the next call would send a reset.
  if (!set_int(fd, kSolTcp, TCP_REPAIR, TCP_REPAIR_ON)) return privileged_error(fd, "entering repair mode to end it silently");
  sockaddr none{};
  none.sa_family = AF_UNSPEC;
  // Unlike close, this frees the connection's addresses at once, however many descriptors of the socket are left.
  if (::connect(fd, &none, sizeof none) != 0) {
    Error error = socket_error(fd, "ending it silently");
    if (errno == EBUSY) error.code = Errc::busy;  // kernels 6.4 to 6.6, while another thread waits in a read
    return error;
  }
  // Others may hold the descriptor for long: leave no socket in repair mode, and let listeners bind its port.
  set_int(fd, kSolTcp, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
  set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  return {};
}

}  // namespace gecko::tcp
