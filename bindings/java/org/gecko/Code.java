package org.gecko;

/** What kind of error it is: enum gecko_code of the C interface. */
public enum Code {
  /** The world broke in a way nobody can act on: see the text. */
  INTERNAL(-1),
  /** An argument is malformed or does not fit the moment. */
  INVALID(-2),
  /** No such node, group, file. */
  NOT_FOUND(-3),
  /** The other side said no. */
  REFUSED(-4),
  /** Another operation on the same thing is running, or a call that waits was made inside a callback. */
  BUSY(-5),
  /** geckod or a node cannot be reached. Connections go on. */
  UNAVAILABLE(-6),
  /** The time is over. A handoff is then still on its way. */
  TIMEOUT(-7),
  /** This user may not do this: [rights] in the group file. */
  PERMISSION(-8),
  /** A limit of docs/api.md or of the process. */
  LIMIT(-9),
  /** Not possible with this connection, kernel or library. */
  UNSUPPORTED(-10),
  /** The connection has ended. */
  CLOSED(-11),
  /** The connection lives on another node now. */
  MOVED(-12),
  /** There is one already. */
  EXISTS(-13),
  /** geckod and this library do not understand each other. */
  VERSION_MISMATCH(-14),
  /** Nothing can be done now (timeout 0). */
  AGAIN(-15);

  private final int number;

  Code(int number) {
    this.number = number;
  }

  /** As in gecko.h: negative. */
  public int number() {
    return number;
  }

  /** A newer library may know more: they are {@link #INTERNAL}. */
  static Code of(int number) {
    for (Code code : values()) {
      if (code.number == number) return code;
    }
    return INTERNAL;
  }
}
