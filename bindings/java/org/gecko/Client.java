package org.gecko;

import java.util.HexFormat;

/**
 * A connection as a {@link Policy} sees it: a copy that may be kept.
 *
 * @param peer the client: [2001:db8::1]:4711
 * @param local the group's address and port
 * @param id 32 hex digits, the same on every node
 * @param origin the node it came from; "" for a new client
 * @param head what it has said so far, for policies with {@link When#FIRST_BYTES}; else empty
 */
public record Client(String peer, String local, String id, String origin, byte[] head) {
  /** Called from C++. */
  Client(String peer, String local, String origin, byte[] id, byte[] head) {
    this(peer, local, HexFormat.of().formatHex(id), origin, head);
  }
}
