package org.gecko;

import java.lang.ref.Cleaner;
import java.util.function.LongConsumer;

/**
 * An object of the library and the calls that are inside it. {@link #close()} may come from any thread at any time: it ends the object, so that calls of other
 * threads return soon, and the last one to leave frees it.
 */
final class Handle {
  private static final Cleaner CLEANER = Cleaner.create();

  private final LongConsumer end;
  private final LongConsumer free;
  private long object; // 0: freed
  private int users;
  private boolean closed;
  private Cleaner.Cleanable cleanable;

  /** Takes the object over. {@code end} makes calls of other threads return; null: they come back by themselves. */
  Handle(long object, LongConsumer end, LongConsumer free) {
    this.object = object;
    this.end = end;
    this.free = free;
  }

  /** The safety net: freed if its owner is forgotten. Nobody can be waited for then, so nothing is ended under anybody's feet. */
  void belongsTo(Object owner) {
    cleanable = CLEANER.register(owner, this::forget);
  }

  /** The object, for calls until {@link #leave()}; 0: it is closed, there is nothing to leave. */
  synchronized long enter() {
    if (closed) return 0;
    ++users;
    return object;
  }

  void leave() {
    long last = 0;
    synchronized (this) {
      if (--users == 0 && closed) last = take();
    }
    if (last != 0) free.accept(last);
  }

  void close() {
    long last = 0;
    long ending = 0;
    synchronized (this) {
      if (closed) return;
      closed = true;
      if (users == 0) {
        last = take();
      } else if (end != null) {
        ++users;
        ending = object;
      }
    }
    if (last != 0) free.accept(last);
    if (ending != 0) {
      end.accept(ending);
      leave();
    }
    if (cleanable != null) cleanable.clean();
  }

  synchronized boolean isClosed() {
    return closed;
  }

  private void forget() {
    long last = 0;
    synchronized (this) {
      if (closed) return;
      closed = true;
      if (users == 0) last = take();
    }
    if (last != 0) free.accept(last);
  }

  private long take() {
    final long last = object;
    object = 0;
    return last;
  }
}
