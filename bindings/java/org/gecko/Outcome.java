package org.gecko;

/**
 * What became of one connection in {@link Framework#handoffClient}.
 *
 * @param client its endpoint: [2001:db8::1]:4711
 * @param origin the node that owned it
 * @param number 0: moved; else the number of a {@link Code}
 * @param reason why it did not move; "" if it did
 */
public record Outcome(String client, String origin, int number, String reason) {
  /** It lives on the target now. */
  public boolean moved() {
    return number == 0;
  }
}
