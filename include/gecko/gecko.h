/* libgecko: serve a group of machines behind one address; live TCP connections move between them, clients notice nothing.
 *
 * This is the C interface, the library's whole ABI; C++ has a thin layer over it in <gecko/gecko.hh>. A guide with examples is in
 * docs/api.md, the manual page is libgecko(3). Needs geckod running on this machine.
 *
 * Results: 0 or a count on success, a negative enum gecko_code on failure; gecko_last_error() then has the text (per thread). errno is
 * left as it was. SIGPIPE is never raised.
 * Strings are UTF-8; addresses are written 2001:db8::1 or 192.0.2.1, endpoints [2001:db8::1]:443 or 192.0.2.1:443.
 * Threads: every function may be called from any thread at any time, except that an object must not be freed (gecko_*_close) while
 * another thread is inside a call on it. Other threads survive gecko_socket_end() and gecko_server_end().
 * fork(): a child must not use what its parent opened (calls fail with GECKO_INVALID); it may exec, or open its own framework.
 * Timeouts are in milliseconds; negative: for ever.
 */
#ifndef GECKO_GECKO_H
#define GECKO_GECKO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GECKO_API __attribute__((visibility("default")))

enum gecko_code {
  GECKO_OK = 0,
  GECKO_INTERNAL = -1,     /* the world broke in a way nobody can act on: see the text */
  GECKO_INVALID = -2,      /* an argument is malformed or does not fit the moment */
  GECKO_NOT_FOUND = -3,    /* no such node, group, file */
  GECKO_REFUSED = -4,      /* the other side said no */
  GECKO_BUSY = -5,         /* another operation on the same thing is running */
  GECKO_UNAVAILABLE = -6,  /* geckod or a node cannot be reached */
  GECKO_TIMEOUT = -7,
  GECKO_PERMISSION = -8,   /* this user may not do this: [rights] in the group file */
  GECKO_LIMIT = -9,
  GECKO_UNSUPPORTED = -10,
  GECKO_CLOSED = -11,      /* the connection has ended, or the object has been closed */
  GECKO_MOVED = -12,       /* the connection lives on another node now: close the socket, nothing else is to be done */
  GECKO_EXISTS = -13,
  GECKO_VERSION_MISMATCH = -14,
  GECKO_AGAIN = -15        /* non-blocking: nothing can be done now */
};

typedef struct gecko_framework gecko_framework; /* membership of this process in one group */
typedef struct gecko_server gecko_server;       /* listens on the group's address */
typedef struct gecko_socket gecko_socket;       /* one connection */
typedef struct gecko_policy gecko_policy;       /* a built-in policy with its own memory */

GECKO_API const char *gecko_version(void);
GECKO_API const char *gecko_last_error(void);        /* never NULL; valid until the next failure on this thread */
GECKO_API const char *gecko_code_name(int code);     /* "moved" */

/* --- framework ------------------------------------------------------------------------------------------------------------ */

#define GECKO_EVENT_LOOP 1u /* no thread: the application polls gecko_framework_fd() and calls gecko_framework_dispatch() */

struct gecko_options {
  size_t size;            /* sizeof(struct gecko_options) */
  uint32_t flags;
  const char *interface;  /* NULL: the group file's; informative, geckod owns the interfaces */
  const char *daemon;     /* geckod's socket; NULL: $GECKO_SOCKET, else /run/gecko/geckod.sock */
  const char *program;    /* name for 'gecko status'; NULL: the process's */
};

/* Connects to geckod. `group`: a group's name, or its file (contains a '/' or ends in .toml), which is read only for the name.
 * When geckod restarts later, the framework reconnects, joins and announces its connections by itself. options may be NULL. */
GECKO_API int gecko_framework_open(const char *group, const struct gecko_options *options, gecko_framework **framework);
/* Connections on their way get 2 s to settle. Open sockets go on as plain connections that no longer move; servers are dead. */
GECKO_API void gecko_framework_close(gecko_framework *framework);
GECKO_API int gecko_framework_join(gecko_framework *framework);   /* from now on connections may arrive here */
GECKO_API int gecko_framework_leave(gecko_framework *framework);  /* no new ones; its own go on and can still move */
/* Clients that are here although no program has accepted them: a policy waits for their first bytes or has sent them on and does not know yet
 * whether they arrived, or they have arrived from elsewhere. Who leaves may end when this is 0 and its own sockets have gone. */
