/* gecko.Socket: its life and its attributes; what it does is in socket_io.c, socket_moves.c and socket_recovery.c. */
#include "socket.h"

#include <stdlib.h>
#include <structmember.h> /* after Python.h */

static void end_socket(void *object) { gecko_socket_end(object); }
static void free_socket(void *object) { gecko_socket_close(object); }

PyObject *socket_new(gecko_socket *handle, PyObject *framework) {
  Socket *self = PyObject_GC_New(Socket, socket_type);
  Boundary *boundary = PyMem_Calloc(1, sizeof *boundary);
  if (self != NULL) {
    self->lease = (Lease){.object = handle, .end = end_socket, .free = free_socket};
    self->boundary = boundary;
    self->callback = self->weakrefs = NULL;
    self->timeout = -1;
    Py_INCREF(framework);
    self->framework = framework;
    if (boundary != NULL) boundary->socket = PyWeakref_NewRef((PyObject *)self, NULL);
  }
  int rc = -1;
  if (self != NULL && boundary != NULL && boundary->socket != NULL) {
    Py_BEGIN_ALLOW_THREADS
    rc = gecko_socket_set_blocking(handle, 0);
    if (rc == 0) rc = gecko_socket_on_yield(handle, boundary_yield, boundary, NULL);
    Py_END_ALLOW_THREADS
    if (rc == GECKO_MOVED || rc == GECKO_CLOSED) rc = 0; /* it left or ended this very moment: the first call will say so */
    if (rc < 0) raise_code(rc);
  } else if (!PyErr_Occurred()) {
    PyErr_NoMemory();
  }
  if (rc == 0) {
    PyObject_GC_Track(self);
    return (PyObject *)self;
  }
  if (self != NULL) {
    Py_DECREF(self); /* frees the rest, too */
  } else {
    PyMem_Free(boundary);
    gecko_socket_close(handle);
  }
  return NULL;
}

static void socket_dealloc(Socket *self) {
  PyTypeObject *type = Py_TYPE((PyObject *)self);
  PyObject_GC_UnTrack(self);
  if (self->weakrefs != NULL) PyObject_ClearWeakRefs((PyObject *)self);
  lease_close(&self->lease); /* waits for a callback that runs */
  if (self->boundary != NULL) Py_XDECREF(self->boundary->socket);
  PyMem_Free(self->boundary);
  Py_XDECREF(self->callback);
  Py_XDECREF(self->framework);
  PyObject_GC_Del(self);
  Py_DECREF(type);
}
static int socket_traverse(Socket *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE((PyObject *)self));
  Py_VISIT(self->callback);
  Py_VISIT(self->framework);
  return 0;
}
static int socket_clear(Socket *self) {
  Py_CLEAR(self->callback);
  return 0;
}

static PyObject *socket_close(Socket *self, PyObject *unused) {
  (void)unused;
  lease_close(&self->lease);
  Py_RETURN_NONE;
}
static PyObject *socket_enter_with(PyObject *self, PyObject *unused) {
  (void)unused;
  Py_INCREF(self);
  return self;
}
static PyObject *socket_exit_with(Socket *self, PyObject *args) {
  PyObject *type = NULL, *value = NULL, *traceback = NULL;
  if (!PyArg_UnpackTuple(args, "__exit__", 3, 3, &type, &value, &traceback)) return NULL;
  lease_close(&self->lease);
  return PyBool_FromLong(type != Py_None && PyErr_GivenExceptionMatches(type, gecko_error_moved));
}

static PyObject *socket_fileno(Socket *self, PyObject *unused) {
  (void)unused;
  int fd = -1;
  if (self->lease.object != NULL && !self->lease.closing) {
    gecko_socket *socket = socket_enter(self);
    Py_BEGIN_ALLOW_THREADS
    fd = gecko_socket_fd(socket);
    Py_END_ALLOW_THREADS
    socket_leave(self);
  }
  return PyLong_FromLong(fd);
}

/* --- attributes ------------------------------------------------------------------------------------------------------------------------- */

