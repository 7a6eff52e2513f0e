/* Reading, writing, waiting. The library's socket is always non-blocking; waiting and timeouts are here, and so are the moments at which the
 * default rule (leaving_rule.h) lets the connection go. */
#include "socket.h"

#include <poll.h>
#include <sys/socket.h>

typedef struct {
  gecko_socket *socket;
  short events;
} Wait;
static int wait_once(void *arg, int timeout_ms) {
  const Wait *w = arg;
  return gecko_socket_wait(w->socket, w->events, timeout_ms);
}
int socket_wait_events(gecko_socket *socket, short events, double seconds) { return wait_for(seconds, wait_once, &(Wait){socket, events}, 0); }

/* Bytes, or a code. `rest`: if nothing is there, the connection may leave from now on. */
static ssize_t read_once(Socket *self, gecko_socket *socket, void *to, size_t size, bool rest) {
  ssize_t n;
  Py_BEGIN_ALLOW_THREADS
  n = gecko_socket_read(socket, to, size);
  if (n == GECKO_AGAIN && rest) {
    atomic_fetch_add(&self->boundary->rule.resting, 1);
    leaving_rule_follow(&self->boundary->rule, socket);
  }
  Py_END_ALLOW_THREADS
  return n;
}
void socket_rests_no_more(Socket *self) { atomic_fetch_sub(&self->boundary->rule.resting, 1); }

/* Bytes; -1: exception set. */
static Py_ssize_t read_waiting(Socket *self, gecko_socket *socket, void *to, size_t size) {
  for (;;) {
    const ssize_t n = read_once(self, socket, to, size, self->timeout != 0);
    if (n != GECKO_AGAIN || self->timeout == 0) {
      if (n >= 0) return n;
      raise_code((int)n);
      return -1;
    }
    const int ready = socket_wait_events(socket, POLLIN, self->timeout);
    socket_rests_no_more(self);
    if (ready > 0) continue;
    if (ready == 0) raise_text(GECKO_TIMEOUT, "nothing came in time");
    else if (ready != INTERRUPTED) raise_code(ready);
    return -1;
  }
}

/* A bytes object that is filled in place; the limited API has no _PyBytes_Resize for the rest, so little that comes into much room is copied. */
static PyObject *bytes_of(const char *from, Py_ssize_t size) { return PyBytes_FromStringAndSize(from, size); }
enum { SMALL = 65536 }; /* on the stack up to here */

static bool size_from(PyObject *args, PyObject *kwargs, const char *format, char **names, Py_ssize_t *size) {
  *size = SMALL;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, size)) return false;
  if (*size > 0) return true;
  PyErr_SetString(PyExc_ValueError, "at least one byte must be asked for");
  return false;
}

PyObject *socket_read(Socket *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"size", NULL};
  Py_ssize_t size;
  if (!size_from(args, kwargs, "|n:read", names, &size)) return NULL;
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  char small[SMALL], *to = size <= SMALL ? small : PyMem_Malloc((size_t)size);
  PyObject *result = NULL;
  if (to == NULL) {
    PyErr_NoMemory();
  } else {
    const Py_ssize_t n = read_waiting(self, socket, to, (size_t)size);
    if (n >= 0) result = bytes_of(to, n);
    if (to != small) PyMem_Free(to);
  }
  socket_leave(self);
  return result;
}

PyObject *socket_peek(Socket *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"size", NULL};
  Py_ssize_t size;
  if (!size_from(args, kwargs, "|n:peek", names, &size)) return NULL;
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  char to[SMALL];
  ssize_t n;
  Py_BEGIN_ALLOW_THREADS
  n = gecko_socket_peek(socket, to, size < SMALL ? (size_t)size : SMALL);
  Py_END_ALLOW_THREADS
  socket_leave(self);
  if (n >= 0) return bytes_of(to, n);
  if (n == GECKO_AGAIN) Py_RETURN_NONE;
  return raise_code((int)n);
}

PyObject *socket_recv_into(Socket *self, PyObject *buffer) {
  Py_buffer view;
  if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) != 0) return NULL;
  Py_ssize_t n = -1;
  gecko_socket *socket = socket_enter(self);
  if (socket != NULL) {
    n = view.len == 0 ? 0 : read_waiting(self, socket, view.buf, (size_t)view.len);
    socket_leave(self);
  }
  PyBuffer_Release(&view);
  return n < 0 ? NULL : PyLong_FromSsize_t(n);
}