GECKO_API size_t gecko_framework_unaccepted(gecko_framework *framework);
GECKO_API int gecko_framework_fd(gecko_framework *framework);     /* becomes readable: dispatch */
GECKO_API int gecko_framework_dispatch(gecko_framework *framework);
GECKO_API int gecko_framework_is_connected(gecko_framework *framework);
/* Known after join, valid until close; "" before. */
GECKO_API const char *gecko_framework_group(gecko_framework *framework);
GECKO_API const char *gecko_framework_address(gecko_framework *framework);
GECKO_API const char *gecko_framework_node(gecko_framework *framework);      /* this node's name */
GECKO_API const char *gecko_framework_interface(gecko_framework *framework);
GECKO_API size_t gecko_framework_ports(gecko_framework *framework, uint16_t *ports, size_t max); /* how many there are */
/* 1: the group file says `recovery`: connections outlive their node, and checkpoints (gecko_socket_checkpoint) are of use. */
GECKO_API int gecko_framework_recovers(gecko_framework *framework);
/* Which connections of this port come to this program when their node has died. Unsaid: those with a checkpoint. wanted = 1: all of them, also those whose
 * program had made none (yet): it goes on with them, or ends them in its protocol's words. wanted = 0: none; they are not even protected. After join and
 * before the first listen on the port; kept when geckod restarts. A geckod of an older version is not told. */
GECKO_API int gecko_framework_set_recovery(gecko_framework *framework, uint16_t port, int wanted);
/* In a group with `recovery = "replicated"`: wanted = 0: this program's connections of the port are recovered as with "fast". Unsaid, or 1: what it reads is
 * with other nodes before its client is told that it has arrived, and what it writes waits until they have it (a round trip between nodes). For programs that
 * read the descriptor directly, or whose output depends on more than the bytes of its own connection. When, and how long it is kept, as with set_recovery. */
GECKO_API int gecko_framework_set_replicated(gecko_framework *framework, uint16_t port, int wanted);

struct gecko_member {
  char name[64];
  char address[46];
  uint8_t up, self, contact;
  uint32_t connections;   /* owned by that node in this group; for policies plus what was sent there since the last report */
  uint32_t applications;  /* joined there; 0: it cannot take a connection */
  uint32_t weight;        /* of new connections, from the group file; 1 if it gives none */
  uint32_t reserved[3];
};
/* How many members there are; fills at most max of them. */
GECKO_API int gecko_framework_members(gecko_framework *framework, struct gecko_member *members, size_t max);
/* The same; applications is 0 of a node that has none for this port of the group. */
GECKO_API int gecko_framework_members_on(gecko_framework *framework, uint16_t port, struct gecko_member *members, size_t max);
GECKO_API int gecko_framework_set_contact(gecko_framework *framework, const char *node);

struct gecko_client_outcome {
  uint8_t id[16];
  char client[64];        /* endpoint */
  char from[64];          /* the node that owned it */
  int code;               /* 0: moved */
  char reason[256];
};
/* Moves all connections of a client, wherever they are. client: an endpoint, or an address for all its ports. How many there were. */
GECKO_API int gecko_framework_handoff_client(gecko_framework *framework, const char *client, const char *target,
                                             struct gecko_client_outcome *outcomes, size_t max);
/* An accepted connection on the group's address; takes the descriptor over on success. */
GECKO_API int gecko_framework_adopt(gecko_framework *framework, int fd, gecko_socket **socket);
/* A connection from the group's address, which can move like any other. */
GECKO_API int gecko_framework_connect(gecko_framework *framework, const char *peer, int timeout_ms, gecko_socket **socket);

/* --- policies ------------------------------------------------------------------------------------------------------------- */

/* With a policy, the contact node asks it about every new client: if it names another node, the client is handed off in the background
 * and accept does not return it. Calls are serialised and come from whichever thread is in the library; no waiting calls inside.
 * Where the group file names a policy, geckod has spread the clients at their first packet already, and a second policy at accept only sends
 * them round once more.
 * A policy that looks at first bytes is asked on every node about the clients that were accepted there, as soon as they have said enough, have
 * ended their stream, or its patience is over; until then accept does not return them, and no thread waits for them. */
#define GECKO_POLICY_WHEN_ASKED 1u       /* not for new clients: only for handoffs without a target */
#define GECKO_POLICY_ONLY_UNPLACED 4u    /* not for new clients where the group file names a policy: built-in policies are so */
#define GECKO_POLICY_WHEN_FIRST_BYTES 2u /* new clients: when their first bytes are there (gecko_socket_peek) */

struct gecko_policy_calls {
  size_t size;            /* sizeof(struct gecko_policy_calls) */
  uint32_t flags;
  /* Index into members (only nodes that can take the connection), -1: stay. The socket is valid during the call only. */
  int (*select_target)(void *arg, gecko_socket *socket, const struct gecko_member *members, size_t count);
  void (*notify_failed_handoff)(void *arg, const char *target, int code, const char *message); /* may be NULL */
  void (*destroy)(void *arg);                                                                   /* may be NULL */
  /* With GECKO_POLICY_WHEN_FIRST_BYTES: */
  uint32_t first_bytes;            /* enough anyway; 0: 4096, at most 65536 */
  uint32_t first_bytes_timeout_ms; /* so long a client may be silent; 0: 1000, at most 60000 */
  int (*enough)(void *arg, const void *bytes, size_t size); /* 1: decide now, 0: wait for more; NULL: any byte is enough */
};
GECKO_API int gecko_framework_set_policy(gecko_framework *framework, const struct gecko_policy_calls *calls, void *arg);
/* "random", "round-robin", "least-connections", "weighted", "hash-client", "hash-bytes" (gecko-group.toml(5) says what they do; hash-bytes looks at
 * first bytes, whatever the flags), or "none" to remove the policy. */
