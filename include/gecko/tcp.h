/* libgecko-tcp: moves a live TCP connection out of one process, or machine, into another. C ABI, usable without geckod.
 *
 *   old owner                                        new owner
 *   gecko_tcp_freeze(fd, &frozen)
 *   gecko_tcp_capture(fd, &frozen, &state)
 *   gecko_tcp_encode(state, ...)  ------ bytes ---->  gecko_tcp_decode(...)
 *                                                     new_fd = gecko_tcp_restore(state, 0)
 *   [packets of the connection now go to the new owner]
 *                                                     gecko_tcp_activate(new_fd, state, NULL, NULL)
 *   gecko_tcp_retire(fd); close(fd)
 *
 * The peer notices nothing: no reset, no byte lost or doubled. Between machines retire comes last, when no packet can
 * reach the old one any more. Within one network namespace it must come before restore, because the two sockets have the
 * same addresses; a packet that arrives between the two would be answered with a reset, so let the peer be silent or drop
 * its packets for that moment. If anything goes wrong before retire, call gecko_tcp_thaw(fd, &frozen) and the connection
 * goes on where it was.
 *
 * Moves: ESTABLISHED, CLOSE_WAIT, FIN_WAIT1, FIN_WAIT2, LAST_ACK and CLOSING connections over IPv6 and IPv4, with unread,
 * unacknowledged and unsent bytes, negotiated options and the usual socket options. Does not move: listening sockets,
 * Multipath TCP, kernel TLS, signed connections (TCP MD5, TCP-AO).
 *
 * While a connection is frozen nobody may read or write it. Packets that arrive meanwhile are dropped silently and sent
 * again by the peer's TCP.
 *
 * Privileges: CAP_NET_ADMIN in the user namespace of the network namespace; the built-in injector also CAP_NET_RAW.
 * Kernel: Linux 5.14 or newer with CONFIG_CHECKPOINT_RESTORE.
 * Threads: every function may be called from any thread; one connection from one thread at a time.
 * Errors: functions return a negative GECKO_TCP_E_...; gecko_tcp_last_error() has the sentence to it.
 * Format of the bytes: docs/protocol/tcp-state.md. Background: docs/tcp-repair.md.
 */
#ifndef GECKO_TCP_H
#define GECKO_TCP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GECKO_TCP_API __attribute__((visibility("default")))

/* The same kinds of failure as everywhere in Gecko (docs/protocol/errors.md), negated. */
enum gecko_tcp_error {
  GECKO_TCP_E_INTERNAL = -1,     /* a system call failed in a way nobody can act on: see the sentence */
  GECKO_TCP_E_INVALID = -2,      /* an argument or a state is malformed */
  GECKO_TCP_E_BUSY = -5,         /* frozen already; unread urgent data */
  GECKO_TCP_E_UNAVAILABLE = -6,  /* the address is not on this machine; no route; the re-created FIN did not arrive */
  GECKO_TCP_E_PERMISSION = -8,   /* a capability is missing */
  GECKO_TCP_E_LIMIT = -9,        /* a queue over 32 MiB; out of memory or descriptors */
  GECKO_TCP_E_UNSUPPORTED = -10, /* not a TCP connection that can move */
  GECKO_TCP_E_CLOSED = -11,      /* the connection is not established, or ended */
  GECKO_TCP_E_EXISTS = -13,      /* a connection with these addresses lives here already */
  GECKO_TCP_E_VERSION = -14      /* the state was written by another version */
};

/* One word for a code, "permission" for example; never NULL. */
GECKO_TCP_API const char *gecko_tcp_strerror(int code);
/* What went wrong in this thread's last failed call: names the connection, the step and, where there is one, the remedy.
 * Valid until the thread's next call of this library; "" if nothing has failed. */
GECKO_TCP_API const char *gecko_tcp_last_error(void);

/* Loads a small eBPF program once per process that makes freeze and restore 7 us cheaper each. Optional; call it before
 * the process gives up bpf(2). Returns 1 if it is in use, 0 if the kernel refuses it (then all works without). */
GECKO_TCP_API int gecko_tcp_prepare(void);

/* What gecko_tcp_freeze changed. Plain data, may be copied, valid on this machine only. */
typedef struct gecko_tcp_frozen {
  uint32_t opaque[12];
} gecko_tcp_frozen;

