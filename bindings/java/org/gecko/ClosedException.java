package org.gecko;

/** The connection has ended (reset or lost), or its framework has been closed. */
public final class ClosedException extends GeckoException {
  ClosedException(String message) {
    super(Code.CLOSED, message);
  }
}