GECKO_API int gecko_framework_set_builtin_policy(gecko_framework *framework, const char *name, uint32_t flags);
/* The built-in ones as building blocks of others. */
GECKO_API int gecko_policy_open(const char *name, gecko_policy **policy);
GECKO_API int gecko_policy_select(gecko_policy *policy, const struct gecko_member *members, size_t count);
/* For a connection: hash-client and hash-bytes need one (else they take the least loaded node). */
GECKO_API int gecko_policy_select_for(gecko_policy *policy, gecko_socket *socket, const struct gecko_member *members, size_t count);
GECKO_API void gecko_policy_close(gecko_policy *policy);

/* --- server socket -------------------------------------------------------------------------------------------------------- */

/* port 0: the group's first; backlog 0: a good one. */
GECKO_API int gecko_server_listen(gecko_framework *framework, uint16_t port, int backlog, gecko_server **server);
/* New clients and connections that arrive from other nodes. Sockets inherit the server's blocking mode. */
GECKO_API int gecko_server_accept(gecko_server *server, int timeout_ms, gecko_socket **socket);
GECKO_API int gecko_server_set_blocking(gecko_server *server, int blocking);
GECKO_API int gecko_server_fd(gecko_server *server);    /* readable: accept has something; only for poll and the like */
GECKO_API uint16_t gecko_server_port(gecko_server *server);
GECKO_API void gecko_server_end(gecko_server *server);   /* listens no more; threads in accept return GECKO_CLOSED */
GECKO_API void gecko_server_close(gecko_server *server); /* ends it and frees the object */

/* --- socket --------------------------------------------------------------------------------------------------------------- */

/* Bytes, 0 from read at the end of the stream. Blocking writes write everything, less only if the connection moves or ends meanwhile. */
GECKO_API ssize_t gecko_socket_read(gecko_socket *socket, void *buffer, size_t size);
GECKO_API ssize_t gecko_socket_write(gecko_socket *socket, const void *buffer, size_t size);
GECKO_API ssize_t gecko_socket_readv(gecko_socket *socket, const struct iovec *parts, int count);
GECKO_API ssize_t gecko_socket_writev(gecko_socket *socket, const struct iovec *parts, int count);
/* What read would give, left where it is: bytes, 0 at the end of the stream, GECKO_AGAIN if there is nothing; never waits. */
GECKO_API ssize_t gecko_socket_peek(gecko_socket *socket, void *buffer, size_t size);
/* poll(2) for this socket (POLLIN, POLLOUT), which a move interrupts: ready events, 0 at the timeout, GECKO_MOVED. Plain poll sleeps on.
 * A move that was postponed (gecko_socket_postpone) ends one wait, this or the next, with 0: is_postponed says 1, and it can follow at once. */
GECKO_API int gecko_socket_wait(gecko_socket *socket, short events, int timeout_ms);
GECKO_API int gecko_socket_set_blocking(gecko_socket *socket, int blocking);
GECKO_API int gecko_socket_is_blocking(gecko_socket *socket);
GECKO_API int gecko_socket_shutdown(gecko_socket *socket, int how);
GECKO_API void gecko_socket_end(gecko_socket *socket);   /* closes the connection; calls of other threads return GECKO_CLOSED */
GECKO_API void gecko_socket_close(gecko_socket *socket); /* ends it and frees the object */
GECKO_API int gecko_socket_peer_name(gecko_socket *socket, struct sockaddr_storage *name);  /* length of the name */
GECKO_API int gecko_socket_local_name(gecko_socket *socket, struct sockaddr_storage *name);
GECKO_API const char *gecko_socket_peer_text(gecko_socket *socket);   /* "[2001:db8::1]:4711", valid as long as the object */
GECKO_API const char *gecko_socket_local_text(gecko_socket *socket);
GECKO_API void gecko_socket_id(gecko_socket *socket, uint8_t id[16]); /* the same on every node */
GECKO_API const char *gecko_socket_from(gecko_socket *socket);        /* node it came from; "" for a new client */
GECKO_API int gecko_socket_fd(gecko_socket *socket);     /* keeps its number across a move that fails; after a move it reads as end of stream */
enum gecko_socket_state { GECKO_SOCKET_LIVE, GECKO_SOCKET_MOVING, GECKO_SOCKET_MOVED, GECKO_SOCKET_ENDED };
GECKO_API int gecko_socket_state(gecko_socket *socket);
/* Registers the socket in the application's epoll with data.u64 = data, or changes the registration. The library takes it away before a
 * move and puts it back after it; after a successful move it reports EPOLLHUP so that the loop wakes up and read says moved.
 * (epoll_ctl by hand would be wrong: other copies of the descriptor keep a registration alive.) Unwatch before closing the epoll. */