/* The state of a captured connection. */
typedef struct gecko_tcp_state gecko_tcp_state;

/* Silences a connection in both directions. 0, or on an error the socket is as it was.
 * Errors: closed, busy, unsupported, permission. */
GECKO_TCP_API int gecko_tcp_freeze(int fd, gecko_tcp_frozen *frozen);
/* Reads the whole state of a frozen connection into *state, to be freed with gecko_tcp_state_free. 0, or an error: then
 * *state is NULL and the connection still frozen. Errors: limit, busy, closed, unsupported (link-local address). */
GECKO_TCP_API int gecko_tcp_capture(int fd, const gecko_tcp_frozen *frozen, gecko_tcp_state **state);
/* Undoes a freeze; the connection goes on where it is. 0 or an error. */
GECKO_TCP_API int gecko_tcp_thaw(int fd, const gecko_tcp_frozen *frozen);
/* Ends a frozen or restored connection without sending anything. Other descriptors of the socket see ECONNABORTED. The
 * addresses are free at once; the descriptor is still to be closed. 0 or an error. */
GECKO_TCP_API int gecko_tcp_retire(int fd);

#define GECKO_TCP_FREEBIND 1u /* the address need not be on this machine yet */

/* A new socket with this state, silent until it is activated: its descriptor (blocking, close-on-exec), or an error.
 * Errors: exists, unavailable, permission, invalid, limit. `flags`: 0 or GECKO_TCP_FREEBIND. */
GECKO_TCP_API int gecko_tcp_restore(const gecko_tcp_state *state, unsigned flags);

/* Ways for raw packets in and out of this machine, for callers that have better ones than raw sockets. Each gets a whole
 * IPv6 or IPv4 packet and returns 0, or -1 with errno set. */
typedef struct gecko_tcp_injector {
  void *context;
  int (*to_local)(void *context, const void *packet, size_t size); /* as if received by this machine */
  int (*to_peer)(void *context, const void *packet, size_t size);
} gecko_tcp_injector;

/* Makes a restored connection live. `injector`: NULL for the built-in one. Packets must already be delivered here.
 * If the kernel does not take all bytes that were never sent (it nearly always does), *unsent, if given, is how many of
 * the send queue's last bytes are left: write them before anything else, and then, if gecko_tcp_fin_sent says so, call
 * shutdown(fd, SHUT_WR). With `unsent` NULL, bytes left over are an error (limit).
 * 0 or an error; after an error retire the socket. */
GECKO_TCP_API int gecko_tcp_activate(int fd, const gecko_tcp_state *state, const gecko_tcp_injector *injector, size_t *unsent);

/* Waits until the peer has acknowledged all but `max_left` bytes, at most `timeout_ms` milliseconds: the bytes still
 * unacknowledged or unsent (at most INT64_MAX), or an error. Nobody may write meanwhile. */
GECKO_TCP_API int64_t gecko_tcp_drain(int fd, int timeout_ms, uint32_t max_left);

/* Writes the state as bytes. Returns the bytes needed; writes nothing if that is more than `size`, so call it with
 * (NULL, 0) first. */
GECKO_TCP_API size_t gecko_tcp_encode(const gecko_tcp_state *state, void *to, size_t size);
/* Reads a state from bytes that may come from anywhere. 0, or an error (invalid, version): then *state is NULL. */
GECKO_TCP_API int gecko_tcp_decode(const void *from, size_t size, gecko_tcp_state **state);
GECKO_TCP_API void gecko_tcp_state_free(gecko_tcp_state *state); /* NULL is fine */

/* The bytes that were written but not acknowledged, the never-sent ones last. Borrowed from the state. */
GECKO_TCP_API const void *gecko_tcp_send_queue(const gecko_tcp_state *state, size_t *size);
/* The bytes that arrived but were not read. Borrowed from the state. */
GECKO_TCP_API const void *gecko_tcp_recv_queue(const gecko_tcp_state *state, size_t *size);
/* 1 if the old owner had shut down its sending side. */
GECKO_TCP_API int gecko_tcp_fin_sent(const gecko_tcp_state *state);
/* "[2001:db8::1]:40000 -> [2001:db8:f::80]:443": the peer, then this side. Borrowed from the state. */
GECKO_TCP_API const char *gecko_tcp_name(const gecko_tcp_state *state);

#ifdef __cplusplus
}
#endif
#endif
