// Moving one live TCP connection out of this kernel and into another (TCP_REPAIR; papers: TCPCP, D3.2.11 section 2.2).
//
// The life of a move:   donor:    freeze -> capture -> (thaw | retire)
//                       acceptor: restore -> (activate | retire)
// and before it, if wanted, drain. A frozen or restored socket is silent: it neither takes packets (socket filter
// "return 0") nor sends any (repair mode, send window 0). While frozen nobody may read or write the descriptor.
//
// Needs CAP_NET_ADMIN in the network namespace's user namespace. No function blocks, except drain (bounded) and activate
// when a FIN it has re-created does not arrive (200 ms, then an error).
// IPv6 and IPv4 (also IPv4 on an AF_INET6 socket). Errors name the connection. Threads: none of its own.
// Facts behind every step: docs/design notes in docs/tcp-repair.md.
#pragma once

#include <chrono>
#include <memory>

#include "base/fd.hh"
#include "base/result.hh"
#include "wire/tcp_state.hh"

namespace gecko::tcp {

// Does once per process what must happen before it gives up bpf(2) (seccomp, capabilities). Optional: without it, or
// where it is refused, everything works, each freeze and restore only costs 7 us more. Returns whether the fast path is on.
bool prepare();

// What freeze changed and thaw must put back.
struct Frozen {
  uint32_t snd_wl1 = 0, snd_wnd = 0, max_window = 0, rcv_wnd = 0, rcv_wup = 0;  // as before the freeze
  // What freeze saw on its way; saves capture a look. kernel_state 0: capture looks itself.
  uint32_t segs_in = 0, unacked_segments = 0, notsent_bytes = 0;
  uint8_t kernel_state = 0;
  bool keepalive = false;  // was on. Off while frozen: its timer knows nothing of repair mode, and unanswered it ends in a reset
};

// Has a segment set the send window since? `snd_wl1`: as the frozen socket tells it now. If so the saved window does not belong to the
// acknowledged position any more: together they would reach beyond what the peer has room for, and it would drop all of it.
inline bool heard_since_freeze(uint32_t snd_wl1, const Frozen& frozen) { return snd_wl1 != frozen.snd_wl1 - 1; }

// Gives raw IP packets a way in and out where the kernel has no call for it. Packets are whole IPv6/IPv4 packets with
// correct checksums.
class Injector {
 public:
  virtual ~Injector() = default;
  // Deliver to this machine's own TCP as if received (a FIN the old kernel had already taken).
  virtual Status to_local(wire::ByteView packet) = 0;
  // Send to the peer (the one-byte nudge that makes it report its state at once).
  virtual Status to_peer(wire::ByteView packet) = 0;
};

// Silences the socket in both directions. On error the socket is as it was. Errors: closed (TIME_WAIT, CLOSE, SYN_*,
// LISTEN: not movable), busy (frozen already), permission, unsupported (not TCP, MD5/AO signed, MPTCP, kTLS, a socket
// filter of the application's own).
Result<Frozen> freeze(int fd);

// Reads the whole state of a frozen socket. Errors: limit (a queue over kMaxQueueBytes), closed (it died meanwhile),
// busy (unread urgent data: movable once the application has read it), unsupported (link-local address).
// `ahead`: so many of the oldest unread bytes are at the acceptor already (tcp/ahead.hh) and are left out of recv_queue; more than there
// are: invalid. `segments_in`, if given, is set to what segments_in() says at the moment of the capture.
Result<wire::TcpState> capture(int fd, const Frozen& frozen, uint32_t ahead = 0, uint32_t* segments_in = nullptr);

// How many segments the socket has taken so far. More than at its capture: one was past the filters before they were attached, on a virtual
// CPU that stood still since, and the peer may have its acknowledgement; the captured state must not come to life.
Result<uint32_t> segments_in(int fd);

// Undoes a freeze: the connection goes on here, with nothing lost. With an injector the peer is nudged to say at once
// what it sent and acknowledged meanwhile; without, a kernel window probe asks (the answer may take 500 ms).
Status thaw(int fd, const Frozen& frozen, Injector* injector = nullptr);

// What thaw needs of a socket that another process has frozen and left behind; the peer's window is its largest so far, until the peer says
// how it is. Errors: invalid (not frozen).
Result<Frozen> find_frozen(int fd);

// A whole IP packet for Injector::to_peer: a segment of this frozen or restored socket that changes nothing at the peer and makes it say
// where it is. To whomever steering sends the answer: one that has the connection takes it, one that has not resets it.
Result<wire::Bytes> nudge_of(int fd);

// Ends a frozen or restored socket without a packet, whoever else holds descriptors of it (they see ECONNABORTED).
Status retire(int fd);

struct RestoreOptions {
  // Bind even if the address is not (yet) local: IPV6_FREEBIND / IP_FREEBIND.
  bool freebind = false;
  // Unread bytes that come before those of the state's recv_queue: they were sent ahead of it. Borrowed for the call.
  wire::ByteView ahead = {};
};
// A new blocking, close-on-exec socket with this state, silent (repair mode and filter). Errors: exists (this 4-tuple lives here already),
// unsupported (e.g. congestion control not available is NOT an error: the default is used), permission, invalid, limit.
Result<Fd> restore(const wire::TcpState& state, const RestoreOptions& options = {});

// Makes a restored socket live: filter off, repair off, never-sent bytes queued, FINs re-created, peer nudged.
// Steering must already deliver the flow here (promise 3); held packets may be released as soon as it returns.
// Never-sent bytes that the kernel did not take at once (normally none) are returned in `unsent`: the caller must write
// them before anything else, and then, if `shutdown_after` is set, call shutdown(SHUT_WR).
// On an error the socket may be half live: retire it.
struct Activation {
  wire::Bytes unsent;
  bool shutdown_after = false;
};
Result<Activation> activate(int fd, const wire::TcpState& state, Injector& injector);

// Waits until the peer has acknowledged everything sent, or at most `max_left` bytes are unacknowledged, or `timeout`
// passed (papers: tcpcp_flush). Returns the bytes still unacknowledged or unsent. The socket is live while it waits;
// the caller sees to it that nobody writes.
struct DrainResult { uint32_t bytes_left = 0; };
Result<DrainResult> drain(int fd, std::chrono::milliseconds timeout, uint32_t max_left = 0);

// Positions without changing anything (for diagnosis and the steering barrier): segments taken so far, TCP_INFO's state,
// bytes sent or queued but not acknowledged, bytes not yet read (both without FINs).
// `rcv_nxt`, the next expected sequence number, is known only of a frozen socket, else 0.
struct Positions { uint32_t segs_in = 0; uint32_t rcv_nxt = 0; uint8_t kernel_state = 0; uint32_t unacked_bytes = 0, unread_bytes = 0; };
Result<Positions> positions(int fd);

// Raw sockets (CAP_NET_RAW): for use without geckod.
Result<std::unique_ptr<Injector>> make_raw_injector();

}  // namespace gecko::tcp