GECKO_API int gecko_socket_watch(gecko_socket *socket, int epoll_fd, uint32_t events, uint64_t data);
GECKO_API void gecko_socket_unwatch(gecko_socket *socket);

/* The application's state of the connection (at most 1 MiB): travels with it, is there when it has arrived. */
GECKO_API int gecko_socket_set_state(gecko_socket *socket, const void *data, size_t size);
GECKO_API size_t gecko_socket_get_state(gecko_socket *socket, void *data, size_t max);  /* its size; fills at most max */

/* For the day this node dies: the program's state (at most 1 MiB) after all that it has read and written so far, kept by other nodes until the next
 * checkpoint of this connection. No other thread may read or write it meanwhile. It is under way when this returns: a node that dies within milliseconds
 * may take it along, then the one before counts. In a replicated connection what is written after it waits until they have it. A connection that has
 * moved needs a new one at its new node. GECKO_UNSUPPORTED: it has passed a node of an older version. Of use only where the group file says `recovery`,
 * and where the program listens with it. */
GECKO_API int gecko_socket_checkpoint(gecko_socket *socket, const void *data, size_t size);
/* Bytes that were read from and written to the connection since its birth, on whatever nodes; also right where the program uses the descriptor
 * directly. Either pointer may be NULL. */
GECKO_API int gecko_socket_offsets(gecko_socket *socket, uint64_t *received, uint64_t *sent);
/* A connection that accept returned because its node has died (gecko_socket_from). The client has received `sent` bytes of the program's output,
 * exactly: the next byte written must be the one after. Of the client's bytes, `received` have been taken by the dead node and do not come again; the next
 * byte read is the one after. A checkpoint says how far the program was at two offsets: what it had written since, up to `sent`, is not to be
 * written again (if it was more than `sent`, the rest is); what it had read since, from `input` to `received`, is gone. Whoever cannot go on from there
 * closes the connection. */
struct gecko_recovery {
  size_t size;             /* sizeof(struct gecko_recovery) */
  uint64_t received, sent;
  uint64_t input, output;  /* of the checkpoint: bytes read and written when it was made */
  uint8_t has_checkpoint;
};
GECKO_API int gecko_socket_recovery(gecko_socket *socket, struct gecko_recovery *recovery);  /* 1: recovered; 0: it is not */
GECKO_API size_t gecko_socket_get_checkpoint(gecko_socket *socket, void *data, size_t max);  /* its size; fills at most max */

/* Called when the connection is about to leave: reads and writes are locked out already; set the state and return 1, or 0 to keep the
 * connection. Runs on any thread of the library's choice, in event-loop mode inside dispatch and handoff. Must not wait for a thread that may be inside
 * a call on this socket (use trylock and return 0). arg is given to destroy (may be NULL) in the end. fn NULL: no callback. */
typedef int (*gecko_yield_fn)(void *arg, gecko_socket *socket);
GECKO_API int gecko_socket_on_yield(gecko_socket *socket, gecko_yield_fn fn, void *arg, void (*destroy)(void *arg));
GECKO_API int gecko_socket_set_movable(gecko_socket *socket, int movable);
/* The same with a reason, which operators are told; NULL: it can move again. */
GECKO_API int gecko_socket_stay(gecko_socket *socket, const char *reason);
/* Inside the yield callback: "not now, it will follow by itself"; returns 0, for `return gecko_socket_postpone(s, "a request is in
 * progress");`. From then on is_postponed says 1, and when the moment has come, gecko_socket_handoff_background(socket, NULL) takes the
 * connection to where it was asked for. */
GECKO_API int gecko_socket_postpone(gecko_socket *socket, const char *reason);
GECKO_API int gecko_socket_is_postponed(gecko_socket *socket);

/* Moves the connection to a node (name or address), NULL: by the policy, without one to a node of geckod's choice. Waits for the outcome:
 * 0: moved, all further calls say GECKO_MOVED; else it is here and goes on (GECKO_TIMEOUT: it is still on its way). */
GECKO_API int gecko_socket_handoff(gecko_socket *socket, const char *target, int timeout_ms);
/* Returns at once. If the target fails, the policy chooses another, three in all; each failure is reported to the policy. */
GECKO_API int gecko_socket_handoff_background(gecko_socket *socket, const char *target);

#ifdef __cplusplus
}
#endif

#endif
