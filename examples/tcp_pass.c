/* Passes a live TCP connection from one process to another; its client notices nothing.
 *
 * Three processes on the loopback device: a client that sends numbered lines and checks the echo, a first server that
 * answers three of them, and a second one that goes on from there. Only bytes travel between the two servers; in real life
 * they would be on two machines.
 *
 *   cc tcp_pass.c $(pkg-config --cflags --libs gecko-tcp) -o tcp_pass
 *   unshare --user --map-root-user --net sh -c 'ip link set lo up; exec ./tcp_pass'      (or as root, without unshare)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <gecko/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINES = 8, FIRST_SERVER_ANSWERS = 3 };

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void check(int result) {
  if (result < 0) {
    fprintf(stderr, "%s: %s\n", gecko_tcp_strerror(result), gecko_tcp_last_error());
    exit(1);
  }
}

static void read_all(int fd, void *to, size_t size) {
  for (size_t have = 0; have < size;) {
    ssize_t got = read(fd, (char *)to + have, size - have);
    if (got <= 0) die("read");
    have += (size_t)got;
  }
}

static void write_all(int fd, const void *from, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t put = write(fd, (const char *)from + done, size - done);
    if (put < 0) die("write");
    done += (size_t)put;
  }
}

static void client(const struct sockaddr_in6 *server) {
  int fd = socket(AF_INET6, SOCK_STREAM, 0);
  if (connect(fd, (const struct sockaddr *)server, sizeof *server) != 0) die("connect");
  for (int i = 1; i <= LINES; ++i) {
    char line[32] = {0}, echo[32] = {0};
    snprintf(line, sizeof line, "line %d\n", i);
    write_all(fd, line, sizeof line);
    read_all(fd, echo, sizeof echo);
    if (memcmp(line, echo, sizeof line) != 0) {
      fprintf(stderr, "the echo of line %d is wrong\n", i);
      exit(1);
    }
    printf("client: %s", echo);
    fflush(stdout);
  }
  exit(0);
}

static void answer(int fd, int lines, const char *who) {
  char line[32];
  for (int i = 0; i < lines; ++i) {
    read_all(fd, line, sizeof line);
    printf("%s server answers ", who);
    fflush(stdout);
    write_all(fd, line, sizeof line);
  }
}

/* Gives the connection away: freeze, capture, send the bytes, retire. */
static void give(int connection, int to) {
  /* Wait for the next line: with it unread in the queue, the client is silent until somebody answers. */
  struct pollfd readable = {.fd = connection, .events = POLLIN};
  if (poll(&readable, 1, 10000) != 1) die("poll");

  gecko_tcp_frozen frozen;
  gecko_tcp_state *state;
  check(gecko_tcp_freeze(connection, &frozen));
  int captured = gecko_tcp_capture(connection, &frozen, &state);
  if (captured < 0) {
    fprintf(stderr, "%s\n", gecko_tcp_last_error());
    check(gecko_tcp_thaw(connection, &frozen)); /* and serve on */
    exit(1);
  }
  size_t size = gecko_tcp_encode(state, NULL, 0), unread;
  void *bytes = malloc(size);
  if (!bytes || gecko_tcp_encode(state, bytes, size) > size) die("malloc");
  (void)gecko_tcp_recv_queue(state, &unread);
  printf("passing %s: %zu bytes, of them %zu unread\n", gecko_tcp_name(state), size, unread);
  fflush(stdout);
  check(gecko_tcp_retire(connection)); /* before the other one restores: both are on one machine */
  close(connection);
  write_all(to, &size, sizeof size);
  write_all(to, bytes, size);
  free(bytes);
  gecko_tcp_state_free(state);
}

static int take(int from) {
  size_t size, unsent;
  read_all(from, &size, sizeof size);
  void *bytes = malloc(size);
  if (!bytes) die("malloc");
  read_all(from, bytes, size);
  gecko_tcp_state *state;
  check(gecko_tcp_decode(bytes, size, &state));
  free(bytes);
  int connection = gecko_tcp_restore(state, 0);
  check(connection);
  check(gecko_tcp_activate(connection, state, NULL, &unsent));
  size_t queued;
  const char *queue = gecko_tcp_send_queue(state, &queued);
  write_all(connection, queue + queued - unsent, unsent); /* nearly always 0 bytes */
  if (unsent != 0 && gecko_tcp_fin_sent(state)) shutdown(connection, SHUT_WR);
  gecko_tcp_state_free(state);
  return connection;
}

int main(void) {
  struct sockaddr_in6 where = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  socklen_t size = sizeof where;
  int listener = socket(AF_INET6, SOCK_STREAM, 0), link[2];
  if (bind(listener, (struct sockaddr *)&where, size) != 0 || listen(listener, 1) != 0) die("listen");
  if (getsockname(listener, (struct sockaddr *)&where, &size) != 0) die("getsockname");
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, link) != 0) die("socketpair");

  if (fork() == 0) client(&where);
  if (fork() == 0) {
    close(listener);
    close(link[0]);
    int connection = take(link[1]);
    answer(connection, LINES - FIRST_SERVER_ANSWERS, "second");
    exit(0);
  }
  close(link[1]);
  int connection = accept(listener, NULL, NULL);
  if (connection < 0) die("accept");
  answer(connection, FIRST_SERVER_ANSWERS, "first");
  give(connection, link[0]);

  int failures = 0;
  for (int i = 0, status; i < 2; ++i)
    if (wait(&status) < 0 || status != 0) failures = 1;
  return failures;
}
