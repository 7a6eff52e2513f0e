package org.gecko;

import java.io.IOException;
import java.nio.channels.InterruptibleChannel;
import java.time.Duration;

/** Listens on the group's address; from {@link Framework#listen()}. Any number of threads may wait in {@link #accept()}. */
public final class ServerSocket implements InterruptibleChannel {
  private final Framework framework;
  private final Handle handle;
  private final Waits waits;
  private final int port;

  ServerSocket(Framework framework, long object) {
    this.framework = framework;
    handle = new Handle(object, Native::serverEnd, Native::serverClose);
    handle.belongsTo(this);
    waits = new Waits(handle);
    port = Native.serverPort(object);
  }

  /**
   * The next connection: a new client's, one that arrives from another node ({@link Socket#origin()}), or one whose node has died
   * ({@link Socket#recovery()}). Waits for it.
   *
   * @throws GeckoException {@link Code#LIMIT}: no descriptors left; {@link Code#CLOSED}: the framework has been closed
   * @throws java.nio.channels.ClosedChannelException this server socket has been closed, before the call or during it
   */
  public Socket accept() throws IOException {
    return accept(null);
  }

  /**
   * The same within a time.
   *
   * @param timeout null: for ever
   * @throws TimedOutException nobody came
   */
  public Socket accept(Duration timeout) throws IOException {
    final int time = Native.milliseconds(timeout);
    final Socket[] accepted = new Socket[1];
    try {
      return waits.waiting(object -> accepted[0] = new Socket(framework, Native.accept(object, time)));
    } catch (IOException error) {
      if (accepted[0] != null) accepted[0].close(); // interrupted with a client in its hands
      throw error;
    }
  }

  /** The port it listens on. */
  public int port() {
    return port;
  }

  /** Whose server socket it is. */
  public Framework framework() {
    return framework;
  }

  @Override
  public boolean isOpen() {
    return !handle.isClosed();
  }

  /** Listens no more; {@link #accept()} in other threads ends. Connections that were accepted go on. */
  @Override
  public void close() {
    handle.close();
  }
}
