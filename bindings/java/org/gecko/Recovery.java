package org.gecko;

import java.util.Optional;

/**
 * How far a connection was when its node died ({@link Socket#recovery()}). Offsets are bytes since its birth.
 *
 * <p>The client has received {@code sent} bytes, exactly: the next byte written must be the one after. What the dead program had written after its
 * checkpoint, {@code sent - checkpoint.output()}, is not to be written again; what it had read after it, {@code received - checkpoint.input()}, is gone. Who
 * cannot go on from there closes the connection.
 *
 * @param received taken by the dead node: the next byte read is the one after
 * @param sent received by the client
 * @param checkpoint the last one; empty: the dead program had made none
 */
public record Recovery(long received, long sent, Optional<Checkpoint> checkpoint) {
  /**
   * @param state what the program gave to {@link Socket#checkpoint(byte[])}
   * @param input bytes read when it was made
   * @param output bytes written when it was made
   */
  public record Checkpoint(byte[] state, long input, long output) {}
}
