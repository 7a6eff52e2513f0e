package org.gecko;

/** The connection lives on another node now: close the socket, nothing else is to be done. */
public final class MovedException extends GeckoException {
  MovedException(String message) {
    super(Code.MOVED, message);
  }
}
