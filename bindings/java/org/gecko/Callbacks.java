package org.gecko;

import java.nio.charset.StandardCharsets;
import java.util.List;

/** What C++ calls. Nothing is thrown into the library: a program's exception goes to its thread's handler. */
final class Callbacks {
  private Callbacks() {}

  static boolean mayLeave(Socket socket) {
    try {
      return socket.askProgram();
    } catch (Throwable error) {
      report(error);
      return false;
    }
  }

  static int select(Policy policy, Client client, Member[] members) {
    try {
      final String target = policy.selectTarget(client, List.of(members));
      if (target == null) return -1;
      for (int i = 0; i < members.length; ++i) {
        if (members[i].name().equals(target)) return i;
      }
      throw new IllegalStateException("selectTarget() of " + policy + " named '" + target + "', which is none of the members it was given");
    } catch (Throwable error) {
      report(error);
      return -1;
    }
  }

  static boolean enough(Policy policy, byte[] head) {
    try {
      return policy.enough(head);
    } catch (Throwable error) {
      report(error);
      return true;
    }
  }

  static void failed(Policy policy, String target, int code, byte[] message) {
    try {
      policy.notifyFailedHandoff(target, GeckoException.of(code, message));
    } catch (Throwable error) {
      report(error);
    }
  }

  private static void report(Throwable error) {
    final Thread thread = Thread.currentThread();
    thread.getUncaughtExceptionHandler().uncaughtException(thread, error);
  }
}
