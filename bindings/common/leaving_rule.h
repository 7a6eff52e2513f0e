/* When a connection may leave, for languages whose programs know nothing of moves (bindings/python, bindings/java): while the program waits for its
 * next bytes and no write is under way, at no other moment. Whatever was read has then been dealt with. A move that is wanted at another moment
 * follows by itself at the next such one.
 *
 * Exactness: reads consume under a lock of the library that a move takes before it asks leaving_rule_yield(); `resting` is 0 whenever a read may
 * consume. The two sides cannot miss each other: one sets `resting` and then looks at `wanted`, the other sets `wanted` and then looks at
 * `resting`, and one of them sees the other.
 *
 * C and C++. Any thread; nothing here enters an interpreter or a virtual machine. */
#ifndef GECKO_BINDINGS_LEAVING_RULE_H
#define GECKO_BINDINGS_LEAVING_RULE_H

#include <gecko/gecko.h>
#include <time.h>

#ifdef __cplusplus
#include <atomic>
using std::atomic_bool;
using std::atomic_int;
#else
#include <stdatomic.h>
#include <stdbool.h>
#endif

typedef struct {
  atomic_int resting;  /* reads that have found nothing and wait */
  atomic_int writing;  /* writes that are not finished */
  atomic_bool wanted;  /* somebody asked for it at a wrong moment */
} LeavingRule;

static inline bool leaving_rule_allows(LeavingRule *rule) { return atomic_load(&rule->resting) > 0 && atomic_load(&rule->writing) == 0; }

/* What the socket's yield callback (gecko_yield_fn) answers. */
static inline int leaving_rule_yield(LeavingRule *rule, gecko_socket *socket) {
  if (leaving_rule_allows(rule)) return 1;
  atomic_store(&rule->wanted, true);
  if (leaving_rule_allows(rule)) {
    atomic_store(&rule->wanted, false);
    return 1;
  }
  return gecko_socket_postpone(socket, "the program is at work with it");
}

/* After `resting` has grown: goes now if somebody has asked. May sleep for a moment: no lock of an interpreter may be held. */
static inline void leaving_rule_follow(LeavingRule *rule, gecko_socket *socket) {
  if (!atomic_load(&rule->wanted) || !leaving_rule_allows(rule)) return;
  /* The library says so when leaving_rule_yield() has returned and geckod has been told; usually microseconds. Not at all if it was a handoff of another
   * thread of this program that met an unfinished write: then it has failed, and nobody waits for it. */
  const struct timespec step = {0, 100000};
  for (int i = 0; i < 200 && !gecko_socket_is_postponed(socket); ++i) nanosleep(&step, NULL);
  if (!atomic_exchange(&rule->wanted, false) || !gecko_socket_is_postponed(socket)) return;
  (void)gecko_socket_handoff_background(socket, NULL); /* nobody can take it now: it stays, geckod asks again */
}

#endif
