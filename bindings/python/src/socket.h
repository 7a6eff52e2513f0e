/* gecko.Socket: what socket.c (life, attributes), socket_io.c, socket_moves.c and socket_recovery.c share. */
#ifndef GECKO_PY_SOCKET_H
#define GECKO_PY_SOCKET_H

#include "gecko_py.h"

typedef struct {
  PyObject_HEAD
  Lease lease;
  Boundary *boundary;   /* not inside the object: the library may look at it while the object is being freed */
  PyObject *framework;  /* keeps it open */
  PyObject *callback;   /* on_yield, or NULL */
  PyObject *weakrefs;
  double timeout;
} Socket;

/* Around every call; NULL: closed, exception set. */
static inline gecko_socket *socket_enter(Socket *self) { return lease_enter(&self->lease, "socket"); }
static inline void socket_leave(Socket *self) { lease_leave(&self->lease); }

/* Events, 0: timeout, a code, INTERRUPTED. */
int socket_wait_events(gecko_socket *socket, short events, double seconds);
void socket_rests_no_more(Socket *self);

/* Methods: socket_io.c */
PyObject *socket_read(Socket *self, PyObject *args, PyObject *kwargs);
PyObject *socket_peek(Socket *self, PyObject *args, PyObject *kwargs);
PyObject *socket_recv_into(Socket *self, PyObject *buffer);
PyObject *socket_read_now(Socket *self, PyObject *args);
PyObject *socket_rest_no_more(Socket *self, PyObject *unused);
PyObject *socket_write(Socket *self, PyObject *data);
PyObject *socket_write_now(Socket *self, PyObject *data);
PyObject *socket_writing(Socket *self, PyObject *yes);
PyObject *socket_wait(Socket *self, PyObject *args, PyObject *kwargs);
PyObject *socket_shutdown(Socket *self, PyObject *args, PyObject *kwargs);
/* Methods: socket_moves.c */
PyObject *socket_handoff(Socket *self, PyObject *args, PyObject *kwargs);
PyObject *socket_handoff_background(Socket *self, PyObject *args, PyObject *kwargs);
PyObject *socket_checkpoint(Socket *self, PyObject *unused);
PyObject *socket_on_yield(Socket *self, PyObject *callback);
PyObject *socket_stay(Socket *self, PyObject *args);
PyObject *socket_postpone(Socket *self, PyObject *args);
PyObject *socket_watch(Socket *self, PyObject *args);
PyObject *socket_unwatch(Socket *self, PyObject *unused);
/* Methods: socket_recovery.c */
PyObject *socket_save_checkpoint(Socket *self, PyObject *state);
PyObject *socket_offsets(Socket *self, PyObject *unused);
PyObject *socket_recovery(Socket *self, PyObject *unused);

#endif
