package org.gecko;

import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.Objects;

/**
 * Membership of this process in one group. Every node's server opens one, joins, and listens. When geckod restarts later, it reconnects, joins and
 * announces its connections by itself; calls that need geckod throw {@link UnavailableException} meanwhile.
 */
public final class Framework implements AutoCloseable {
  private static final Duration CONNECT = Duration.ofSeconds(10);

  private final Handle handle;

  /** What can be said when a {@link Framework} is opened. */
  public static final class Options {
    private String daemon;
    private String program;
    private String networkInterface;

    /** geckod's socket; else $GECKO_SOCKET, else /run/gecko/geckod.sock. */
    public Options daemon(String path) {
      daemon = path;
      return this;
    }

    /** The name in {@code gecko status}; else the process's. */
    public Options program(String name) {
      program = name;
      return this;
    }

    /** Informative: geckod owns the interfaces; else the group file's. */
    public Options networkInterface(String name) {
      networkInterface = name;
      return this;
    }
  }

  /**
   * Connects to geckod.
   *
   * @param group a group's name, or its file (contains a '/' or ends in .toml), which is read only for the name
   * @throws UnavailableException geckod is not running
   */
  public Framework(String group) throws GeckoException {
    this(group, new Options());
  }

  /** The same with options. */
  public Framework(String group, Options options) throws GeckoException {
    Objects.requireNonNull(group);
    final long object =
        Native.open(Native.utf8(group), Native.utf8(options.daemon), Native.utf8(options.program), Native.utf8(options.networkInterface));
    handle = new Handle(object, null, Native::frameworkClose);
    handle.belongsTo(this);
  }

  /** The library's version. */
  public static String version() {
    return Native.version();
  }

  private interface Call<T> {
    T of(long object) throws IOException;
  }

  private <T> T call(Call<T> call) throws IOException {
    final long object = handle.enter();
    if (object == 0) throw new ClosedException("the framework has been closed");
    try {
      return call.of(object);
    } finally {
      handle.leave();
    }
  }

  private interface Action {
    void of(long object) throws IOException;
  }

  private void run(Action action) throws IOException {
    call(object -> {
      action.of(object);
      return null;
    });
  }

  /** From now on connections may arrive here. */
  public void join() throws IOException {
    run(Native::join);
  }

  /** No new ones; its own go on and can still move. */
  public void leave() throws IOException {
    run(Native::leave);
  }

  /**
   * Connections on their way get 2 s to settle. Open sockets go on as plain connections that no longer move: close them first. Server sockets are dead.
   */
  @Override
  public void close() {
    handle.close();
  }

  /**
   * Clients that are here although no program has accepted them: a policy waits for their first bytes or has sent them on and does not know yet whether
   * they arrived, or they have arrived from elsewhere. Who leaves may end when this is 0 and its own sockets have gone.
   */
  public long unaccepted() throws IOException {
    return call(Native::unaccepted);
  }

  /** geckod is there. */
  public boolean isConnected() throws IOException {
    return call(Native::isConnected);
  }

  /** The group's name. */
  public String group() throws IOException {
    return call(object -> Native.frameworkText(object, Native.GROUP));
  }

  /** The group's address; "" before {@link #join()}. */
  public String address() throws IOException {
    return call(object -> Native.frameworkText(object, Native.ADDRESS));
  }

  /** This node's name; "" before {@link #join()}. */
  public String node() throws IOException {
    return call(object -> Native.frameworkText(object, Native.NODE));
  }

  /** The network interface of the group file or the options; "": not said. */
  public String networkInterface() throws IOException {
    return call(object -> Native.frameworkText(object, Native.INTERFACE));
  }

  /** The group's ports; none before {@link #join()}. */
  public int[] ports() throws IOException {
    return call(Native::ports);
  }

  /** The nodes of the group. */
  public List<Member> members() throws IOException {
    return members(0);
  }

  /** The same; {@link Member#applications()} is 0 of a node that has none for this port of the group (0: any). */
  public List<Member> members(int port) throws IOException {
    Native.port(port);
    return call(object -> List.of(Native.members(object, port)));
  }

