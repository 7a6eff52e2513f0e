/* The base of gecko.Framework: the calls of gecko.h; ../gecko/framework.py adds what is easier said in Python. */
#include <stdlib.h>
#include <string.h>

#include "gecko_py.h"

enum { MAX_MEMBERS = 64 /* a group's limit */, MAX_PORTS = 64 };

typedef struct {
  PyObject_HEAD
  Lease lease;
} Framework;

static void free_framework(void *object) { gecko_framework_close(object); }
static gecko_framework *enter(Framework *self) { return lease_enter(&self->lease, "framework"); }
static void leave(Framework *self) { lease_leave(&self->lease); }

static PyObject *framework_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"group", "event_loop", "daemon", "program", "interface", NULL};
  PyObject *group = NULL;
  int event_loop = 0, rc;
  struct gecko_options options = {.size = sizeof options};
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|$pzzz:Framework", names, PyUnicode_FSConverter, &group, &event_loop, &options.daemon, &options.program,
                                   &options.interface))
    return NULL;
  if (event_loop) options.flags |= GECKO_EVENT_LOOP;
  const char *name = PyBytes_AsString(group);
  gecko_framework *framework = NULL;
  Py_BEGIN_ALLOW_THREADS
  rc = gecko_framework_open(name, &options, &framework);
  Py_END_ALLOW_THREADS
  Py_DECREF(group);
  if (rc < 0) return raise_code(rc);
  allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
  Framework *self = (Framework *)allocate(type, 0);
  if (self == NULL) gecko_framework_close(framework);
  else self->lease = (Lease){.object = framework, .free = free_framework};
  return (PyObject *)self;
}
static void framework_dealloc(Framework *self) {
  PyTypeObject *type = Py_TYPE((PyObject *)self);
  lease_close(&self->lease);
  freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
  release(self);
  Py_DECREF(type);
}

static PyObject *result(Framework *self, int rc) {
  leave(self);
  if (rc < 0) return raise_code(rc);
  Py_RETURN_NONE;
}
static PyObject *simple(Framework *self, int (*call)(gecko_framework *)) {
  gecko_framework *framework = enter(self);
  if (framework == NULL) return NULL;
  int rc;
  Py_BEGIN_ALLOW_THREADS
  rc = call(framework);
  Py_END_ALLOW_THREADS
  return result(self, rc);
}
static PyObject *framework_join(Framework *self, PyObject *unused) { return (void)unused, simple(self, gecko_framework_join); }
static PyObject *framework_leave_group(Framework *self, PyObject *unused) { return (void)unused, simple(self, gecko_framework_leave); }
static PyObject *framework_dispatch(Framework *self, PyObject *unused) { return (void)unused, simple(self, gecko_framework_dispatch); }
static PyObject *framework_close(Framework *self, PyObject *unused) {
  (void)unused;
  lease_close(&self->lease);
  Py_RETURN_NONE;
}
static PyObject *framework_fileno(Framework *self, PyObject *unused) {
  (void)unused;
  if (self->lease.object == NULL || self->lease.closing) return PyLong_FromLong(-1);
  return PyLong_FromLong(gecko_framework_fd(self->lease.object));
}

static PyObject *framework_members(Framework *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"port", NULL};
  unsigned short port = 0;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|H:members", names, &port)) return NULL;
  gecko_framework *framework = enter(self);
  if (framework == NULL) return NULL;
  struct gecko_member all[MAX_MEMBERS];
  int count;
  Py_BEGIN_ALLOW_THREADS
  count = port == 0 ? gecko_framework_members(framework, all, MAX_MEMBERS) : gecko_framework_members_on(framework, port, all, MAX_MEMBERS);
  Py_END_ALLOW_THREADS
  leave(self);
  if (count < 0) return raise_code(count);
  if (count > MAX_MEMBERS) count = MAX_MEMBERS;
  PyObject *list = PyList_New(count);
  for (int i = 0; list != NULL && i < count; ++i) {
    PyObject *member = member_from(&all[i]);
    if (member == NULL || PyList_SetItem(list, i, member) != 0) Py_CLEAR(list);
  }
  return list;
}

