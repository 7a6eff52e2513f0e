/* Python runs signal handlers in its main thread only, between two steps of the interpreter. libgecko's waits are not ended by a signal, so the
 * main thread waits in slices and looks in between: ^C is answered after at most one. Other threads wait in one piece. */
#include <math.h>
#include <time.h>

#include "gecko_py.h"

enum { SLICE_MS = 200 };

static unsigned long main_thread;

void remember_main_thread(void) { main_thread = PyThread_get_thread_ident(); }

bool timeout_from(PyObject *object, double *seconds) {
  if (object == NULL || object == Py_None) {
    *seconds = -1;
    return true;
  }
  const double value = PyFloat_AsDouble(object);
  if (value == -1 && PyErr_Occurred()) return false;
  if (!(value >= 0)) {
    PyErr_SetString(PyExc_ValueError, "a timeout is a number of seconds, not negative, or None");
    return false;
  }
  *seconds = value;
  return true;
}

int milliseconds(double seconds) {
  if (seconds < 0) return -1;
  const double ms = ceil(seconds * 1000);
  return ms < 1e9 ? (int)ms : 1000000000; /* 11 days: nobody waits longer */
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int wait_for(double seconds, int (*wait)(void *arg, int timeout_ms), void *arg, int again) {
  const bool sliced = PyThread_get_thread_ident() == main_thread;
  const double end = seconds < 0 ? 0 : now() + seconds;
  for (double left = seconds;;) {
    int ms = milliseconds(left), rc;
    if (sliced && (ms < 0 || ms > SLICE_MS)) ms = SLICE_MS;
    Py_BEGIN_ALLOW_THREADS
    rc = wait(arg, ms);
    Py_END_ALLOW_THREADS
    if (rc != again) return rc;
    if (sliced && PyErr_CheckSignals() != 0) return INTERRUPTED;
    if (seconds >= 0 && (left = end - now()) <= 0) return again;
  }
}
