package org.gecko;

/**
 * A node of the group.
 *
 * @param name its name in the group file
 * @param address written 2001:db8::1 or 192.0.2.1
 * @param up it is reachable
 * @param isSelf this program runs on it
 * @param isContact new clients reach it
 * @param connections owned by that node in this group; for policies plus what was sent there since its last report
 * @param applications joined there; 0: it cannot take a connection
 * @param weight of new connections, from the group file
 */
public record Member(String name, String address, boolean up, boolean isSelf, boolean isContact, int connections, int applications, int weight) {}
