package org.gecko;

import java.io.IOException;
import java.nio.charset.StandardCharsets;

/** Everything that the library reports. The message says what happened, where, and what can be done. */
public class GeckoException extends IOException {
  private final Code code;

  GeckoException(Code code, String message) {
    super(message);
    this.code = code;
  }

  /** What kind of error it is. */
  public Code code() {
    return code;
  }

  /** Called from C++. Peers choose parts of the text: what is no UTF-8 in it is replaced. */
  static GeckoException of(int number, byte[] utf8) {
    final String message = new String(utf8, StandardCharsets.UTF_8);
    return switch (Code.of(number)) {
      case MOVED -> new MovedException(message);
      case CLOSED -> new ClosedException(message);
      case TIMEOUT -> new TimedOutException(message);
      case UNAVAILABLE -> new UnavailableException(message);
      default -> new GeckoException(Code.of(number), message);
    };
  }
}
