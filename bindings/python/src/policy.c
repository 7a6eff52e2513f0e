/* Policies: the library calls one of Python, Python calls a built-in one. */
#include <stdlib.h>
#include <string.h>

#include "gecko_py.h"

static PyObject *member_class, *client_class;

PyObject *policy_set_types(PyObject *module, PyObject *args) {
  (void)module;
  PyObject *member, *client;
  if (!PyArg_ParseTuple(args, "OO:set_types", &member, &client)) return NULL;
  Py_INCREF(member);
  Py_INCREF(client);
  Py_XDECREF(member_class);
  Py_XDECREF(client_class);
  member_class = member;
  client_class = client;
  Py_RETURN_NONE;
}

PyObject *member_from(const struct gecko_member *m) {
  return PyObject_CallFunction(member_class, "ssNNNIII", m->name, m->address, PyBool_FromLong(m->up), PyBool_FromLong(m->self), PyBool_FromLong(m->contact),
                               m->connections, m->applications, m->weight);
}
static PyObject *list_of(const struct gecko_member *members, size_t count) {
  PyObject *list = PyList_New((Py_ssize_t)count);
  for (size_t i = 0; list != NULL && i < count; ++i) {
    PyObject *member = member_from(&members[i]);
    if (member == NULL || PyList_SetItem(list, (Py_ssize_t)i, member) != 0) Py_CLEAR(list);
  }
  return list;
}
/* A copy: the socket that a policy is shown lives as long as the call, a Python object may be kept. What it has said is there in any case, but only
 * for a policy that has asked for it is it worth a copy. */
static PyObject *client_from(gecko_socket *socket, size_t first_bytes) {
  char id[33];
  uint8_t raw[16];
  gecko_socket_id(socket, raw);
  for (int i = 0; i < 16; ++i) PyOS_snprintf(id + 2 * i, 3, "%02x", raw[i]);
  char *head = first_bytes == 0 ? NULL : PyMem_Malloc(first_bytes);
  ssize_t size = 0;
  if (head != NULL) {
    Py_BEGIN_ALLOW_THREADS
    size = gecko_socket_peek(socket, head, first_bytes);
    Py_END_ALLOW_THREADS
  }
  PyObject *client = PyObject_CallFunction(client_class, "ssssy#", gecko_socket_peer_text(socket), gecko_socket_local_text(socket), id, gecko_socket_from(socket),
                                           head == NULL ? "" : head, (Py_ssize_t)(size < 0 ? 0 : size));
  PyMem_Free(head);
  return client;
}

/* The index of the named member; -1: none, or it has raised. */
static int index_of(PyObject *policy, PyObject *answer, const struct gecko_member *members, size_t count) {
  if (answer == NULL || answer == Py_None) return -1;
  PyObject *bytes = PyUnicode_AsUTF8String(answer);
  const char *name = bytes == NULL ? NULL : PyBytes_AsString(bytes);
  int found = -1;
  for (size_t i = 0; name != NULL && i < count; ++i)
    if (strcmp(members[i].name, name) == 0) found = (int)i;
  if (name != NULL && found < 0) PyErr_Format(PyExc_ValueError, "select_target() of %R named '%s', which is none of the members it was given", policy, name);
  Py_XDECREF(bytes);
  return found;
}

/* What the library gets as `arg`. */
typedef struct {
  PyObject *object;
  size_t first_bytes; /* 0: it does not look at them */
} Policy;

/* The connection that this thread asks a policy about, for built-in ones that a policy in Python asks in turn. */
static _Thread_local gecko_socket *asked_about;

static int select_target(void *arg, gecko_socket *socket, const struct gecko_member *members, size_t count) {
  const Policy *policy = arg;
  PyGILState_STATE state;
  if (!gate_enter(&state)) return -1;
  gecko_socket *before = asked_about;
  asked_about = socket;
  PyObject *client = client_from(socket, policy->first_bytes), *list = list_of(members, count), *answer = NULL;
  if (client != NULL && list != NULL) answer = PyObject_CallMethod(policy->object, "select_target", "OO", client, list);
  const int chosen = index_of(policy->object, answer, members, count);
  if (PyErr_Occurred()) PyErr_WriteUnraisable(policy->object); /* and the client stays */
  asked_about = before;
  Py_XDECREF(answer);
  Py_XDECREF(list);
  Py_XDECREF(client);
  gate_leave(state);
  return chosen;
}

static int enough(void *arg, const void *bytes, size_t size) {
  const Policy *policy = arg;
  PyGILState_STATE state;
  if (!gate_enter(&state)) return 1;
  PyObject *answer = PyObject_CallMethod(policy->object, "enough", "y#", bytes, (Py_ssize_t)size);
  const int yes = answer == NULL ? -1 : PyObject_IsTrue(answer);
  if (yes < 0) PyErr_WriteUnraisable(policy->object); /* and it decides now */
  Py_XDECREF(answer);
  gate_leave(state);
  return yes != 0;
}

static void notify_failed_handoff(void *arg, const char *target, int code, const char *message) {
  const Policy *policy = arg;
  PyGILState_STATE state;
  if (!gate_enter(&state)) return;
  PyObject *error = error_of(code, message);
  PyObject *done = error == NULL ? NULL : PyObject_CallMethod(policy->object, "notify_failed_handoff", "sO", target, error);
  if (done == NULL) PyErr_WriteUnraisable(policy->object);
  Py_XDECREF(done);
  Py_XDECREF(error);
  gate_leave(state);
}

static void destroy(void *arg) {
  Policy *policy = arg;
  PyGILState_STATE state;
  if (gate_enter(&state)) { /* else the interpreter is gone, and the object with it */
    Py_DECREF(policy->object);
    gate_leave(state);
  }
  free(policy);
}

