package org.gecko;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.channels.ByteChannel;
import java.nio.channels.InterruptibleChannel;
import java.time.Duration;
import java.util.HexFormat;
import java.util.Objects;
import java.util.Optional;
import java.util.function.Predicate;

/**
 * A connection between a client and the group, wherever it lives; from {@link ServerSocket#accept()} or {@link Framework#connect(String)}.
 *
 * <p>When it has moved, every call throws {@link MovedException}: close it, nothing else is to be done; what was written reaches the client, what was not
 * read is read on the other node. After a move that failed it goes on as if nothing had happened. The package says when it may leave.
 */
public final class Socket implements ByteChannel, InterruptibleChannel {
  private final Framework framework; // not collected before its sockets
  private final Handle handle;
  private final Waits waits;
  private final String peer;
  private final String local;
  private final String origin;
  private final String id;
  private volatile int timeout = -1;
  private volatile Predicate<? super Socket> callback;

  Socket(Framework framework, long object) throws GeckoException {
    this.framework = framework;
    handle = new Handle(object, Native::socketEnd, Native::socketClose);
    handle.belongsTo(this);
    waits = new Waits(handle);
    peer = Native.socketText(object, Native.PEER);
    local = Native.socketText(object, Native.LOCAL);
    origin = Native.socketText(object, Native.ORIGIN);
    id = HexFormat.of().formatHex(Native.socketId(object));
    boolean bound = false;
    try {
      Native.socketBind(object, this);
      bound = true;
    } finally {
      if (!bound) handle.close();
    }
  }

  // --- streams

  /**
   * Waits for bytes.
   *
   * @return at least one and at most {@code length} (32768 at a time into an array); -1 at the end of the stream; 0 if {@code length} is
   * @throws MovedException it lives on another node now
   * @throws ClosedException the client has reset it, or its framework is gone
   * @throws TimedOutException see {@link #setTimeout(Duration)}
   * @throws java.nio.channels.ClosedChannelException this socket has been closed, before the call or during it
   */
  public int read(byte[] buffer, int offset, int length) throws IOException {
    Objects.checkFromIndexSize(offset, length, buffer.length);
    if (length == 0) return 0;
    return waits.waiting(object -> Native.read(object, buffer, offset, length, timeout));
  }

  /** The same into a whole array. */
  public int read(byte[] buffer) throws IOException {
    return read(buffer, 0, buffer.length);
  }

  /** The same into a buffer, without a copy if it is direct. */
  @Override
  public int read(ByteBuffer to) throws IOException {
    if (to.isReadOnly()) throw new IllegalArgumentException("a buffer that can only be read");
    final int at = to.position();
    final int size = to.remaining();
    if (size == 0) return 0;
    final int n;
    if (to.isDirect()) {
      n = waits.waiting(object -> Native.readDirect(object, to, at, size, timeout));
    } else {
      n = read(to.array(), to.arrayOffset() + at, size);
    }
    if (n > 0) to.position(at + n);
    return n;
  }

  /**
   * What {@link #read(byte[], int, int) read()} would give, left where it is. Never waits.
   *
   * @return how many bytes; 0: nothing is there; -1: the end of the stream
   */
  public int peek(byte[] buffer, int offset, int length) throws IOException {
    Objects.checkFromIndexSize(offset, length, buffer.length);
    if (length == 0) return 0;
    final int n = waits.direct(object -> Native.peek(object, buffer, offset, length));
    return n == Native.NOTHING ? 0 : n;
  }

  /**
   * Waits until {@link #read(byte[], int, int) read()} has something, the end of the stream for example. The connection may leave meanwhile.
   *
   * @param time null: for ever
   * @return false: the time is over; or {@link #postpone(String)} was called meanwhile, {@link #isPostponed()}, and the move can perhaps follow now
   */
  public boolean awaitReadable(Duration time) throws IOException {
    final int wait = Native.milliseconds(time);
    return waits.waiting(object -> Native.awaitReadable(object, wait));
  }

  /**
   * Writes everything.
   *
   * @return how many bytes; less than all only if the connection moves or ends meanwhile or the client takes nothing for too long; the next call says why
   * @throws TimedOutException nothing was written: see {@link #setTimeout(Duration)}
   */
  public int write(byte[] buffer, int offset, int length) throws IOException {
    Objects.checkFromIndexSize(offset, length, buffer.length);
    if (length == 0) return 0;
    return waits.waiting(object -> Native.write(object, buffer, offset, length, timeout));
  }