static PyObject *framework_set_contact(Framework *self, PyObject *args) {
  const char *node;
  if (!PyArg_ParseTuple(args, "s:set_contact", &node)) return NULL;
  gecko_framework *framework = enter(self);
  if (framework == NULL) return NULL;
  int rc;
  Py_BEGIN_ALLOW_THREADS
  rc = gecko_framework_set_contact(framework, node);
  Py_END_ALLOW_THREADS
  return result(self, rc);
}

static PyObject *say_of_port(Framework *self, PyObject *args, const char *format, int (*call)(gecko_framework *, uint16_t, int)) {
  int port, wanted, rc;
  if (!PyArg_ParseTuple(args, format, &port, &wanted)) return NULL;
  if (port < 1 || port > UINT16_MAX) return PyErr_Format(PyExc_ValueError, "%d is not a port", port);   /* nobody else would say so */
  gecko_framework *framework = enter(self);
  if (framework == NULL) return NULL;
  Py_BEGIN_ALLOW_THREADS
  rc = call(framework, (uint16_t)port, wanted);
  Py_END_ALLOW_THREADS
  return result(self, rc);
}
static PyObject *framework_set_recovery(Framework *self, PyObject *args) { return say_of_port(self, args, "ip:set_recovery", gecko_framework_set_recovery); }
static PyObject *framework_set_replicated(Framework *self, PyObject *args) {
  return say_of_port(self, args, "ip:set_replicated", gecko_framework_set_replicated);
}

static PyObject *framework_move_client(Framework *self, PyObject *args) {
  enum { MAX_OUTCOMES = 4096 }; /* what one answer of geckod holds at least */
  const char *client, *target;
  if (!PyArg_ParseTuple(args, "sz:move_client", &client, &target)) return NULL;
  gecko_framework *framework = enter(self);
  if (framework == NULL) return NULL;
  struct gecko_client_outcome *all = calloc(MAX_OUTCOMES, sizeof *all);
  int count = 0;
  if (all != NULL) {
    Py_BEGIN_ALLOW_THREADS
    count = gecko_framework_handoff_client(framework, client, target, all, MAX_OUTCOMES);
    Py_END_ALLOW_THREADS
  }
  leave(self);
  PyObject *list = all == NULL ? PyErr_NoMemory() : count < 0 ? raise_code(count) : PyList_New(count < MAX_OUTCOMES ? count : MAX_OUTCOMES);
  for (int i = 0; list != NULL && i < count && i < MAX_OUTCOMES; ++i) {
    PyObject *row = Py_BuildValue("(ssis)", all[i].client, all[i].from, all[i].code, all[i].reason);
    if (row == NULL || PyList_SetItem(list, i, row) != 0) Py_CLEAR(list);
  }
  free(all);
  return list;
}

static PyObject *framework_adopt_fd(Framework *self, PyObject *args) {
  int fd, rc;
  if (!PyArg_ParseTuple(args, "i:adopt_fd", &fd)) return NULL;
  gecko_framework *framework = enter(self);
  if (framework == NULL) return NULL;
  gecko_socket *socket;
  Py_BEGIN_ALLOW_THREADS
  rc = gecko_framework_adopt(framework, fd, &socket);
  Py_END_ALLOW_THREADS
  leave(self);
  return rc < 0 ? raise_code(rc) : socket_new(socket, (PyObject *)self);
}

static PyObject *framework_connect(Framework *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"peer", "timeout", NULL};
  const char *peer;
  PyObject *timeout = NULL;
  double seconds = 10;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|O:connect", names, &peer, &timeout)) return NULL;
  if (timeout != NULL && !timeout_from(timeout, &seconds)) return NULL;
  gecko_framework *framework = enter(self);
  if (framework == NULL) return NULL;
  gecko_socket *socket;
  int rc;
  Py_BEGIN_ALLOW_THREADS
  rc = gecko_framework_connect(framework, peer, milliseconds(seconds), &socket);
  Py_END_ALLOW_THREADS
  leave(self);
  return rc < 0 ? raise_code(rc) : socket_new(socket, (PyObject *)self);
}

