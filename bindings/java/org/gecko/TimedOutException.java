package org.gecko;

/** The time is over. A handoff is then still on its way. */
public final class TimedOutException extends GeckoException {
  TimedOutException(String message) {
    super(Code.TIMEOUT, message);
  }
}