static PyObject *get_text(Socket *self, void *function) {
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  const char *(*call)(gecko_socket *);
  *(void **)&call = function;
  PyObject *text = PyUnicode_FromString(call(socket));
  socket_leave(self);
  return text;
}
static PyObject *get_id(Socket *self, void *unused) {
  (void)unused;
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  uint8_t id[16];
  char text[33];
  gecko_socket_id(socket, id);
  socket_leave(self);
  for (int i = 0; i < 16; ++i) PyOS_snprintf(text + 2 * i, 3, "%02x", id[i]);
  return PyUnicode_FromStringAndSize(text, 32);
}
static PyObject *get_state(Socket *self, void *unused) {
  (void)unused;
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  size_t size = 0;
  char *copy = NULL;
  Py_BEGIN_ALLOW_THREADS
  for (size_t room = 4096;;) { /* another thread may set a longer one meanwhile */
    copy = malloc(room);
    size = copy == NULL ? 0 : gecko_socket_get_state(socket, copy, room);
    if (copy == NULL || size <= room) break;
    free(copy);
    room = size;
  }
  Py_END_ALLOW_THREADS
  socket_leave(self);
  PyObject *state = copy == NULL ? PyErr_NoMemory() : PyBytes_FromStringAndSize(copy, (Py_ssize_t)size);
  free(copy);
  return state;
}
static int set_state(Socket *self, PyObject *value, void *unused) {
  (void)unused;
  if (value == NULL) {
    PyErr_SetString(PyExc_AttributeError, "the state cannot be deleted; set it to b''");
    return -1;
  }
  Py_buffer view;
  if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) != 0) return -1;
  int rc = -1;
  gecko_socket *socket = socket_enter(self);
  if (socket != NULL) {
    Py_BEGIN_ALLOW_THREADS
    rc = gecko_socket_set_state(socket, view.buf, (size_t)view.len);
    Py_END_ALLOW_THREADS
    socket_leave(self);
    if (rc < 0) raise_code(rc);
  }
  PyBuffer_Release(&view);
  return rc < 0 ? -1 : 0;
}
static PyObject *get_timeout(Socket *self, void *unused) {
  (void)unused;
  if (self->timeout < 0) Py_RETURN_NONE;
  return PyFloat_FromDouble(self->timeout);
}
static int set_timeout(Socket *self, PyObject *value, void *unused) {
  (void)unused;
  return timeout_from(value, &self->timeout) ? 0 : -1;
}
static PyObject *get_is_moved(Socket *self, void *unused) {
  (void)unused;
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  int state;
  Py_BEGIN_ALLOW_THREADS
  state = gecko_socket_state(socket);
  Py_END_ALLOW_THREADS
  socket_leave(self);
  return PyBool_FromLong(state == GECKO_SOCKET_MOVED);
}
static PyObject *get_is_postponed(Socket *self, void *unused) {
  (void)unused;
  gecko_socket *socket = socket_enter(self);
  if (socket == NULL) return NULL;
  const int yes = gecko_socket_is_postponed(socket);
  socket_leave(self);
  return PyBool_FromLong(yes);
}
static PyObject *get_closed(Socket *self, void *unused) {
  (void)unused;
  return PyBool_FromLong(self->lease.object == NULL || self->lease.closing);
}