  /** The same with a whole array. */
  public int write(byte[] buffer) throws IOException {
    return write(buffer, 0, buffer.length);
  }

  /** The same from a buffer, without a copy if it is direct. */
  @Override
  public int write(ByteBuffer from) throws IOException {
    final int at = from.position();
    final int size = from.remaining();
    if (size == 0) return 0;
    final int n;
    if (from.isDirect()) {
      n = waits.waiting(object -> Native.writeDirect(object, from, at, size, timeout));
    } else if (from.hasArray()) {
      n = write(from.array(), from.arrayOffset() + at, size);
    } else { // of somebody who may not see its array
      final byte[] copy = new byte[size];
      from.duplicate().get(copy);
      n = write(copy, 0, size);
    }
    from.position(at + n);
    return n;
  }

  /**
   * How long {@code read()} and {@code write()} wait for the client; {@link ServerSocket#accept()} gives sockets that wait for ever.
   *
   * @param time null: for ever; zero: not at all, then they throw {@link Code#AGAIN}
   */
  public void setTimeout(Duration time) {
    timeout = Native.milliseconds(time);
  }

  /** Unbuffered: nothing is read ahead. To close it closes the socket. */
  public InputStream inputStream() {
    return new InputStream() {
      @Override
      public int read() throws IOException {
        final byte[] one = new byte[1];
        return Socket.this.read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
      }

      @Override
      public int read(byte[] buffer, int offset, int length) throws IOException {
        return Socket.this.read(buffer, offset, length);
      }

      @Override
      public void close() {
        Socket.this.close();
      }
    };
  }

  /** Unbuffered: what was written is on its way. Writes everything or throws. To close it closes the socket. */
  public OutputStream outputStream() {
    return new OutputStream() {
      @Override
      public void write(int value) throws IOException {
        write(new byte[] {(byte) value}, 0, 1);
      }

      @Override
      public void write(byte[] buffer, int offset, int length) throws IOException {
        for (int done = 0; done < length; ) done += Socket.this.write(buffer, offset + done, length - done);
      }

      @Override
      public void close() {
        Socket.this.close();
      }
    };
  }

  /** The client reads the end of the stream after what was written. */
  public void shutdownOutput() throws IOException {
    shutdown(Native.SHUT_OUTPUT);
  }

  /** What the client still sends is not read. */
  public void shutdownInput() throws IOException {
    shutdown(Native.SHUT_INPUT);
  }

  private void shutdown(int how) throws IOException {
    waits.waiting(object -> {
      Native.shutdown(object, how);
      return null;
    });
  }

  @Override
  public boolean isOpen() {
    return !handle.isClosed();
  }

  /** Closes the connection, unless it has moved. Calls of other threads on this socket end. */
  @Override
  public void close() {
    handle.close();
  }

  // --- what it is

  /** The client: [2001:db8::1]:4711. */
  public String peer() {
    return peer;
  }

  /** The group's address and port. */
  public String local() {
    return local;
  }

  /** The node it came from; "" for a new client. */
  public String origin() {
    return origin;
  }

  /** 32 hex digits, the same on every node. */
  public String id() {
    return id;
  }

  /** Whose socket it is. */
  public Framework framework() {
    return framework;
  }

  /** It lives on another node now. */
  public boolean isMoved() throws IOException {
    return waits.direct(Native::isMoved);
  }

  /** Somebody wants it elsewhere and was told: later. */
  public boolean isPostponed() throws IOException {
    return waits.direct(Native::isPostponed);
  }

  // --- what travels with it, and what survives its node

  /** What {@link #setState(byte[])} was given, here or on the node it came from; empty: nothing. */
  public byte[] state() throws IOException {
    return waits.direct(Native::state);
  }

  /** The program's state of the connection, at most 1 MiB: travels with it, is there when it has arrived. */
  public void setState(byte[] state) throws IOException {
    Objects.requireNonNull(state);
    waits.direct(object -> {
      Native.setState(object, state);
      return null;
    });
  }

  /**
   * For the day this node dies: the program's state (at most 1 MiB) after all that it has read and written so far, kept by other nodes until the next one.
   * No other thread may read or write meanwhile. It is under way when this returns: a node that dies within milliseconds may take it along, then the one before
   * counts. A connection that has moved or was recovered needs a new one. Of use where {@link Framework#recovers()}.
   */
  public void checkpoint(byte[] state) throws IOException {
    Objects.requireNonNull(state);
    waits.waiting(object -> {
      Native.checkpoint(object, state);
      return null;
    });
  }

