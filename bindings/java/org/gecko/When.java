package org.gecko;

/** When a {@link Policy} is asked. */
public enum When {
  /** About every new client of the contact node, and by {@link Socket#handoff()} without a target. */
  ACCEPT(0),
  /** Only by {@link Socket#handoff()} without a target. */
  ASKED(1),
  /** About every new client, on the node that has accepted it, when its first bytes are there: {@link Client#head()}. */
  FIRST_BYTES(2);

  /** GECKO_POLICY_WHEN_* of gecko.h. */
  final int flag;

  When(int flag) {
    this.flag = flag;
  }
}
