#include "gecko_py.h"

void *lease_enter(Lease *lease, const char *what) {
  if (lease->object == NULL || lease->closing) {
    char text[80];
    PyOS_snprintf(text, sizeof text, "the %s has been closed", what);
    return raise_text(GECKO_CLOSED, text);
  }
  ++lease->users;
  return lease->object;
}

/* Freeing may run callbacks of Python in this very thread; a pending exception must survive that. */
static void free_object(Lease *lease) {
  void *object = lease->object;
  PyObject *type, *value, *traceback;
  lease->object = NULL;
  PyErr_Fetch(&type, &value, &traceback);
  Py_BEGIN_ALLOW_THREADS
  lease->free(object);
  Py_END_ALLOW_THREADS
  PyErr_Restore(type, value, traceback);
}

void lease_leave(Lease *lease) {
  if (--lease->users == 0 && lease->closing && lease->object != NULL) free_object(lease);
}

void lease_close(Lease *lease) {
  if (lease->object == NULL || lease->closing) return;
  lease->closing = true;
  if (lease->users == 0) {
    free_object(lease);
  } else if (lease->end != NULL) {
    void *object = lease->object;
    ++lease->users;
    Py_BEGIN_ALLOW_THREADS
    lease->end(object);
    Py_END_ALLOW_THREADS
    lease_leave(lease);
  }
}
