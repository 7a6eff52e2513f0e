/* Callbacks come from threads of the library at any time, also while the interpreter is going away: then entering it would end the thread in the
 * middle of C++ frames. So the last thing before that (atexit) shuts this gate and waits until nobody is inside. */
#include <pthread.h>

#include "gecko_py.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t left = PTHREAD_COND_INITIALIZER;
static int inside;
static bool shut;

bool gate_enter(PyGILState_STATE *state) {
  pthread_mutex_lock(&lock);
  const bool open = !shut;
  if (open) ++inside;
  pthread_mutex_unlock(&lock);
  if (open) *state = PyGILState_Ensure();
  return open;
}

void gate_leave(PyGILState_STATE state) {
  PyGILState_Release(state);
  pthread_mutex_lock(&lock);
  if (--inside <= 0) pthread_cond_broadcast(&left);
  pthread_mutex_unlock(&lock);
}

void gate_shut(void) {
  Py_BEGIN_ALLOW_THREADS
  pthread_mutex_lock(&lock);
  shut = true;
  while (inside > 0) pthread_cond_wait(&left, &lock);
  pthread_mutex_unlock(&lock);
  Py_END_ALLOW_THREADS
}

/* A forked child has none of the threads that were inside; its only one is its main thread. */
static void before_fork(void) { pthread_mutex_lock(&lock); }
static void in_parent(void) { pthread_mutex_unlock(&lock); }
static void in_child(void) {
  inside = 0;
  pthread_mutex_init(&lock, NULL);
  pthread_cond_init(&left, NULL);
  remember_main_thread();
}

void gate_prepare(void) { pthread_atfork(before_fork, in_parent, in_child); }