static PyMethodDef methods[] = {
    {"read", (PyCFunction)(void (*)(void))socket_read, METH_VARARGS | METH_KEYWORDS,
     "read($self, size=65536)\n--\n\nWaits for bytes: at least one, at most `size`; b'' at the end of the stream.\n\n"
     "While it waits, and at no other time, the connection may leave (unless on_yield() says otherwise).\n"
     "Raises Moved, Closed (reset by the client, or closed by another thread), Timeout."},
    {"peek", (PyCFunction)(void (*)(void))socket_peek, METH_VARARGS | METH_KEYWORDS,
     "peek($self, size=65536)\n--\n\nWhat read() would give, left where it is; None: nothing is there. Never waits."},
    {"recv_into", (PyCFunction)socket_recv_into, METH_O, "recv_into($self, buffer, /)\n--\n\nAs read(), into a writable buffer. How many bytes; 0 "
     "at the end of the stream."},
    {"write", (PyCFunction)socket_write, METH_O,
     "write($self, data, /)\n--\n\nWrites everything and returns the number of bytes; less only if the connection moves or ends meanwhile, or the\n"
     "timeout passes. Raises Moved, Closed, Timeout if nothing was written."},
    {"wait", (PyCFunction)(void (*)(void))socket_wait, METH_VARARGS | METH_KEYWORDS,
     "wait($self, events=select.POLLIN, timeout=None)\n--\n\npoll(2) for this socket, which a move ends: the ready events, 0 after `timeout` "
     "seconds. The connection may leave\n"
     "meanwhile. Raises Moved, Closed."},
    {"checkpoint", (PyCFunction)socket_checkpoint, METH_NOARGS,
     "checkpoint($self, /)\n--\n\nA moment between two reads at which the connection may leave as well, with its `state` as it is. Returns at once "
     "if\n"
     "nobody has asked for it; raises Moved if it went."},
    {"read_now", (PyCFunction)socket_read_now, METH_VARARGS,
     "read_now($self, size, rest, /)\n--\n\nFor event loops: bytes, or None if nothing is there. With `rest` the connection may then leave until "
     "rest_no_more(),\n"
     "which must follow each None."},
    {"rest_no_more", (PyCFunction)socket_rest_no_more, METH_NOARGS, "rest_no_more($self, /)\n--\n\nSee read_now()."},
    {"write_now", (PyCFunction)socket_write_now, METH_O, "write_now($self, data, /)\n--\n\nFor event loops: the number of bytes that were taken, "
     "or None if the client must take some first."},
    {"writing", (PyCFunction)socket_writing, METH_O, "writing($self, yes, /)\n--\n\nFor event loops: True before and False after a write in "
     "several steps; it must not leave in between."},
    {"shutdown", (PyCFunction)(void (*)(void))socket_shutdown, METH_VARARGS | METH_KEYWORDS, "shutdown($self, how=socket.SHUT_WR)\n--\n\nEnds a "
     "direction: the client sees the end of the stream."},
    {"close", (PyCFunction)socket_close, METH_NOARGS, "close($self, /)\n--\n\nCloses the connection; calls of other threads raise Closed. Never "
     "raises. A connection that has moved lives on elsewhere."},
    {"__enter__", (PyCFunction)socket_enter_with, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", (PyCFunction)socket_exit_with, METH_VARARGS, "__exit__($self, type, value, traceback, /)\n--\n\nCloses it. Moved ends the block "
     "quietly: nothing is left to be done here."},
    {"handoff", (PyCFunction)(void (*)(void))socket_handoff, METH_VARARGS | METH_KEYWORDS,
     "handoff($self, target=None, timeout=None)\n--\n\nMoves the connection to a node (name or address); None: by the policy, without one where "
     "geckod sees fit.\n\n"
     "Returns when it lives there: every further call raises Moved. Otherwise it is here and goes on: Refused, Unavailable, Busy, ...;\n"
     "Timeout: it is still on its way. Signal handlers run afterwards."},
    {"handoff_background", (PyCFunction)(void (*)(void))socket_handoff_background, METH_VARARGS | METH_KEYWORDS,
     "handoff_background($self, target=None)\n--\n\nAs handoff(), but returns at once. If the target fails, the policy chooses another, three in "
     "all; each failure is\n"
     "reported to Policy.notify_failed_handoff()."},
    {"on_yield", (PyCFunction)socket_on_yield, METH_O,
     "on_yield($self, callback, /)\n--\n\nThe program decides by itself: callback(socket) is called when somebody wants the connection, at any "
     "time and in any thread\n"
     "(with asyncio: usually in the loop's), when reads and writes are locked out. Set socket.state and return True, or return False to keep it.\n"
     "It must not wait for a thread that may be inside a call on this socket. None: back to the default rule."},
    {"stay", (PyCFunction)socket_stay, METH_VARARGS, "stay($self, reason, /)\n--\n\nKeeps the connection here and tells operators why. None: it "
     "can move again."},
    {"postpone", (PyCFunction)socket_postpone, METH_VARARGS,
     "postpone($self, reason, /)\n--\n\nInside on_yield(), `return socket.postpone('a request is in progress')`: not now, but handoff_background() "
     "will follow\n"
     "once is_postponed says so. Returns False."},
    {"watch", (PyCFunction)socket_watch, METH_VARARGS,
     "watch($self, epoll, events, key, /)\n--\n\nRegisters the socket in an epoll of the program with data = key; the registration survives moves, "
     "and a connection that has\n"
     "moved reports EPOLLHUP. select.epoll.poll() gives the lower 31 bits of the key in place of a descriptor."},
    {"unwatch", (PyCFunction)socket_unwatch, METH_NOARGS, "unwatch($self, /)\n--\n\nBefore the epoll is closed."},
    {"save_checkpoint", (PyCFunction)socket_save_checkpoint, METH_O,
     "save_checkpoint($self, state, /)\n--\n\nFor the day this node dies: bytes of the program (at most 1 MiB) after all that it has read and written so "
     "far, kept by other nodes\n"
     "until the next one. No other thread reads or writes meanwhile. It is under way when this returns: a node that dies within milliseconds\n"
     "may take it along, then the one before counts. A connection that has moved or was recovered needs a new one. Of use where\n"
     "Framework.recovers. Raises LimitReached, Unsupported (see offsets())."},
    {"recovery", (PyCFunction)socket_recovery, METH_NOARGS,
     "recovery($self, /)\n--\n\nHow far it was when its node, `origin`, died: a Recovery. None: it has not come here by a death."},
    {"offsets", (PyCFunction)socket_offsets, METH_NOARGS,
     "offsets($self, /)\n--\n\n(received, sent): bytes that were read and written since its birth, on whatever nodes. Raises Unsupported: it has passed a "
     "node of an\nolder version, which did not count."},
    {"fileno", (PyCFunction)socket_fileno, METH_NOARGS,
     "fileno($self, /)\n--\n\nThe descriptor, for socket options; -1 once closed. Not for poll and selectors, which a move does not wake: wait(), "
     "watch() and\ngecko.aio are."},
    {0}};

