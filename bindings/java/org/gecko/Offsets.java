package org.gecko;

/**
 * How far a connection's streams are.
 *
 * @param received bytes that were read from it since its birth, on whatever nodes
 * @param sent bytes that were written to it since its birth, on whatever nodes
 */
public record Offsets(long received, long sent) {}
