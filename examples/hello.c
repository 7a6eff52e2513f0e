/* The C interface in thirty lines: greets every client of the group with the name of the node that serves it.
 * cc hello.c $(pkg-config --cflags --libs gecko) && ./a.out web */
#include <gecko/gecko.h>
#include <stdio.h>

static int fail(const char *doing) {
  fprintf(stderr, "hello: %s: %s\n", doing, gecko_last_error());
  return 1;
}

int main(int argc, char **argv) {
  gecko_framework *framework;
  gecko_server *server;
  gecko_socket *client;
  char text[128];

  if (argc != 2) return fprintf(stderr, "usage: hello GROUP\n"), 64;
  if (gecko_framework_open(argv[1], NULL, &framework) < 0) return fail("open");
  if (gecko_framework_join(framework) < 0) return fail("join");
  if (gecko_server_listen(framework, 0, 0, &server) < 0) return fail("listen");
  while (gecko_server_accept(server, -1, &client) == 0) {
    int n = snprintf(text, sizeof text, "Hello %s, this is %s.\n", gecko_socket_peer_text(client), gecko_framework_node(framework));
    if (gecko_socket_write(client, text, (size_t)n) < 0) fail("write");
    gecko_socket_close(client);
  }
  fail("accept");
  gecko_server_close(server);
  gecko_framework_close(framework);
  return 1;
}