static PyGetSetDef attributes[] = {
    {"peer", (getter)get_text, NULL, "The client: '[2001:db8::1]:4711'.", (void *)gecko_socket_peer_text},
    {"local", (getter)get_text, NULL, "The group's address and port.", (void *)gecko_socket_local_text},
    {"origin", (getter)get_text, NULL, "The node it came from; '' for a new client.", (void *)gecko_socket_from},
    {"id", (getter)get_id, NULL, "32 hex digits, the same on every node.", NULL},
    {"state", (getter)get_state, (setter)set_state, "Bytes of the program, at most 1 MiB, that travel with the connection.", NULL},
    {"timeout", (getter)get_timeout, (setter)set_timeout, "Seconds that read(), recv_into() and write() wait for the client; None: for ever; 0: "
     "they raise Again.", NULL},
    {"is_moved", (getter)get_is_moved, NULL, "It lives on another node now.", NULL},
    {"is_postponed", (getter)get_is_postponed, NULL, "Somebody wants it elsewhere and was told: later.", NULL},
    {"closed", (getter)get_closed, NULL, "close() has been called.", NULL},
    {0}};

static PyMemberDef members[] = {{"__weaklistoffset__", T_PYSSIZET, offsetof(Socket, weakrefs), READONLY, NULL}, {0}};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, socket_dealloc}, {Py_tp_traverse, socket_traverse}, {Py_tp_clear, socket_clear}, {Py_tp_methods, methods},
    {Py_tp_getset, attributes},      {Py_tp_members, members},
    {Py_tp_doc, "A connection between a client and the group, from ServerSocket.accept(), Framework.connect() or adopt().\n\n"
                "When it has moved, every call raises Moved: close it, nothing else is to be done. After a move that failed it goes on.\n"
                "`with socket:` closes it and takes Moved for a normal end. Any thread may call anything at any time."},
    {0}};
PyType_Spec socket_spec = {"gecko.Socket", sizeof(Socket), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
