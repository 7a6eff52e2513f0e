package org.gecko;

import java.time.Duration;
import java.util.List;

/**
 * Which node a connection goes to. The contact node's framework asks about every new client; one that is to live elsewhere is handed off in the
 * background and {@code accept()} does not return it.
 *
 * <p>Calls are serialised and come from whichever thread is in the library; they must not wait ({@link Code#BUSY}). An exception goes to that thread's
 * uncaught exception handler, and the client stays. {@link #when()}, {@link #onlyUnplaced()}, {@link #firstBytes()} and {@link #patience()} are read once, by
 * {@link Framework#setPolicy(Policy)}.
 */
@FunctionalInterface
public interface Policy {
  /**
   * Chooses.
   *
   * @param members only nodes that can take the connection
   * @return the name of one of them, or null: it stays here
   */
  String selectTarget(Client client, List<Member> members);

  /** A handoff to {@code target} failed; the connection is unharmed. */
  default void notifyFailedHandoff(String target, GeckoException why) {}

  /** When it is asked. */
  default When when() {
    return When.ACCEPT;
  }

  /** True: not asked about new clients where the group file names a policy, because that one has spread them already. */
  default boolean onlyUnplaced() {
    return false;
  }

  /** With {@link When#FIRST_BYTES}: decide now? Otherwise it is asked again when there are more. */
  default boolean enough(byte[] head) {
    return head.length > 0;
  }

  /** With {@link When#FIRST_BYTES}: so many bytes are enough anyway; 1 to 65536. */
  default int firstBytes() {
    return 4096;
  }

  /** With {@link When#FIRST_BYTES}: so long a client may be silent; 1 ms to 60 s. */
  default Duration patience() {
    return Duration.ofSeconds(1);
  }
}
