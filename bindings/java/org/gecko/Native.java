package org.gecko;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;

/**
 * What libgecko_jni does (bindings/java/src). Objects are numbers that {@link Handle} guards; text is UTF-8; times are milliseconds, negative: for ever.
 */
final class Native {
  /** For {@link #frameworkText}. */
  static final int GROUP = 0, ADDRESS = 1, NODE = 2, INTERFACE = 3;
  /** For {@link #socketText}. */
  static final int PEER = 0, LOCAL = 1, ORIGIN = 2;
  /** For {@link #shutdown}. */
  static final int SHUT_INPUT = 0, SHUT_OUTPUT = 1;
  /** Of {@link #peek}. */
  static final int NOTHING = -2;

  static {
    System.loadLibrary("gecko_jni");
  }

  private Native() {}

  static native String version();

  static native String codeName(int code);

  static native long open(byte[] group, byte[] daemon, byte[] program, byte[] networkInterface) throws GeckoException;

  static native void frameworkClose(long framework);

  static native void join(long framework) throws GeckoException;

  static native void leave(long framework) throws GeckoException;

  static native long unaccepted(long framework);

  static native boolean isConnected(long framework);

  static native boolean recovers(long framework);

  static native void setRecovery(long framework, int port, boolean wanted) throws GeckoException;

  static native void setReplicated(long framework, int port, boolean wanted) throws GeckoException;

  static native String frameworkText(long framework, int which);

  static native int[] ports(long framework);

  static native Member[] members(long framework, int port) throws GeckoException;

  static native void setContact(long framework, byte[] node) throws GeckoException;

  static native Outcome[] handoffClient(long framework, byte[] client, byte[] target) throws GeckoException;

  static native long connect(long framework, byte[] peer, int timeout) throws GeckoException;

  static native void setPolicy(long framework, Policy policy, int flags, int firstBytes, int patience) throws GeckoException;

  static native void setBuiltinPolicy(long framework, byte[] name) throws GeckoException;

  static native long listen(long framework, int port, int backlog) throws GeckoException;

  static native long accept(long server, int timeout) throws GeckoException;

  static native int serverPort(long server);

  static native void serverEnd(long server);

  static native void serverClose(long server);

  static native void socketBind(long socket, Socket object) throws GeckoException;

  static native void socketEnd(long socket);

  static native void socketClose(long socket);

  static native void setCustom(long socket, boolean yes);

  static native String socketText(long socket, int which);

  static native byte[] socketId(long socket);

  static native boolean isMoved(long socket);

  static native boolean isPostponed(long socket);

  static native byte[] state(long socket);

  static native void setState(long socket, byte[] state) throws GeckoException;

  static native void checkpoint(long socket, byte[] state) throws GeckoException;

  static native long[] offsets(long socket) throws GeckoException;

  static native long[] recovery(long socket);

  static native byte[] lastCheckpoint(long socket);

  static native void stay(long socket, byte[] reason) throws GeckoException;

  static native void postpone(long socket, byte[] reason);

  static native void shutdown(long socket, int how) throws GeckoException;

  static native int read(long socket, byte[] to, int offset, int size, int timeout) throws GeckoException;

  static native int readDirect(long socket, ByteBuffer to, int offset, int size, int timeout) throws GeckoException;

  static native int peek(long socket, byte[] to, int offset, int size) throws GeckoException;

  static native int write(long socket, byte[] from, int offset, int size, int timeout) throws GeckoException;

  static native int writeDirect(long socket, ByteBuffer from, int offset, int size, int timeout) throws GeckoException;

  static native boolean awaitReadable(long socket, int timeout) throws GeckoException;

  static native void handoff(long socket, byte[] target, int timeout) throws GeckoException;

  static native void handoffInBackground(long socket, byte[] target) throws GeckoException;

  static native void mayLeave(long socket) throws GeckoException;

  /** Text for the library; null stays null. */
  static byte[] utf8(String text) {
    if (text == null) return null;
    if (text.indexOf('\0') >= 0) throw new IllegalArgumentException("a NUL in a name: " + text.replace("\0", "\\0"));
    return text.getBytes(StandardCharsets.UTF_8);
  }

  /** Rounded up; null: for ever. */
  static int milliseconds(Duration time) {
    if (time == null) return -1;
    if (time.isNegative()) throw new IllegalArgumentException("a time to wait cannot be negative: " + time);
    final Duration most = Duration.ofDays(11); // fits an int; nobody waits longer
    return time.compareTo(most) >= 0 ? (int) most.toMillis() : (int) time.plusNanos(999_999).toMillis();
  }

  /** A port, 0 for the group's first. */
  static int port(int port) {
    if (port < 0 || port > 65535) throw new IllegalArgumentException("a port is a number up to 65535, not " + port);
    return port;
  }
}