  /** New clients reach this node from now on. */
  public void setContact(String node) throws IOException {
    final byte[] name = Native.utf8(Objects.requireNonNull(node));
    run(object -> Native.setContact(object, name));
  }

  /**
   * Moves all connections of a client, wherever they are. At most 4096 are listed, the others move, too.
   *
   * @param client an endpoint, or an address for all its ports
   * @param target a node's name or address; null: geckod chooses
   */
  public List<Outcome> handoffClient(String client, String target) throws IOException {
    final byte[] who = Native.utf8(Objects.requireNonNull(client));
    final byte[] node = Native.utf8(target);
    return call(object -> List.of(Native.handoffClient(object, who, node)));
  }

  /** The group file says {@code recovery}: connections outlive their node, and {@link Socket#checkpoint(byte[])} is of use. */
  public boolean recovers() throws IOException {
    return call(Native::recovers);
  }

  /**
   * Which connections of this port come to this program when their node has died. Unsaid: those with a checkpoint. After {@link #join()} and before the first
   * {@code listen()} on the port.
   *
   * @param wanted true: all, also those whose program had made none; false: none, they are not even protected
   */
  public void setRecovery(int port, boolean wanted) throws IOException {
    Native.port(port);
    run(object -> Native.setRecovery(object, port, wanted));
  }

  /**
   * In a group whose file says {@code recovery = "replicated"}: whether this program's connections of the port are. Unsaid: they are. After {@link #join()} and
   * before the first {@code listen()} on the port.
   *
   * @param wanted false: for programs whose output depends on more than the bytes of its connection; they are recovered as with {@code "fast"}
   */
  public void setReplicated(int port, boolean wanted) throws IOException {
    Native.port(port);
    run(object -> Native.setReplicated(object, port, wanted));
  }

  /** Where connections go. One of the library's own runs without Java. */
  public void setPolicy(BuiltinPolicy policy) throws IOException {
    final byte[] name = Native.utf8(policy.text);
    run(object -> Native.setBuiltinPolicy(object, name));
  }

  /** The same, decided by the program. The framework keeps the policy; one that refers to the framework keeps that from being collected. */
  public void setPolicy(Policy policy) throws IOException {
    final int flags = policy.when().flag | (policy.onlyUnplaced() ? ONLY_UNPLACED : 0);
    final int bytes = policy.firstBytes();
    final int patience = Native.milliseconds(policy.patience());
    if (bytes < 1 || patience < 1) throw new IllegalArgumentException("a policy waits for at least one byte and one millisecond");
    run(object -> Native.setPolicy(object, policy, flags, bytes, patience));
  }

  private static final int ONLY_UNPLACED = 4; // GECKO_POLICY_ONLY_UNPLACED of gecko.h

  /** Listens on the group's first port. */
  public ServerSocket listen() throws IOException {
    return listen(0);
  }

  /**
   * Listens on a port of the group.
   *
   * @param port 0: the first
   */
  public ServerSocket listen(int port) throws IOException {
    return listen(port, 0);
  }

  /**
   * The same.
   *
   * @param backlog how many clients may wait to be accepted; 0: a good number
   */
  public ServerSocket listen(int port, int backlog) throws IOException {
    Native.port(port);
    return call(object -> new ServerSocket(this, Native.listen(object, port, backlog)));
  }

  /** A connection from the group's address, which can move like any other. Waits 10 s at most. */
  public Socket connect(String peer) throws IOException {
    return connect(peer, CONNECT);
  }

  /**
   * The same.
   *
   * @param peer an endpoint: [2001:db8::1]:25
   * @param time null: for ever
   */
  public Socket connect(String peer, Duration time) throws IOException {
    final byte[] endpoint = Native.utf8(Objects.requireNonNull(peer));
    final int wait = Native.milliseconds(time);
    return call(object -> new Socket(this, Native.connect(object, endpoint, wait)));
  }
}
