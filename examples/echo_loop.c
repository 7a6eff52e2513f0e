/* The echo server of echo.c as an event loop: one thread, one epoll, no locks; the library starts no thread either.
 * cc -std=c11 echo_loop.c $(pkg-config --cflags --libs gecko) -o echo_loop && ./echo_loop web
 *
 * The callback runs in dispatch() and in handoffs only, so it finds every client between two events. What has been read and not echoed goes into the
 * state, in gecko-echo's format. */
#include <gecko/gecko.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { ROOM = 64 * 1024 };

struct client {
  gecko_socket *socket;
  uint32_t watched;     /* events */
  int ended;            /* it has sent its last byte */
  size_t at, size;      /* pending: data[at .. size) */
  char data[1 + ROOM];  /* data[0] is kept free for the state's first byte */
};

static int epoll;

static int fail(const char *doing) {
  fprintf(stderr, "echo_loop: %s: %s\n", doing, gecko_last_error());
  return 1;
}

static int pack(void *arg, gecko_socket *socket) {
  struct client *c = arg;
  c->data[c->at - 1] = (char)c->ended; /* at is at least 1, and what is before it has been echoed */
  return gecko_socket_set_state(socket, c->data + c->at - 1, c->size - c->at + 1) == 0;
}

/* 1: all is written or the client must take some first, 0: over. */
static int flush(struct client *c) {
  while (c->at < c->size) {
    const ssize_t n = gecko_socket_write(c->socket, c->data + c->at, c->size - c->at);
    if (n < 0) return n == GECKO_AGAIN;
    c->at += (size_t)n;
  }
  return 1;
}

/* Does what can be done now and says what to wait for. 0: over (ended, reset or moved). */
static int ready(struct client *c) {
  for (;;) {
    if (!flush(c)) return 0;
    if (c->at < c->size) break; /* stop reading from a client that does not take its echo */
    if (c->ended) return 0;
    const ssize_t n = gecko_socket_read(c->socket, c->data + 1, ROOM);
    if (n == GECKO_AGAIN) break;
    if (n < 0) return 0;
    c->ended = n == 0;
    c->at = 1;
    c->size = 1 + (size_t)n;
    if (memchr(c->data + 1, 'H', (size_t)n) == NULL) continue;
    if (!flush(c)) return 0;
    gecko_socket_handoff_background(c->socket, NULL); /* nobody can take it: it stays */
  }
  const uint32_t wanted = c->at < c->size ? EPOLLOUT : EPOLLIN;
  if (wanted == c->watched) return 1;
  c->watched = wanted;
  return gecko_socket_watch(c->socket, epoll, wanted, (uintptr_t)c) == 0; /* not epoll_ctl: a move must be able to undo it */
}

static void end(struct client *c) {
  gecko_socket_close(c->socket);
  free(c);
}

static void start(gecko_socket *socket) {
  struct client *c = calloc(1, sizeof *c);
  size_t size = gecko_socket_get_state(socket, NULL, 0);
  if (c == NULL || size > sizeof c->data) { /* another program's: this one never has more pending */
    gecko_socket_close(socket);
    free(c);
    return;
  }
  c->socket = socket;
  c->at = c->size = 1;
  if (size > 0) {
    gecko_socket_get_state(socket, c->data, size);
    c->ended = c->data[0] == 1;
    c->size = size;
  }
  gecko_socket_on_yield(socket, pack, c, NULL);
  if (!ready(c)) end(c);
}

static int add(int fd, uint64_t key) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = key};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

int main(int argc, char **argv) {
  enum { FRAMEWORK = 1, SERVER = 2 }; /* keys; others are pointers */
  const struct gecko_options options = {.size = sizeof options, .flags = GECKO_EVENT_LOOP};
  gecko_framework *framework;
  gecko_server *server;
  gecko_socket *socket;
  if (argc != 2) return fprintf(stderr, "usage: echo_loop GROUP\n"), 64;
  if (gecko_framework_open(argv[1], &options, &framework) < 0) return fail("open the group");
  if (gecko_framework_set_builtin_policy(framework, "random", 0) < 0) return fail("set the policy");
  if (gecko_framework_join(framework) < 0) return fail("join the group");
  if (gecko_server_listen(framework, 0, 0, &server) < 0) return fail("listen");
  gecko_server_set_blocking(server, 0); /* and its sockets */
  epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0 || add(gecko_framework_fd(framework), FRAMEWORK) != 0 || add(gecko_server_fd(server), SERVER) != 0) return perror("echo_loop: epoll"), 1;
  printf("echo_loop: node %s serves group %s at %s port %u\n", gecko_framework_node(framework), gecko_framework_group(framework),
         gecko_framework_address(framework), (unsigned)gecko_server_port(server));
  fflush(stdout);
  for (;;) {
    struct epoll_event events[64];
    const int n = epoll_wait(epoll, events, 64, -1);
    for (int i = 0; i < n; ++i) {
      struct client *c = (struct client *)(uintptr_t)events[i].data.u64;
      if (events[i].data.u64 == FRAMEWORK) gecko_framework_dispatch(framework); /* an error: geckod has gone; the framework comes back by itself */
      else if (events[i].data.u64 == SERVER)
        while (gecko_server_accept(server, 0, &socket) == 0) start(socket);
      else if (!ready(c)) end(c);
    }
  }
}
