/* gecko.ServerSocket. */
#include "gecko_py.h"

typedef struct {
  PyObject_HEAD
  Lease lease;
  PyObject *framework;  /* keeps it open */
} Server;

static void end_server(void *object) { gecko_server_end(object); }
static void free_server(void *object) { gecko_server_close(object); }

PyObject *server_new(gecko_server *handle, PyObject *framework) {
  Server *self = PyObject_New(Server, server_type);
  if (self == NULL) {
    gecko_server_close(handle);
    return NULL;
  }
  self->lease = (Lease){.object = handle, .end = end_server, .free = free_server};
  Py_INCREF(framework);
  self->framework = framework;
  return (PyObject *)self;
}

static void server_dealloc(Server *self) {
  PyTypeObject *type = Py_TYPE((PyObject *)self);
  lease_close(&self->lease);
  Py_DECREF(self->framework);
  PyObject_Free(self);
  Py_DECREF(type);
}

static gecko_server *enter(Server *self) { return lease_enter(&self->lease, "server socket"); }

typedef struct {
  gecko_server *server;
  gecko_socket *socket;
} Accept;
static int accept_once(void *arg, int timeout_ms) {
  Accept *a = arg;
  return gecko_server_accept(a->server, timeout_ms, &a->socket);
}

static PyObject *accept_within(Server *self, double seconds) {
  Accept call = {enter(self), NULL};
  if (call.server == NULL) return NULL;
  const int rc = wait_for(seconds, accept_once, &call, GECKO_TIMEOUT);
  lease_leave(&self->lease);
  if (rc == 0) return socket_new(call.socket, self->framework);
  return rc == INTERRUPTED ? NULL : raise_code(rc);
}
static PyObject *server_accept(Server *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"timeout", NULL};
  PyObject *timeout = NULL;
  double seconds;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:accept", names, &timeout) || !timeout_from(timeout, &seconds)) return NULL;
  return accept_within(self, seconds);
}

/* The end of the server is the end of the loop. */
static PyObject *server_next(Server *self) {
  if (self->lease.object == NULL || self->lease.closing) return NULL;
  PyObject *socket = accept_within(self, -1);
  if (socket == NULL && (self->lease.object == NULL || self->lease.closing) && PyErr_ExceptionMatches(gecko_error_closed)) PyErr_Clear();
  return socket;
}
static PyObject *itself(PyObject *self) {
  Py_INCREF(self);
  return self;
}
static PyObject *server_enter_with(PyObject *self, PyObject *unused) {
  (void)unused;
  return itself(self);
}
static PyObject *server_close(Server *self, PyObject *unused) {
  (void)unused;
  lease_close(&self->lease);
  Py_RETURN_NONE;
}
static PyObject *server_fileno(Server *self, PyObject *unused) {
  (void)unused;
  if (self->lease.object == NULL || self->lease.closing) return PyLong_FromLong(-1);
  return PyLong_FromLong(gecko_server_fd(self->lease.object));
}
static PyObject *get_port(Server *self, void *unused) {
  (void)unused;
  gecko_server *server = enter(self);
  if (server == NULL) return NULL;
  const long port = gecko_server_port(server);
  lease_leave(&self->lease);
  return PyLong_FromLong(port);
}
static PyObject *get_framework(Server *self, void *unused) {
  (void)unused;
  return itself(self->framework);
}
static PyObject *get_closed(Server *self, void *unused) {
  (void)unused;
  return PyBool_FromLong(self->lease.object == NULL || self->lease.closing);
}

static PyMethodDef methods[] = {
    {"accept", (PyCFunction)(void (*)(void))server_accept, METH_VARARGS | METH_KEYWORDS,
     "accept($self, timeout=None)\n--\n\nThe next connection: a new client's, or one that arrives from another node (Socket.origin tells).\n\n"
     "Raises Timeout after so many seconds, Closed, LimitReached (no descriptors left). Any number of threads may wait in it."},
    {"close", (PyCFunction)server_close, METH_NOARGS, "close($self, /)\n--\n\nListens no more; accept() in other threads raises Closed, loops over "
     "the server end."},
    {"fileno", (PyCFunction)server_fileno, METH_NOARGS, "fileno($self, /)\n--\n\nReadable when accept() has something; for poll and selectors. -1 "
     "once closed."},
    {"__enter__", (PyCFunction)server_enter_with, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", (PyCFunction)server_close, METH_VARARGS, "__exit__($self, type, value, traceback, /)\n--\n\n"},
    {0}};
static PyGetSetDef attributes[] = {{"port", (getter)get_port, NULL, "The port it listens on.", NULL},
                                   {"framework", (getter)get_framework, NULL, "Whose server it is.", NULL},
                                   {"closed", (getter)get_closed, NULL, "close() has been called.", NULL},
                                   {0}};
static PyType_Slot slots[] = {{Py_tp_dealloc, server_dealloc},
                              {Py_tp_iter, itself},
                              {Py_tp_iternext, server_next},
                              {Py_tp_methods, methods},
                              {Py_tp_getset, attributes},
                              {Py_tp_doc, "Listens on the group's address; from Framework.listen().\n\n`for client in server:` accepts until "
                               "close()."},
                              {0}};
PyType_Spec server_spec = {"gecko.ServerSocket", sizeof(Server), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
