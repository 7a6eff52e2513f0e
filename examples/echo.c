/* The papers' echo server in C, a thread for each client: sends back what it gets and hands the connection off when it has read an 'H'.
 * cc -std=c11 echo.c $(pkg-config --cflags --libs gecko) -pthread -o echo && ./echo web
 *
 * A move may come at any time, also because an operator wants it. What has been read and not echoed must travel: the state of a connection is one byte
 * (1: the client has sent its last byte) and then what is to be echoed, as in gecko-echo (echo.cc), so both serve one group together. */
#define _POSIX_C_SOURCE 200809L
#include <gecko/gecko.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 64 * 1024 };

struct client {
  gecko_socket *socket;
  pthread_mutex_t busy; /* held from a read to the write that answers it */
};

/* The library asks: may it go? Reads and writes are locked out. Never wait here for a thread that may be inside a call on the socket. */
static int may_leave(void *arg, gecko_socket *socket) {
  struct client *client = arg;
  if (pthread_mutex_trylock(&client->busy) != 0) return gecko_socket_postpone(socket, "an echo is in progress");
  pthread_mutex_unlock(&client->busy);
  return gecko_socket_set_state(socket, "", 1) == 0; /* one byte of 0: nothing is pending */
}

/* All of it. 0, or a negative code. */
static int write_all(gecko_socket *socket, const char *from, size_t size) {
  while (size > 0) {
    const ssize_t n = gecko_socket_write(socket, from, size);
    const int rc = n == GECKO_AGAIN ? gecko_socket_wait(socket, POLLOUT, -1) : (int)n;
    if (rc < 0) return rc;
    if (n < 0) continue;
    from += n;
    size -= (size_t)n;
  }
  return 0;
}

/* What another node had read. 0, or a negative code. */
static int go_on(struct client *client, int *ended) {
  const size_t size = gecko_socket_get_state(client->socket, NULL, 0);
  if (size == 0) return 0;
  char *state = malloc(size);
  if (state == NULL) return GECKO_LIMIT;
  gecko_socket_get_state(client->socket, state, size);
  *ended = state[0] == 1;
  const int rc = write_all(client->socket, state + 1, size - 1);
  free(state);
  return rc;
}

/* Echoes what is there. 1: go on, 0: over (ended, reset or moved). Lock held. */
static int echo(gecko_socket *socket, int *handoff) {
  char buffer[ROOM];
  const ssize_t n = gecko_socket_read(socket, buffer, sizeof buffer);
  if (n == GECKO_AGAIN) return 1;
  if (n <= 0) return 0;
  *handoff = memchr(buffer, 'H', (size_t)n) != NULL;
  return write_all(socket, buffer, (size_t)n) == 0;
}

static void *serve(void *arg) {
  struct client client = {.socket = arg, .busy = PTHREAD_MUTEX_INITIALIZER};
  int ended = 0, more = 1;
  gecko_socket_set_blocking(client.socket, 0); /* a read must not wait with the lock held */
  pthread_mutex_lock(&client.busy);
  gecko_socket_on_yield(client.socket, may_leave, &client, NULL);
  more = go_on(&client, &ended) == 0;
  pthread_mutex_unlock(&client.busy);
  while (more && !ended) {
    int handoff = 0;
    /* Sleeps until something comes or the connection has moved. Somebody who was told "later" is followed first. */
    if (gecko_socket_is_postponed(client.socket)) gecko_socket_handoff_background(client.socket, NULL);
    if (gecko_socket_wait(client.socket, POLLIN, -1) < 0) break;
    pthread_mutex_lock(&client.busy);
    more = echo(client.socket, &handoff);
    pthread_mutex_unlock(&client.busy);
    if (handoff) gecko_socket_handoff(client.socket, NULL, -1); /* moved: the next call says so. Refused: it stays */
  }
  gecko_socket_close(client.socket); /* waits for may_leave() */
  pthread_mutex_destroy(&client.busy);
  return NULL;
}

static int fail(const char *doing) {
  fprintf(stderr, "echo: %s: %s\n", doing, gecko_last_error());
  return 1;
}

int main(int argc, char **argv) {
  gecko_framework *framework;
  gecko_server *server;
  gecko_socket *socket;
  if (argc != 2) return fprintf(stderr, "usage: echo GROUP\n"), 64;
  if (gecko_framework_open(argv[1], NULL, &framework) < 0) return fail("open the group");
  if (gecko_framework_set_builtin_policy(framework, "random", 0) < 0) return fail("set the policy");
  if (gecko_framework_join(framework) < 0) return fail("join the group");
  if (gecko_server_listen(framework, 0, 0, &server) < 0) return fail("listen");
  printf("echo: node %s serves group %s at %s port %u\n", gecko_framework_node(framework), gecko_framework_group(framework),
         gecko_framework_address(framework), (unsigned)gecko_server_port(server));
  fflush(stdout);
  while (gecko_server_accept(server, -1, &socket) == 0) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve, socket) == 0) pthread_detach(thread);
    else gecko_socket_close(socket);
  }
  return fail("accept");
}
