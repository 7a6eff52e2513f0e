package org.gecko;

import java.io.IOException;
import java.nio.channels.AsynchronousCloseException;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.spi.AbstractInterruptibleChannel;

/**
 * Around calls that wait: an interrupt closes the object, as with channels. A channel of its own, whose {@code close()} nobody calls: it would hold a lock
 * while the library waits for a callback to return, which may want to close, too.
 */
final class Waits extends AbstractInterruptibleChannel {
  private final Handle handle;

  interface Call<T> {
    T of(long object) throws IOException;
  }

  Waits(Handle handle) {
    this.handle = handle;
  }

  @Override
  protected void implCloseChannel() {
    handle.close();
  }

  /** A call that returns at once. */
  <T> T direct(Call<T> call) throws IOException {
    final long object = handle.enter();
    if (object == 0) throw new ClosedChannelException();
    try {
      return call.of(object);
    } finally {
      handle.leave();
    }
  }

  <T> T waiting(Call<T> call) throws IOException {
    final long object = handle.enter();
    if (object == 0) throw new ClosedChannelException();
    boolean done = false;
    try {
      begin();
      final T result = call.of(object);
      done = true;
      return result;
    } catch (ClosedException error) {
      if (handle.isClosed()) throw new AsynchronousCloseException();
      throw error;
    } finally {
      handle.leave();
      end(done);
    }
  }
}
