/* Where a connection may leave: by the rule that all bindings share (../../common/leaving_rule.h), or as the program says with on_yield(). */
#include "gecko_py.h"

int boundary_yield(void *arg, gecko_socket *socket) {
  Boundary *b = arg;
  if (!atomic_load(&b->custom)) return leaving_rule_yield(&b->rule, socket);
  PyGILState_STATE state;
  if (!gate_enter(&state)) return 0;
  int go = 0;
  PyObject *object = PyWeakref_GetObject(b->socket); /* borrowed; None: being freed by a thread that waits for us */
  if (object != NULL && object != Py_None) {
    Py_INCREF(object);
    go = socket_yield(object);
    Py_DECREF(object); /* may free it, and *b */
  }
  gate_leave(state);
  return go;
}
