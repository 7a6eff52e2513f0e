package org.gecko;

/** Policies of the library, which run without Java; gecko-group.toml(5) says what they do. */
public enum BuiltinPolicy {
  /** Connections stay where they are. */
  NONE("none"),
  RANDOM("random"),
  ROUND_ROBIN("round-robin"),
  LEAST_CONNECTIONS("least-connections"),
  /** By the weights in the group file, exactly. */
  WEIGHTED("weighted"),
  /** A client's address has its node. */
  HASH_CLIENT("hash-client"),
  /** The same first line, or first bytes, the same node. */
  HASH_BYTES("hash-bytes");

  final String text;

  BuiltinPolicy(String text) {
    this.text = text;
  }
}
