/* The default rule: a connection leaves while the program waits for its next bytes and no write is under way, at no other moment. Whatever was
 * read has then been dealt with, and the program need not know anything about moves. A move that is wanted at another moment follows by itself at
 * the next such one.
 *
 * Exactness: reads consume under a lock of the library that a move takes before it asks boundary_yield(); `resting` is 0 whenever a read may
 * consume. The two sides cannot miss each other: one sets `resting` and then looks at `wanted`, the other sets `wanted` and then looks at
 * `resting`, and one of them sees the other. */
#include <time.h>

#include "gecko_py.h"

static bool at_boundary(Boundary *b) { return atomic_load(&b->resting) > 0 && atomic_load(&b->writing) == 0; }

int boundary_yield(void *arg, gecko_socket *socket) {
  Boundary *b = arg;
  if (atomic_load(&b->custom)) {
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
  if (at_boundary(b)) return 1;
  atomic_store(&b->wanted, true);
  if (at_boundary(b)) {
    atomic_store(&b->wanted, false);
    return 1;
  }
  return gecko_socket_postpone(socket, "the program is at work with it");
}

void boundary_follow(Boundary *b, gecko_socket *socket) {
  if (!atomic_load(&b->wanted) || !at_boundary(b)) return;
  /* The library says so when boundary_yield() has returned and geckod has been told; usually microseconds. Not at all if it was a handoff of another thread of
   * this program that met an unfinished write: then it has failed, and nobody waits for it. */
  for (int i = 0; i < 200 && !gecko_socket_is_postponed(socket); ++i) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
  if (!atomic_exchange(&b->wanted, false) || !gecko_socket_is_postponed(socket)) return;
  (void)gecko_socket_handoff_background(socket, NULL); /* nobody can take it now: it stays, geckod asks again */
}
