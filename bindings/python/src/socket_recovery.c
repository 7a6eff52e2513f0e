/* For the day a node dies: checkpoints, offsets, and how far a connection was whose node has died. */
#include "socket.h"

#include <poll.h>

static PyObject *recovery_class, *checkpoint_class;

PyObject *recovery_set_types(PyObject *module, PyObject *args) {
  (void)module;
  PyObject *recovery, *checkpoint;
  if (!PyArg_ParseTuple(args, "OO:set_recovery_types", &recovery, &checkpoint)) return NULL;
  Py_INCREF(recovery);
  Py_INCREF(checkpoint);
  Py_XDECREF(recovery_class);
  Py_XDECREF(checkpoint_class);
  recovery_class = recovery;
  checkpoint_class = checkpoint;
  Py_RETURN_NONE;
}

/* A call that cannot be answered while a move is on its way: its outcome decides. A code, or INTERRUPTED. */
static int settled(gecko_socket *socket, int (*call)(gecko_socket *socket, void *arg), void *arg) {
  const double look = 0.05; /* a move's end wakes the wait */
  for (;;) {
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = call(socket, arg);
    Py_END_ALLOW_THREADS
    if (rc != GECKO_AGAIN) return rc;
    rc = socket_wait_events(socket, POLLIN | POLLOUT, look);
    if (rc < 0) return rc;
  }
}

static int save(gecko_socket *socket, void *arg) {
  const Py_buffer *state = arg;
  return gecko_socket_checkpoint(socket, state->buf, (size_t)state->len);
}
PyObject *socket_save_checkpoint(Socket *self, PyObject *state) {
  Py_buffer view;
  if (PyObject_GetBuffer(state, &view, PyBUF_SIMPLE) != 0) return NULL;
  gecko_socket *socket = socket_enter(self);
  int rc = INTERRUPTED; /* the exception is set */
  if (socket != NULL) {
    rc = settled(socket, save, &view);
    socket_leave(self);
  }
  PyBuffer_Release(&view);
  if (rc >= 0) Py_RETURN_NONE;
  return rc == INTERRUPTED ? NULL : raise_code(rc);
}

typedef struct {
  uint64_t received, sent;
} Offsets;
static int ask_offsets(gecko_socket *socket, void *arg) {
  Offsets *at = arg;
  return gecko_socket_offsets(socket, &at->received, &at->sent);
}
PyObject *socket_offsets(Socket *self, PyObject *unused) {
  (void)unused;
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  Offsets at = {0};
  const int rc = settled(socket, ask_offsets, &at);
  socket_leave(self);
  if (rc >= 0) return Py_BuildValue("KK", (unsigned long long)at.received, (unsigned long long)at.sent);
  return rc == INTERRUPTED ? NULL : raise_code(rc);
}

static PyObject *last_checkpoint(gecko_socket *socket, const struct gecko_recovery *at) {
  const size_t size = gecko_socket_get_checkpoint(socket, NULL, 0); /* of its birth: it does not change */
  PyObject *state = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
  if (state == NULL) return NULL;
  gecko_socket_get_checkpoint(socket, PyBytes_AsString(state), size);
  return PyObject_CallFunction(checkpoint_class, "NKK", state, (unsigned long long)at->input, (unsigned long long)at->output);
}
PyObject *socket_recovery(Socket *self, PyObject *unused) {
  (void)unused;
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  struct gecko_recovery at = {.size = sizeof at};
  PyObject *checkpoint = Py_None;
  Py_INCREF(checkpoint);
  const bool recovered = gecko_socket_recovery(socket, &at) != 0;
  if (recovered && at.has_checkpoint) {
    Py_DECREF(checkpoint);
    checkpoint = last_checkpoint(socket, &at);
  }
  socket_leave(self);
  if (!recovered || checkpoint == NULL) return checkpoint;
  return PyObject_CallFunction(recovery_class, "KKN", (unsigned long long)at.received, (unsigned long long)at.sent, checkpoint);
}