PyObject *socket_read_now(Socket *self, PyObject *args) {
  Py_ssize_t size;
  int rest;
  if (!PyArg_ParseTuple(args, "np:read_now", &size, &rest)) return NULL;
  if (size <= 0 || size > SMALL) return PyErr_Format(PyExc_ValueError, "1 to %d bytes", SMALL);
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  char to[SMALL];
  const ssize_t n = read_once(self, socket, to, (size_t)size, rest);
  socket_leave(self);
  if (n >= 0) return bytes_of(to, n);
  if (n == GECKO_AGAIN) Py_RETURN_NONE;
  return raise_code((int)n);
}
PyObject *socket_rest_no_more(Socket *self, PyObject *unused) {
  (void)unused;
  socket_rests_no_more(self);
  Py_RETURN_NONE;
}

/* --- writing ---------------------------------------------------------------------------------------------------------------------------- */

static Py_ssize_t write_waiting(Socket *self, gecko_socket *socket, const char *from, size_t size) {
  size_t done = 0;
  while (done < size || size == 0) {
    ssize_t n;
    Py_BEGIN_ALLOW_THREADS
    n = gecko_socket_write(socket, from + done, size - done);
    Py_END_ALLOW_THREADS
    if (n >= 0) {
      done += (size_t)n;
      if (size == 0) break;
      continue;
    }
    int why = (int)n;
    if (n == GECKO_AGAIN && self->timeout != 0) {
      why = socket_wait_events(socket, POLLOUT, self->timeout);
      if (why > 0) continue;
    }
    if (why == INTERRUPTED) return -1;
    if (done != 0) break; /* these bytes are the kernel's, here or where the connection went; the next call says why */
    if (why == 0) raise_text(GECKO_TIMEOUT, "the client did not take anything in time");
    else raise_code(why);
    return -1;
  }
  return (Py_ssize_t)done;
}

PyObject *socket_write(Socket *self, PyObject *data) {
  Py_buffer view;
  if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) != 0) return NULL;
  Py_ssize_t n = -1;
  gecko_socket *socket = socket_enter(self);
  if (socket != NULL) {
    atomic_fetch_add(&self->boundary->rule.writing, 1);
    n = write_waiting(self, socket, view.buf, (size_t)view.len);
    atomic_fetch_sub(&self->boundary->rule.writing, 1);
    socket_leave(self);
  }
  PyBuffer_Release(&view);
  return n < 0 ? NULL : PyLong_FromSsize_t(n);
}

PyObject *socket_write_now(Socket *self, PyObject *data) {
  Py_buffer view;
  if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) != 0) return NULL;
  ssize_t n = -1;
  gecko_socket *socket = socket_enter(self);
  if (socket != NULL) {
    Py_BEGIN_ALLOW_THREADS
    n = gecko_socket_write(socket, view.buf, (size_t)view.len);
    Py_END_ALLOW_THREADS
    socket_leave(self);
  }
  PyBuffer_Release(&view);
  if (socket == NULL) return NULL;
  if (n >= 0) return PyLong_FromSsize_t(n);
  if (n == GECKO_AGAIN) Py_RETURN_NONE;
  return raise_code((int)n);
}
PyObject *socket_writing(Socket *self, PyObject *yes) {
  const int on = PyObject_IsTrue(yes);
  if (on < 0) return NULL;
  atomic_fetch_add(&self->boundary->rule.writing, on ? 1 : -1);
  Py_RETURN_NONE;
}

/* --- waiting, ending -------------------------------------------------------------------------------------------------------------------- */

PyObject *socket_wait(Socket *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"events", "timeout", NULL};
  short events = POLLIN;
  PyObject *timeout = NULL;
  double seconds;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|hO:wait", names, &events, &timeout) || !timeout_from(timeout, &seconds)) return NULL;
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  Py_BEGIN_ALLOW_THREADS
  atomic_fetch_add(&self->boundary->rule.resting, 1);
  leaving_rule_follow(&self->boundary->rule, socket);
  Py_END_ALLOW_THREADS
  const int ready = socket_wait_events(socket, events, seconds);
  socket_rests_no_more(self);
  socket_leave(self);
  if (ready >= 0) return PyLong_FromLong(ready);
  return ready == INTERRUPTED ? NULL : raise_code(ready);
}

PyObject *socket_shutdown(Socket *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"how", NULL};
  int how = SHUT_WR, rc;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|i:shutdown", names, &how)) return NULL;
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  do {
    Py_BEGIN_ALLOW_THREADS
    rc = gecko_socket_shutdown(socket, how);
    Py_END_ALLOW_THREADS
    if (rc != GECKO_AGAIN) break; /* on its way: the outcome decides */
    const int ready = socket_wait_events(socket, POLLIN | POLLOUT, 0.05);
    if (ready < 0) rc = ready;
  } while (rc == GECKO_AGAIN);
  socket_leave(self);
  if (rc == 0) Py_RETURN_NONE;
  return rc == INTERRUPTED ? NULL : raise_code(rc);
}