  /** How far it was when its node, {@link #origin()}, died; empty: no node of this connection's has died before it came here. */
  public Optional<Recovery> recovery() throws IOException {
    return waits.direct(object -> {
      final long[] at = Native.recovery(object);
      if (at == null) return Optional.empty();
      final Optional<Recovery.Checkpoint> last =
          at.length == 2 ? Optional.empty() : Optional.of(new Recovery.Checkpoint(Native.lastCheckpoint(object), at[2], at[3]));
      return Optional.of(new Recovery(at[0], at[1], last));
    });
  }

  /**
   * How far its streams are.
   *
   * @throws GeckoException {@link Code#UNSUPPORTED}: it has passed a node of an older version, which did not count
   */
  public Offsets offsets() throws IOException {
    return waits.waiting(object -> {
      final long[] at = Native.offsets(object);
      return new Offsets(at[0], at[1]);
    });
  }

  // --- moves

  /** Moves it by the policy, without one to a node of geckod's choice; see {@link #handoff(String, Duration)}. */
  public void handoff() throws IOException {
    handoff(null, null);
  }

  /** Moves it; see {@link #handoff(String, Duration)}. */
  public void handoff(String target) throws IOException {
    handoff(target, null);
  }

  /**
   * Moves it and waits for the outcome: after a return it has moved, after an exception it is here and goes on. An interrupt does not end it: the
   * connection would be lost half-way.
   *
   * @param target a node's name or address; null: by the policy, without one geckod chooses
   * @param time null: for ever
   * @throws TimedOutException it is still on its way
   * @throws GeckoException {@link Code#REFUSED}, {@link Code#NOT_FOUND}, {@link Code#UNAVAILABLE}, ...
   */
  public void handoff(String target, Duration time) throws IOException {
    final byte[] node = Native.utf8(target);
    final int wait = Native.milliseconds(time);
    waits.direct(object -> {
      Native.handoff(object, node, wait);
      return null;
    });
  }

  /**
   * Moves it while the program goes on. If a target fails, the policy chooses another, three in all; each failure is reported to the policy.
   *
   * @param target as for {@link #handoff(String, Duration)}
   */
  public void handoffInBackground(String target) throws IOException {
    final byte[] node = Native.utf8(target);
    waits.direct(object -> {
      Native.handoffInBackground(object, node);
      return null;
    });
  }

  /**
   * It may leave at this moment, although the program does not wait for bytes: between two pieces of a long answer. Costs nothing if nobody wants it elsewhere;
   * else waits for the outcome. {@link #state()} must be right.
   *
   * @throws MovedException it has gone
   */
  public void mayLeave() throws IOException {
    waits.waiting(object -> {
      Native.mayLeave(object);
      return null;
    });
  }

  /**
   * The program decides by itself when it may leave, for example because it reads and writes in different threads. The callback is called when the connection
   * is about to leave, with reads and writes locked out already: it sets the state and returns true, or false to keep it, or
   * {@code return socket.postpone("a request is in progress")}. It must not wait for a thread that may be inside a call on this socket. An exception keeps the
   * connection.
   *
   * @param decide null: the rule of the package again
   */
  public void onYield(Predicate<? super Socket> decide) throws IOException {
    waits.direct(object -> {
      callback = decide;
      Native.setCustom(object, decide != null);
      return null;
    });
  }

  /**
   * Inside the callback: "not now, it will follow by itself", at the next {@link #mayLeave()}, or when the program hands it off without a target. Returns
   * false.
   */
  public boolean postpone(String reason) throws IOException {
    final byte[] text = Native.utf8(reason);
    waits.direct(object -> {
      Native.postpone(object, text);
      return null;
    });
    return false;
  }

  /** It stays here from now on, and operators are told why; null: it can move again. */
  public void stay(String reason) throws IOException {
    final byte[] text = Native.utf8(reason);
    waits.direct(object -> {
      Native.stay(object, text);
      return null;
    });
  }

  /** What the callback says; false: there is none, or the socket is closed. Whoever closes it meanwhile leaves it to this call to free it. */
  boolean askProgram() {
    if (handle.enter() == 0) return false;
    try {
      final Predicate<? super Socket> decide = callback;
      return decide != null && decide.test(this);
    } finally {
      handle.leave();
    }
  }

  @Override
  public String toString() {
    return "Socket[" + peer + " at " + local + (isOpen() ? "]" : ", closed]");
  }
}