int policy_set(gecko_framework *framework, PyObject *object, const PolicyOptions *options) {
  const bool looks = (options->flags & GECKO_POLICY_WHEN_FIRST_BYTES) != 0;
  const struct gecko_policy_calls calls = {.size = sizeof calls,
                                           .flags = options->flags,
                                           .select_target = select_target,
                                           .notify_failed_handoff = notify_failed_handoff,
                                           .destroy = destroy,
                                           .first_bytes = options->first_bytes,
                                           .first_bytes_timeout_ms = options->patience_ms,
                                           .enough = enough};
  Policy *policy = malloc(sizeof *policy);
  if (policy == NULL) return GECKO_LIMIT;
  Py_INCREF(object);
  *policy = (Policy){object, looks ? options->first_bytes : 0};
  int rc;
  Py_BEGIN_ALLOW_THREADS
  rc = gecko_framework_set_policy(framework, &calls, policy);
  Py_END_ALLOW_THREADS
  if (rc < 0) { /* refused before it was taken */
    Py_DECREF(object);
    free(policy);
  }
  return rc;
}

/* --- gecko.BuiltinPolicy: what the classes Random and so on are made of */

typedef struct {
  PyObject_HEAD
  gecko_policy *policy;
} Builtin;

static PyObject *builtin_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  const char *name;
  (void)kwargs; /* a subclass may have its own */
  if (!PyArg_ParseTuple(args, "s:BuiltinPolicy", &name)) return NULL;
  gecko_policy *policy;
  const int rc = gecko_policy_open(name, &policy);
  if (rc < 0) return raise_code(rc);
  allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
  Builtin *self = (Builtin *)allocate(type, 0);
  if (self == NULL) gecko_policy_close(policy);
  else self->policy = policy;
  return (PyObject *)self;
}
static void builtin_dealloc(Builtin *self) {
  PyTypeObject *type = Py_TYPE((PyObject *)self);
  gecko_policy_close(self->policy);
  freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
  release(self);
  Py_DECREF(type);
}

static bool text_attribute(PyObject *object, const char *name, char *to, size_t size) {
  PyObject *value = PyObject_GetAttrString(object, name), *bytes = value == NULL ? NULL : PyUnicode_AsUTF8String(value);
  const char *text = bytes == NULL ? NULL : PyBytes_AsString(bytes);
  if (text != NULL) PyOS_snprintf(to, size, "%s", text);
  Py_XDECREF(bytes);
  Py_XDECREF(value);
  return text != NULL;
}
static bool number_attribute(PyObject *object, const char *name, unsigned long *to) {
  PyObject *value = PyObject_GetAttrString(object, name);
  if (value == NULL) return false;
  *to = PyLong_AsUnsignedLongMask(value);
  Py_DECREF(value);
  return !PyErr_Occurred();
}
static bool to_member(PyObject *object, struct gecko_member *m) {
  unsigned long up, self, contact, connections, applications, weight;
  memset(m, 0, sizeof *m);
  if (!text_attribute(object, "name", m->name, sizeof m->name) || !text_attribute(object, "address", m->address, sizeof m->address) ||
      !number_attribute(object, "up", &up) || !number_attribute(object, "is_self", &self) || !number_attribute(object, "is_contact", &contact) ||
      !number_attribute(object, "connections", &connections) || !number_attribute(object, "applications", &applications) ||
      !number_attribute(object, "weight", &weight))
    return false;
  m->up = up != 0;
  m->self = self != 0;
  m->contact = contact != 0;
  m->connections = (uint32_t)connections;
  m->applications = (uint32_t)applications;
  m->weight = (uint32_t)weight;
  return true;
}

static PyObject *builtin_select(Builtin *self, PyObject *members) {
  const Py_ssize_t count = PySequence_Size(members);
  if (count < 0) return NULL;
  struct gecko_member *all = PyMem_Calloc(count == 0 ? 1 : (size_t)count, sizeof *all);
  if (all == NULL) return PyErr_NoMemory();
  PyObject *name = NULL;
  Py_ssize_t good = 0;
  for (; good < count; ++good) {
    PyObject *member = PySequence_GetItem(members, good);
    const bool ok = member != NULL && to_member(member, &all[good]);
    Py_XDECREF(member);
    if (!ok) break;
  }
  if (good == count) {
    int chosen;
    Py_BEGIN_ALLOW_THREADS
    if (asked_about != NULL) chosen = gecko_policy_select_for(self->policy, asked_about, all, (size_t)count);
    else chosen = gecko_policy_select(self->policy, all, (size_t)count);
    Py_END_ALLOW_THREADS
    if (chosen >= 0 && chosen < count) {
      name = PyUnicode_FromString(all[chosen].name);
    } else {
      Py_INCREF(Py_None);
      name = Py_None;
    }
  }
  PyMem_Free(all);
  return name;
}

static PyMethodDef methods[] = {
    {"select", (PyCFunction)builtin_select, METH_O, "select($self, members, /)\n--\n\nThe name of one of the members, or None. Inside select_target(): for the connection that is asked about."}, {0}};
static PyType_Slot slots[] = {{Py_tp_new, builtin_new},
                              {Py_tp_dealloc, builtin_dealloc},
                              {Py_tp_methods, methods},
                              {Py_tp_doc, "BuiltinPolicy(name, /)\n--\n\nA policy of the library, with its own memory."},
                              {0}};
PyType_Spec builtin_policy_spec = {"gecko.BuiltinPolicy", sizeof(Builtin), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