static PyObject *framework_listen(Framework *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"port", "backlog", "blocking", NULL};
  unsigned short port = 0;
  int backlog = 0, blocking = 1, rc;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|H$ip:listen", names, &port, &backlog, &blocking)) return NULL;
  gecko_framework *framework = enter(self);
  if (framework == NULL) return NULL;
  gecko_server *server;
  Py_BEGIN_ALLOW_THREADS
  rc = gecko_server_listen(framework, port, backlog, &server);
  if (rc == 0) gecko_server_set_blocking(server, blocking);
  Py_END_ALLOW_THREADS
  leave(self);
  return rc < 0 ? raise_code(rc) : server_new(server, (PyObject *)self);
}

static PyObject *framework_use_policy(Framework *self, PyObject *args) {
  PyObject *policy;
  PolicyOptions options;
  int rc;
  if (!PyArg_ParseTuple(args, "OIII:use_policy", &policy, &options.flags, &options.first_bytes, &options.patience_ms)) return NULL;
  gecko_framework *framework = enter(self);
  if (framework == NULL) return NULL;
  if (policy == Py_None) {
    Py_BEGIN_ALLOW_THREADS
    rc = gecko_framework_set_builtin_policy(framework, NULL, 0);
    Py_END_ALLOW_THREADS
  } else {
    rc = policy_set(framework, policy, &options);
  }
  return result(self, rc);
}
static PyObject *framework_use_builtin_policy(Framework *self, PyObject *args) {
  const char *name;
  unsigned flags;
  int rc;
  if (!PyArg_ParseTuple(args, "sI:use_builtin_policy", &name, &flags)) return NULL;
  gecko_framework *framework = enter(self);
  if (framework == NULL) return NULL;
  Py_BEGIN_ALLOW_THREADS
  rc = gecko_framework_set_builtin_policy(framework, name, flags);
  Py_END_ALLOW_THREADS
  return result(self, rc);
}

static PyObject *get_text(Framework *self, void *function) {
  gecko_framework *framework = enter(self);
  if (framework == NULL) return NULL;
  const char *(*call)(gecko_framework *);
  *(void **)&call = function;
  PyObject *text = PyUnicode_FromString(call(framework));
  leave(self);
  return text;
}
static PyObject *get_ports(Framework *self, void *unused) {
  (void)unused;
  gecko_framework *framework = enter(self);
  if (framework == NULL) return NULL;
  uint16_t ports[MAX_PORTS];
  size_t count = gecko_framework_ports(framework, ports, MAX_PORTS);
  leave(self);
  if (count > MAX_PORTS) count = MAX_PORTS;
  PyObject *tuple = PyTuple_New((Py_ssize_t)count);
  for (size_t i = 0; tuple != NULL && i < count; ++i) {
    PyObject *port = PyLong_FromLong(ports[i]);
    if (port == NULL || PyTuple_SetItem(tuple, (Py_ssize_t)i, port) != 0) Py_CLEAR(tuple);
  }
  return tuple;
}
static PyObject *get_flag(Framework *self, void *function) {
  gecko_framework *framework = enter(self);
  if (framework == NULL) return NULL;
  int (*call)(gecko_framework *), yes;
  *(void **)&call = function;
  Py_BEGIN_ALLOW_THREADS
  yes = call(framework);
  Py_END_ALLOW_THREADS
  leave(self);
  return PyBool_FromLong(yes);
}
static PyObject *get_closed(Framework *self, void *unused) {
  (void)unused;
  return PyBool_FromLong(self->lease.object == NULL || self->lease.closing);
}

