/* Moves: by the program, by others, and when they are allowed. */
#include "socket.h"

#include <poll.h>

typedef int (*Move)(gecko_socket *socket, const char *target, int timeout_ms);
static int in_background(gecko_socket *socket, const char *target, int timeout_ms) {
  (void)timeout_ms;
  return gecko_socket_handoff_background(socket, target);
}
/* The program moves it itself: this is a moment at which it may leave. */
static PyObject *move(Socket *self, Move how, const char *target, double seconds) {
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  int rc;
  Py_BEGIN_ALLOW_THREADS
  atomic_fetch_add(&self->boundary->rule.resting, 1);
  rc = how(socket, target, milliseconds(seconds));
  socket_rests_no_more(self);
  Py_END_ALLOW_THREADS
  socket_leave(self);
  if (rc < 0) return raise_code(rc);
  Py_RETURN_NONE;
}
PyObject *socket_handoff(Socket *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"target", "timeout", NULL};
  const char *target = NULL;
  PyObject *timeout = NULL;
  double seconds;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|zO:handoff", names, &target, &timeout) || !timeout_from(timeout, &seconds)) return NULL;
  return move(self, gecko_socket_handoff, target, seconds);
}
PyObject *socket_handoff_background(Socket *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"target", NULL};
  const char *target = NULL;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|z:handoff_background", names, &target)) return NULL;
  return move(self, in_background, target, 0);
}

/* Goes if somebody has asked for it, and says how that ended. */
PyObject *socket_checkpoint(Socket *self, PyObject *unused) {
  (void)unused;
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  int rc = 0;
  if (gecko_socket_is_postponed(socket)) atomic_store(&self->boundary->rule.wanted, true); /* also what on_yield() has put off */
  if (atomic_load(&self->boundary->rule.wanted)) {
    Py_BEGIN_ALLOW_THREADS
    atomic_fetch_add(&self->boundary->rule.resting, 1);
    leaving_rule_follow(&self->boundary->rule, socket);
    Py_END_ALLOW_THREADS
    while (rc >= 0 && gecko_socket_state(socket) == GECKO_SOCKET_MOVING) rc = socket_wait_events(socket, POLLIN | POLLOUT, 0.05);
    socket_rests_no_more(self);
  }
  if (rc >= 0 && gecko_socket_state(socket) != GECKO_SOCKET_LIVE) rc = socket_wait_events(socket, POLLIN, 0); /* has moved or ended: says so */
  socket_leave(self);
  if (rc >= 0) Py_RETURN_NONE;
  return rc == INTERRUPTED ? NULL : raise_code(rc);
}

PyObject *socket_on_yield(Socket *self, PyObject *callback) {
  if (callback != Py_None && !PyCallable_Check(callback)) return PyErr_Format(PyExc_TypeError, "on_yield takes a callable or None");
  PyObject *old = self->callback;
  Py_INCREF(callback);
  self->callback = callback == Py_None ? NULL : callback;
  if (callback == Py_None) Py_DECREF(callback);
  if (self->boundary != NULL) atomic_store(&self->boundary->custom, self->callback != NULL);
  Py_XDECREF(old);
  Py_RETURN_NONE;
}

int socket_yield(PyObject *object) {
  Socket *self = (Socket *)object;
  PyObject *callback = self->callback;
  if (callback == NULL || self->lease.object == NULL) return 0;
  Py_INCREF(callback);
  PyObject *answer = PyObject_CallFunctionObjArgs(callback, object, NULL);
  const int go = answer == NULL ? -1 : PyObject_IsTrue(answer);
  if (go < 0) PyErr_WriteUnraisable(callback); /* it stays */
  Py_XDECREF(answer);
  Py_DECREF(callback);
  return go > 0;
}

static PyObject *with_reason(Socket *self, const char *reason, int (*call)(gecko_socket *, const char *)) {
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  int rc;
  Py_BEGIN_ALLOW_THREADS
  rc = call(socket, reason);
  Py_END_ALLOW_THREADS
  socket_leave(self);
  return rc < 0 ? raise_code(rc) : PyBool_FromLong(0);
}
PyObject *socket_stay(Socket *self, PyObject *args) {
  const char *reason;
  if (!PyArg_ParseTuple(args, "z:stay", &reason)) return NULL;
  PyObject *done = with_reason(self, reason, gecko_socket_stay);
  if (done == NULL) return NULL;
  Py_DECREF(done);
  Py_RETURN_NONE;
}
PyObject *socket_postpone(Socket *self, PyObject *args) {
  const char *reason;
  return PyArg_ParseTuple(args, "s:postpone", &reason) ? with_reason(self, reason, gecko_socket_postpone) : NULL;
}

PyObject *socket_watch(Socket *self, PyObject *args) {
  PyObject *epoll;
  unsigned events;
  unsigned long long key;
  if (!PyArg_ParseTuple(args, "OIK:watch", &epoll, &events, &key)) return NULL;
  const int fd = PyObject_AsFileDescriptor(epoll);
  if (fd < 0) return NULL;
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  int rc;
  Py_BEGIN_ALLOW_THREADS
  rc = gecko_socket_watch(socket, fd, events, key);
  Py_END_ALLOW_THREADS
  socket_leave(self);
  if (rc < 0) return raise_code(rc);
  Py_RETURN_NONE;
}
PyObject *socket_unwatch(Socket *self, PyObject *unused) {
  (void)unused;
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  Py_BEGIN_ALLOW_THREADS
  gecko_socket_unwatch(socket);
  Py_END_ALLOW_THREADS
  socket_leave(self);
  Py_RETURN_NONE;
}
