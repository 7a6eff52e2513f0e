package org.gecko;

/** geckod or a node cannot be reached. Connections go on. */
public final class UnavailableException extends GeckoException {
  UnavailableException(String message) {
    super(Code.UNAVAILABLE, message);
  }
}