static PyMethodDef methods[] = {
    {"join", (PyCFunction)framework_join, METH_NOARGS, "join($self, /)\n--\n\nFrom now on connections may arrive here. Raises Unavailable, "
     "NotFound (no such group), Denied ([rights])."},
    {"leave", (PyCFunction)framework_leave_group, METH_NOARGS, "leave($self, /)\n--\n\nNo new connections; those that are here go on and can still "
     "move."},
    {"close", (PyCFunction)framework_close, METH_NOARGS,
     "close($self, /)\n--\n\nConnections on their way get 2 s to settle. Close sockets first: those that are open go on, but no longer move."},
    {"dispatch", (PyCFunction)framework_dispatch, METH_NOARGS, "dispatch($self, /)\n--\n\nWith event_loop: handles what geckod has said, when "
     "fileno() is readable."},
    {"fileno", (PyCFunction)framework_fileno, METH_NOARGS, "fileno($self, /)\n--\n\nReadable: dispatch(). -1 once closed."},
    {"members", (PyCFunction)(void (*)(void))framework_members, METH_VARARGS | METH_KEYWORDS,
     "members($self, port=0)\n--\n\nThe nodes of the group: a list of Member. With a port of the group, applications counts those that serve it."},
    {"set_contact", (PyCFunction)framework_set_contact, METH_VARARGS, "set_contact($self, node, /)\n--\n\nMakes a node the contact: the one that "
     "new clients reach."},
    {"set_recovery", (PyCFunction)framework_set_recovery, METH_VARARGS, "set_recovery($self, port, wanted, /)\n--\n\nBefore listening there: whether this "
     "port's connections come here when their node has died. False: none, they are not even protected."},
    {"set_replicated", (PyCFunction)framework_set_replicated, METH_VARARGS, "set_replicated($self, port, wanted, /)\n--\n\nBefore listening there, in a group "
     "with recovery = \"replicated\". False: this program's connections of the port are recovered as with \"fast\"."},
    {"move_client", (PyCFunction)framework_move_client, METH_VARARGS, NULL},
    {"adopt_fd", (PyCFunction)framework_adopt_fd, METH_VARARGS, NULL},
    {"connect", (PyCFunction)(void (*)(void))framework_connect, METH_VARARGS | METH_KEYWORDS,
     "connect($self, peer, timeout=10)\n--\n\nA connection from the group's address to '[2001:db8::1]:443', which can move like any other.\n\n"
     "Raises Timeout after so many seconds, Unavailable (no route, nobody there), Refused."},
    {"listen", (PyCFunction)(void (*)(void))framework_listen, METH_VARARGS | METH_KEYWORDS,
     "listen($self, port=0, *, backlog=0, blocking=True)\n--\n\nA ServerSocket on the group's address; port 0: the group's first, backlog 0: a "
     "good one. Not blocking: accept() raises Again."},
    {"use_policy", (PyCFunction)framework_use_policy, METH_VARARGS, NULL},
    {"use_builtin_policy", (PyCFunction)framework_use_builtin_policy, METH_VARARGS, NULL},
    {0}};
static PyGetSetDef attributes[] = {
    {"group", (getter)get_text, NULL, "The group's name.", (void *)gecko_framework_group},
    {"address", (getter)get_text, NULL, "The group's address; '' before join().", (void *)gecko_framework_address},
    {"node", (getter)get_text, NULL, "This node's name; '' before join().", (void *)gecko_framework_node},
    {"interface", (getter)get_text, NULL, "The group file's interface; geckod owns the interfaces.", (void *)gecko_framework_interface},
    {"ports", (getter)get_ports, NULL, "The group's ports; () before join().", NULL},
    {"is_connected", (getter)get_flag, NULL, "geckod answers. When it does not, connections go on, and the framework comes back by "
     "itself.", (void *)gecko_framework_is_connected},
    {"recovers", (getter)get_flag, NULL, "The group file says `recovery`: connections outlive their node, and Socket.save_checkpoint() is of use. "
     "False before join().", (void *)gecko_framework_recovers},
    {"closed", (getter)get_closed, NULL, "close() has been called.", NULL},
    {0}};
static PyType_Slot slots[] = {{Py_tp_new, framework_new}, {Py_tp_dealloc, framework_dealloc}, {Py_tp_methods, methods}, {Py_tp_getset, attributes}, {0}};
PyType_Spec framework_spec = {"gecko._gecko.Framework", sizeof(Framework), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
