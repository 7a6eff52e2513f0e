/* What the files of the extension module share. The module is the part of the Python package `gecko` that must be C: the calls of gecko.h with
 * the GIL given away, the way of the library's callbacks into the interpreter, and who frees what when. Everything else is Python (../gecko).
 *
 * Locks: the GIL is never held inside a call of the library that may wait or take a lock, because another thread may hold that lock in a callback
 * and wait for the GIL. Limited API of 3.11: one binary for this and every later Python. */
#ifndef GECKO_PY_H
#define GECKO_PY_H

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <gecko/gecko.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "../../common/leaving_rule.h"

/* --- objects.c: an object of the library and the calls that are inside it. All with the GIL.
 * close() of Python must be safe while other threads are inside calls: the last one to leave frees the object. */
typedef struct {
  void *object;          /* NULL: closed */
  int users;
  bool closing;
  void (*end)(void *);   /* makes calls of other threads return soon; may be NULL. Without the GIL */
  void (*free)(void *);  /* without the GIL */
} Lease;
void *lease_enter(Lease *lease, const char *what); /* NULL: closed, exception set */
void lease_leave(Lease *lease);
void lease_close(Lease *lease);

/* --- errors.c */
extern PyObject *gecko_error_moved, *gecko_error_closed; /* the classes gecko.Moved and gecko.Closed */
PyObject *raise_code(int code);                    /* with gecko_last_error(); always NULL */
PyObject *raise_text(int code, const char *text);  /* always NULL */
PyObject *errors_set_classes(PyObject *module, PyObject *classes);
PyObject *error_of(int code, const char *text);    /* an exception object, not raised */

/* --- waiting.c: timeouts of Python (seconds, None: for ever), and waits that let signal handlers run */
enum { INTERRUPTED = -1000 };                      /* a signal handler raised: the exception is set */
bool timeout_from(PyObject *object, double *seconds);  /* negative: for ever. false: exception set */
int milliseconds(double seconds);                  /* of a timeout, rounded up */
void remember_main_thread(void);
/* Calls `wait` (without the GIL) until it returns something else than `again`, or the timeout: then `again`. INTERRUPTED: exception set. */
int wait_for(double seconds, int (*wait)(void *arg, int timeout_ms), void *arg, int again);

/* --- gate.c: the way of callbacks into the interpreter, which is shut when the interpreter ends */
bool gate_enter(PyGILState_STATE *state);          /* false: too late, do without Python */
void gate_leave(PyGILState_STATE state);
void gate_shut(void);                              /* with the GIL; returns when no callback is inside */
void gate_prepare(void);

/* --- boundary.c: when a connection may leave */
typedef struct {
  LeavingRule rule;
  atomic_bool custom;    /* the program decides by itself: `socket` has a callback */
  PyObject *socket;      /* weak reference */
} Boundary;
int boundary_yield(void *boundary, gecko_socket *socket);   /* a gecko_yield_fn */

/* --- types */
extern PyTypeObject *socket_type, *server_type, *framework_type, *builtin_policy_type;
extern PyType_Spec socket_spec, server_spec, framework_spec, builtin_policy_spec;
PyObject *socket_new(gecko_socket *handle, PyObject *framework);   /* takes the handle over */
int socket_yield(PyObject *socket);                                /* runs the program's callback; with the GIL */
PyObject *server_new(gecko_server *handle, PyObject *framework);
void *framework_enter(PyObject *framework);
void framework_leave(PyObject *framework);

/* --- socket_recovery.c */
PyObject *recovery_set_types(PyObject *module, PyObject *args);    /* the classes Recovery and Checkpoint */

/* --- policy.c */
PyObject *policy_set_types(PyObject *module, PyObject *args);      /* the classes Member and Client */
PyObject *member_from(const struct gecko_member *member);
typedef struct {
  unsigned flags;
  unsigned first_bytes, patience_ms; /* with GECKO_POLICY_WHEN_FIRST_BYTES */
} PolicyOptions;
int policy_set(gecko_framework *framework, PyObject *policy, const PolicyOptions *options);  /* a code; exceptions: none */

#endif
