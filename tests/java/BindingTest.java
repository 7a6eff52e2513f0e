import static java.nio.charset.StandardCharsets.US_ASCII;
import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.File;
import java.io.IOException;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.ByteBuffer;
import java.nio.channels.AsynchronousCloseException;
import java.nio.channels.ClosedByInterruptException;
import java.nio.channels.ClosedChannelException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Deque;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.gecko.BuiltinPolicy;
import org.gecko.Client;
import org.gecko.ClosedException;
import org.gecko.Code;
import org.gecko.Framework;
import org.gecko.GeckoException;
import org.gecko.Member;
import org.gecko.MovedException;
import org.gecko.Offsets;
import org.gecko.Outcome;
import org.gecko.Policy;
import org.gecko.ServerSocket;
import org.gecko.Socket;
import org.gecko.TimedOutException;
import org.gecko.UnavailableException;
import org.gecko.When;

/**
 * org.gecko on fake nodes. Usage: BindingTest BIN_DIRECTORY GECKO_H [TEST...]. Each public method without parameters is a test; they run one after the
 * other, each with a group of its own. Debian has no test framework in its JDK, and needs none for this.
 */
public final class BindingTest {
  private static final Duration PATIENCE = Duration.ofMillis(FakeNodes.PATIENCE_MS);
  private static final Duration A_MOMENT = Duration.ofMillis(50);
  private static String header;

  private final Deque<AutoCloseable> opened = new ConcurrentLinkedDeque<>();
  private FakeNodes nodes;

  // --- the tests' own tools

  interface Action {
    void run() throws Exception;
  }

  private static void same(Object is, Object wanted) {
    if (!Objects.deepEquals(is, wanted)) throw new AssertionError("is " + text(is) + ", not " + text(wanted));
  }

  private static void yes(boolean is) {
    if (!is) throw new AssertionError("is false");
  }

  private static String text(Object value) {
    return value instanceof byte[] bytes && bytes.length < 200 ? "'" + new String(bytes, UTF_8) + "'" : String.valueOf(value);
  }

  private static <E extends Throwable> E thrown(Class<E> kind, Action action) {
    try {
      action.run();
    } catch (Throwable error) {
      if (kind.isInstance(error)) return kind.cast(error);
      throw new AssertionError("throws the wrong thing, not " + kind.getSimpleName(), error);
    }
    throw new AssertionError("does not throw " + kind.getSimpleName());
  }

  private static void code(Code wanted, Action action) {
    same(thrown(GeckoException.class, action).code(), wanted);
  }

  private static byte[] bytes(String text) {
    return text.getBytes(US_ASCII);
  }

  private static byte[] random(int size) {
    final byte[] data = new byte[size];
    new Random(size).nextBytes(data);
    return data;
  }

  private <T extends AutoCloseable> T keep(T thing) {
    opened.push(thing);
    return thing;
  }

  /** What it ends with: null, or what it has thrown. */
  private static BlockingQueue<Object> inBackground(Action action) {
    final BlockingQueue<Object> ends = new LinkedBlockingQueue<>();
    start(ends, action);
    return ends;
  }

  private static Thread start(BlockingQueue<Object> ends, Action action) {
    final Thread thread = new Thread(() -> {
      Object end = "done";
      try {
        action.run();
      } catch (Throwable error) {
        end = error;
      }
      ends.add(end);
    });
    thread.setDaemon(true);
    thread.start();
    return thread;
  }

  private static Object end(BlockingQueue<Object> ends) throws InterruptedException {
    final Object end = ends.poll(FakeNodes.PATIENCE_MS, TimeUnit.MILLISECONDS);
    if (end == null) throw new AssertionError("it does not end");
    return end;
  }

  private final class Node {
    final String name;
    final Framework framework;
    final ServerSocket server;

    Node(String name) throws IOException {
      this.name = name;
      framework = keep(new Framework("web", new Framework.Options().daemon(nodes.path(name)).program("test")));
      framework.join();
      server = keep(framework.listen());
    }

    Socket accept() throws IOException {
      return keep(server.accept(PATIENCE));
    }

    java.net.Socket connect() throws IOException {
      return keep(FakeNodes.connect(server.port()));
    }
  }

  private List<Node> serve(int count) throws Exception {
    nodes = keep(new FakeNodes(count));
    return join(count);
  }

  private List<Node> join(int count) throws Exception {
    final List<Node> all = new ArrayList<>();
    for (int i = 1; i <= count; ++i) all.add(new Node("n" + i));
    nodes.tell("wait " + count);
    for (Node node : all) {
      yes(FakeNodes.eventually(() -> node.framework.members().stream().filter(m -> m.applications() > 0).count() == count));
    }
    return all;
  }

  /** One connection, at n1, which geckod knows. */
  private final class Scene {
    final List<Node> all;
    final java.net.Socket client;
    final Socket here;

    Scene(int count) throws Exception {
      this(serve(count));
    }

    Scene(List<Node> all) throws Exception {
      this.all = all;
      client = all.get(0).connect();
      here = all.get(0).accept();
      known("n1");
    }

    void send(String text) throws IOException {
      client.getOutputStream().write(bytes(text));
    }

    String receive(int size) throws IOException {
      return new String(client.getInputStream().readNBytes(size), US_ASCII);
    }

    String read() throws IOException {
      return text(here);
    }

    String text(Socket socket) throws IOException {
      final byte[] buffer = new byte[4096];
      return new String(buffer, 0, Math.max(socket.read(buffer), 0), US_ASCII);
    }

    Socket arrives() throws IOException {
      return all.get(1).accept();
    }
  }

  private void known(String node) throws Exception {
    yes(FakeNodes.eventually(() -> nodes.say("opened " + node).equals("1")));
  }

  private static long descriptors() {
    return Objects.requireNonNull(new File("/proc/self/fd").list()).length;
  }

  // --- errors

  public void everyCodeOfTheHeaderIsHere() throws Exception {
    final Matcher codes = Pattern.compile("^  GECKO_([A-Z_]+) = (-\\d+)", Pattern.MULTILINE).matcher(Files.readString(Path.of(header)));
    final Set<Code> seen = new HashSet<>();
    while (codes.find()) {
      final Code code = Code.valueOf(codes.group(1));
      same(code.number(), Integer.parseInt(codes.group(2)));
      seen.add(code);
    }
    same(seen, Set.of(Code.values()));
  }

  public void withoutGeckodItSaysSo() {
    final var error = thrown(UnavailableException.class, () -> new Framework("web", new Framework.Options().daemon("/nonexistent/\u00e4")));
    yes(error.getMessage().startsWith("geckod is not running at /nonexistent/\u00e4"));
    same(error.code(), Code.UNAVAILABLE);
  }

  public void wrongArguments() throws Exception {
    final Scene s = new Scene(1);
    final Framework framework = s.all.get(0).framework;
    code(Code.INVALID, () -> framework.setContact(""));
    code(Code.INVALID, () -> framework.connect("nonsense"));
    thrown(IllegalArgumentException.class, () -> framework.connect("[::1]:1", Duration.ofMillis(-1)));
    thrown(IllegalArgumentException.class, () -> framework.setContact("a\0b"));
    thrown(IllegalArgumentException.class, () -> framework.listen(65536));
    thrown(NullPointerException.class, () -> framework.setContact(null));
    thrown(NullPointerException.class, () -> s.here.setState(null));
    thrown(IndexOutOfBoundsException.class, () -> s.here.read(new byte[5], 3, 3));
    thrown(IndexOutOfBoundsException.class, () -> s.here.write(new byte[5], -1, 3));
    thrown(IllegalArgumentException.class, () -> s.here.read(ByteBuffer.allocate(1).asReadOnlyBuffer()));
    try (Framework other = new Framework("other", new Framework.Options().daemon(nodes.path("n1")))) {
      code(Code.NOT_FOUND, other::join);
    }
  }

  // --- frameworks

  public void names() throws Exception {
    nodes = keep(new FakeNodes(2));
    final Node n1 = join(1).get(0);
    final Framework framework = n1.framework;
    same(framework.group(), "web");
    same(framework.node(), "n1");
    same(framework.address(), "::1");
    same(framework.networkInterface(), "");
    same(framework.ports(), new int[] {80});
    same(framework.unaccepted(), 0L);
    yes(framework.isConnected());
    yes(!framework.recovers());
    yes(n1.server.framework() == framework);
    final List<Member> members = framework.members(80);
    same(members.stream().map(Member::name).sorted().toList(), List.of("n1", "n2"));
    for (Member m : members) {
      same(m, new Member(m.name(), "::1", true, m.name().equals("n1"), m.isContact(), 0, m.name().equals("n1") ? 1 : 0, 1));
    }
    framework.setContact("n2");
    framework.leave();
    yes(Framework.version().matches("\\d+\\.\\d+\\.\\d+"));
  }

  public void connectionsOfOthers() throws Exception {
    final Scene s = new Scene(2);
    final Framework framework = s.all.get(0).framework;
    same(s.here.peer(), "[::1]:" + s.client.getLocalPort());
    same(s.here.local(), "[::1]:" + s.client.getPort());
    same(s.here.origin(), "");
    yes(s.here.id().matches("[0-9a-f]{32}"));
    yes(s.here.framework() == framework);
    final List<Outcome> outcomes = framework.handoffClient(s.here.peer(), "n2");
    same(outcomes, List.of(new Outcome(s.here.peer(), "n1", 0, "")));
    yes(outcomes.get(0).moved());
    try (var plain = new java.net.ServerSocket(0, 1, java.net.InetAddress.getByName("::1"));
        Socket out = framework.connect("[::1]:" + plain.getLocalPort());
        java.net.Socket accepted = plain.accept()) {
      out.outputStream().write(bytes("hello"));
      same(accepted.getInputStream().readNBytes(5), bytes("hello"));
      accepted.shutdownOutput();
      same(out.read(new byte[1]), -1);
    }
  }

  public void geckodGoesAndComesBack() throws Exception {
    final Scene s = new Scene(2);
    final Framework framework = s.all.get(0).framework;
    nodes.tell("stop n1");
    yes(FakeNodes.eventually(() -> !framework.isConnected()));
    thrown(UnavailableException.class, () -> s.here.handoff("n2"));
    s.send("still");
    same(s.read(), "still");
    nodes.tell("start n1");
    yes(FakeNodes.eventually(framework::isConnected));
  }

  public void closedOnesSaySo() throws Exception {
    final Scene s = new Scene(1);
    final Node n1 = s.all.get(0);
    final Socket open = keep(accepted(n1));
    s.here.close();
    n1.server.close();
    s.here.close();
    n1.framework.close();
    n1.framework.close();
    yes(!s.here.isOpen() && !n1.server.isOpen());
    final byte[] one = new byte[1];
    for (Action call : List.<Action>of(() -> s.here.read(one), () -> s.here.write(one), s.here::state, s.here::offsets, s.here::mayLeave, s.here::handoff,
        () -> s.here.checkpoint(one), s.here::recovery, s.here::isMoved, n1.server::accept)) {
      thrown(ClosedChannelException.class, call);
    }
    same(s.client.getInputStream().read(), -1);
    for (Action call : List.<Action>of(n1.framework::join, n1.framework::members, n1.framework::node, n1.framework::listen)) {
      thrown(ClosedException.class, call);
    }
    same(open.write(bytes("x")), 1); // goes on as a plain connection
  }

  private Socket accepted(Node node) throws IOException {
    node.connect();
    return node.accept();
  }

  // --- streams

  public void readsAndWrites() throws Exception {
    final Scene s = new Scene(1);
    final byte[] room = new byte[10];
    same(s.here.peek(room, 0, 10), 0);
    yes(!s.here.awaitReadable(Duration.ZERO));
    s.send("abcdef");
    yes(s.here.awaitReadable(PATIENCE));
    same(s.here.peek(room, 0, 2), 2);
    same(s.here.peek(room, 0, 10), 6);
    same(s.here.read(room, 4, 3), 3);
    same(Arrays.copyOfRange(room, 4, 7), bytes("abc"));
    same(s.here.read(room, 0, 0), 0);
    final ByteBuffer direct = ByteBuffer.allocateDirect(20).position(5).limit(7);
    same(s.here.read(direct), 2);
    same(direct.position(), 7);
    same(direct.get(5) + direct.get(6), 'd' + 'e');
    final ByteBuffer slice = ByteBuffer.allocate(20).position(3).slice().position(1);
    same(s.here.read(slice), 1);
    same(slice.get(1), (byte) 'f');
    same(s.here.write(bytes("an")), 2);
    same(s.here.write(ByteBuffer.wrap(bytes("xsw"), 1, 1).slice()), 1);
    same(s.here.write(ByteBuffer.wrap(bytes("we")).asReadOnlyBuffer()), 2);
    same(s.here.write(ByteBuffer.allocateDirect(2).put(bytes("r!")).flip()), 2);
    same(s.here.write(bytes("")), 0);
    same(s.here.offsets(), new Offsets(6, 7));
    s.here.shutdownOutput();
    same(s.client.getInputStream().readAllBytes(), bytes("answer!"));
    s.client.shutdownOutput();
    same(s.here.read(room), -1);
    same(s.here.peek(room, 0, 1), -1);
    same(s.here.inputStream().read(), -1);
  }

  public void streams() throws Exception {
    final Scene s = new Scene(1);
    s.client.getOutputStream().write(new byte[] {'a', 'b', -1});
    try (var in = s.here.inputStream();
        var out = s.here.outputStream()) {
      out.write('x');
      out.write(bytes("yz"));
      same(in.readNBytes(2), bytes("ab"));
      same(in.read(), 255);
    }
    yes(!s.here.isOpen());
    same(s.receive(9), "xyz");
  }

  public void much() throws Exception {
    final Scene s = new Scene(1);
    final byte[] data = random(20_000_000);
    final var writing = inBackground(() -> same(s.here.write(data), data.length));
    yes(Arrays.equals(s.client.getInputStream().readNBytes(data.length), data));
    same(end(writing), "done");
    final ByteBuffer direct = ByteBuffer.allocateDirect(data.length).put(data).flip();
    final var again = inBackground(() -> same(s.here.write(direct), data.length));
    yes(Arrays.equals(s.client.getInputStream().readNBytes(data.length), data));
    same(end(again), "done");
    final var sending = inBackground(() -> s.client.getOutputStream().write(data));
    yes(Arrays.equals(s.here.inputStream().readNBytes(data.length), data));
    same(end(sending), "done");
  }

  public void timeouts() throws Exception {
    final Scene s = new Scene(1);
    final byte[] room = new byte[1];
    s.here.setTimeout(Duration.ZERO);
    code(Code.AGAIN, () -> s.here.read(room));
    s.here.setTimeout(A_MOMENT);
    thrown(TimedOutException.class, () -> s.here.read(room));
    final long[] written = {0};
    final byte[] data = new byte[10_000_000];
    thrown(TimedOutException.class, () -> { // the client takes nothing: first less than all, in the end nothing
      for (;;) written[0] += s.here.write(data);
    });
    yes(written[0] > 0);
    same((long) s.client.getInputStream().readNBytes((int) written[0]).length, written[0]);
    thrown(TimedOutException.class, () -> s.all.get(0).server.accept(A_MOMENT));
    yes(!s.here.awaitReadable(Duration.ofNanos(1)));
    s.here.setTimeout(null);
    thrown(IllegalArgumentException.class, () -> s.here.setTimeout(Duration.ofNanos(-1)));
  }

  public void resetByTheClient() throws Exception {
    final Scene s = new Scene(1);
    s.client.setSoLinger(true, 0);
    s.client.close();
    same(thrown(ClosedException.class, () -> s.here.read(new byte[1])).code(), Code.CLOSED);
  }

  public void closeEndsTheCallsOfOthers() throws Exception {
    final Scene s = new Scene(1);
    final ServerSocket server = s.all.get(0).server;
    final List<BlockingQueue<Object>> all = List.of(inBackground(() -> s.here.read(new byte[1])), inBackground(() -> s.here.awaitReadable(null)),
        inBackground(() -> {
          for (;;) s.here.write(new byte[1 << 20]);
        }), inBackground(server::accept), inBackground(server::accept));
    Thread.sleep(A_MOMENT.toMillis()); // so that they are inside; else the outcome is ClosedChannelException, which this one is
    s.here.close();
    server.close();
    for (var ends : all) yes(end(ends) instanceof ClosedChannelException);
    final Socket other = accepted(new Node("n1"));
    final var reading = inBackground(() -> other.read(new byte[1]));
    Thread.sleep(A_MOMENT.toMillis());
    other.close();
    same(end(reading).getClass(), AsynchronousCloseException.class);
  }

  public void anInterruptClosesWhatItInterrupts() throws Exception {
    final Scene s = new Scene(1);
    final ServerSocket server = s.all.get(0).server;
    for (Action call : List.<Action>of(() -> s.here.read(new byte[1]), server::accept)) {
      final BlockingQueue<Object> ends = new LinkedBlockingQueue<>();
      final Thread thread = start(ends, call);
      Thread.sleep(A_MOMENT.toMillis()); // before the call or inside it: the same
      thread.interrupt();
      same(end(ends).getClass(), ClosedByInterruptException.class);
    }
    yes(!s.here.isOpen() && !server.isOpen());
    same(s.client.getInputStream().read(), -1);
  }

  public void stateHasALimit() throws Exception {
    final Scene s = new Scene(1);
    final byte[] most = random(1 << 20);
    s.here.setState(most);
    yes(Arrays.equals(s.here.state(), most));
    code(Code.LIMIT, () -> s.here.setState(new byte[(1 << 20) + 1]));
    code(Code.LIMIT, () -> s.here.checkpoint(new byte[(1 << 20) + 1]));
    yes(s.here.recovery().isEmpty());
  }

  public void aCheckpointSaysHowFarTheStreamsWere() throws Exception {
    nodes = keep(new FakeNodes(1));
    nodes.tell("recovers n1");
    final Scene s = new Scene(join(1));
    final Framework framework = s.all.get(0).framework;
    yes(framework.recovers());
    framework.setRecovery(81, true);
    framework.setReplicated(81, false);
    s.send("request");
    same(s.read(), "request");
    s.here.write(bytes("hi"));
    s.here.checkpoint(bytes("half-way"));
    same(nodes.say("checkpoint n1"), "7 2 half-way");
  }

  // --- moves

  public void byTheProgram() throws Exception {
    final Scene s = new Scene(2);
    s.here.setState(bytes("\0state"));
    s.send("unread");
    s.here.handoff("n2");
    for (Action call : List.<Action>of(() -> s.here.read(new byte[1]), () -> s.here.write(new byte[1]), s.here::mayLeave, s.here::handoff, s.here::offsets)) {
      thrown(MovedException.class, call);
    }
    yes(s.here.isMoved());
    final Socket there = s.arrives();
    same(there.state(), bytes("\0state"));
    same(List.of(there.origin(), there.id(), there.peer()), List.of("n1", s.here.id(), s.here.peer()));
    same(s.text(there), "unread");
    there.write(bytes("answer"));
    same(s.receive(6), "answer");
  }

  public void byOthersWhileItWaitsForBytes() throws Exception {
    final Scene s = new Scene(2);
    final var reading = inBackground(() -> s.here.read(new byte[1]));
    nodes.tell("move n1 n2");
    final Socket there = s.arrives();
    same(end(reading).getClass(), MovedException.class);
    s.send("x");
    same(s.text(there), "x");
  }

  public void inTheMiddleOfSomethingItFollowsLater() throws Exception {
    final Scene s = new Scene(2);
    s.send("request");
    same(s.read(), "request");
    nodes.tell("move n1 n2");
    same(nodes.say("refusals n1"), "15 the program is at work with it");
    yes(FakeNodes.eventually(s.here::isPostponed));
    yes(!s.here.isMoved());
    s.here.write(bytes("response"));
    thrown(MovedException.class, s::read);
    s.arrives();
    same(s.receive(8), "response");
  }

  public void mayLeave() throws Exception {
    final Scene s = new Scene(2);
    s.here.mayLeave();
    nodes.tell("move n1 n2");
    yes(nodes.say("refusals n1").startsWith("15 "));
    s.here.setState(bytes("half"));
    yes(FakeNodes.eventually(s.here::isPostponed));
    thrown(MovedException.class, s.here::mayLeave);
    same(s.arrives().state(), bytes("half"));
  }

  public void ownDecisions() throws Exception {
    final Scene s = new Scene(2);
    final List<Socket> seen = Collections.synchronizedList(new ArrayList<>());
    final boolean[] answer = {false};
    s.here.onYield(socket -> {
      seen.add(socket);
      try {
        socket.setState(bytes("at " + seen.size()));
      } catch (IOException error) {
        return false;
      }
      return answer[0];
    });
    nodes.tell("move n1 n2");
    yes(nodes.say("refusals n1").startsWith("4 "));
    yes(seen.get(0) == s.here);
    code(Code.REFUSED, () -> s.here.handoff("n2"));
    answer[0] = true;
    nodes.tell("move n1 n2");
    same(s.arrives().state(), bytes("at 3"));
  }

  public void ownPromises() throws Exception {
    final Scene s = new Scene(2);
    s.here.onYield(socket -> {
      try {
        return socket.postpone("in a transaction");
      } catch (IOException error) {
        return true;
      }
    });
    nodes.tell("move n1 n2");
    same(nodes.say("refusals n1"), "15 in a transaction");
    yes(FakeNodes.eventually(s.here::isPostponed));
    s.here.onYield(null);
    s.here.handoffInBackground(null);
    s.arrives();
  }

  public void aFailingDecisionKeepsItAndSoDoesAClosingOne() throws Exception {
    final Scene s = new Scene(2);
    final BlockingQueue<Throwable> reported = reported();
    s.here.onYield(socket -> {
      throw new IllegalStateException("a bug of the program");
    });
    nodes.tell("move n1 n2");
    yes(nodes.say("refusals n1").startsWith("4 "));
    same(reported.take().getMessage(), "a bug of the program");
    s.send("x");
    same(s.read(), "x");
    s.here.onYield(socket -> {
      socket.close();
      return true;
    });
    thrown(GeckoException.class, () -> s.here.handoff("n2", PATIENCE));
    yes(!s.here.isOpen());
    same(s.client.getInputStream().read(), -1);
    yes(reported.isEmpty());
  }

  private BlockingQueue<Throwable> reported() {
    final BlockingQueue<Throwable> all = new LinkedBlockingQueue<>();
    Thread.setDefaultUncaughtExceptionHandler((thread, error) -> all.add(error));
    keep(() -> Thread.setDefaultUncaughtExceptionHandler(null));
    return all;
  }

  public void waitsInsideADecisionAreRefused() throws Exception {
    final Scene s = new Scene(2);
    final BlockingQueue<Object> said = new LinkedBlockingQueue<>();
    s.here.onYield(socket -> {
      try {
        s.all.get(0).framework.setContact("n1");
      } catch (IOException error) {
        said.add(((GeckoException) error).code());
      }
      return true;
    });
    s.here.handoff("n2");
    same(said.take(), Code.BUSY);
  }

  public void stay() throws Exception {
    final Scene s = new Scene(2);
    s.here.stay("a WebSocket");
    nodes.tell("move n1 n2");
    yes(nodes.say("refusals n1").matches("4 .*a WebSocket.*"));
    yes(thrown(GeckoException.class, () -> s.here.handoff("n2")).getMessage().contains("a WebSocket"));
    s.here.stay(null);
    s.here.handoff("n2");
  }

  public void failuresLeaveItAsItWas() throws Exception {
    final Scene s = new Scene(2);
    nodes.tell("handoffs n1 refuse");
    yes(thrown(GeckoException.class, () -> s.here.handoff("n2")).getMessage().contains("it does not want it"));
    nodes.tell("handoffs n1 move");
    thrown(UnavailableException.class, () -> s.here.handoff("n9"));
    code(Code.INVALID, () -> s.here.handoff("x".repeat(100)));
    s.send("x");
    same(s.read(), "x");
    nodes.tell("handoffs n1 hold");
    thrown(TimedOutException.class, () -> s.here.handoff("n2", A_MOMENT));
    s.here.setTimeout(Duration.ZERO);
    code(Code.AGAIN, s::read); // on its way
    code(Code.BUSY, () -> s.here.handoff("n2"));
  }

  /** A thread per client on both nodes that knows nothing of moves, moved at any moment. */
  public void nothingIsLostBetweenReadAndWrite() throws Exception {
    final Scene s = new Scene(2);
    final List<BlockingQueue<Object>> servers = new ArrayList<>();
    final BlockingQueue<Object> echoes = new LinkedBlockingQueue<>();
    start(echoes, () -> echo(s.here));
    for (Node node : s.all) {
      servers.add(inBackground(() -> {
        for (;;) {
          final Socket socket = node.server.accept();
          start(echoes, () -> echo(socket));
        }
      }));
    }
    final byte[] data = random(1_000_000);
    try (FakeNodes.Mover mover = nodes.new Mover()) {
      while (mover.moves() < 50) {
        final var sending = inBackground(() -> s.client.getOutputStream().write(data));
        yes(Arrays.equals(s.client.getInputStream().readNBytes(data.length), data));
        same(end(sending), "done");
      }
    }
    s.client.close();
    for (Node node : s.all) node.server.close();
    for (var server : servers) yes(end(server) instanceof ClosedChannelException);
    for (Object end; (end = echoes.poll()) != null; ) yes(end.equals("done") || end instanceof MovedException);
  }

  private static void echo(Socket socket) throws IOException {
    final byte[] buffer = new byte[999];
    try (socket) {
      for (int n; (n = socket.read(buffer)) >= 0; ) socket.outputStream().write(buffer, 0, n);
    }
  }

  // --- policies

  public void aPolicyInJava() throws Exception {
    final List<Node> all = serve(3);
    final List<Client> asked = Collections.synchronizedList(new ArrayList<>());
    final List<List<String>> shown = Collections.synchronizedList(new ArrayList<>());
    all.get(0).framework.setPolicy((client, members) -> {
      asked.add(client);
      shown.add(members.stream().map(Member::name).sorted().toList());
      return "n2";
    });
    all.get(0).connect();
    thrown(TimedOutException.class, () -> all.get(0).server.accept(Duration.ofMillis(100))); // asks, hands off, returns nothing
    final Socket there = all.get(1).accept();
    same(List.of(asked.get(0).peer(), asked.get(0).id(), asked.get(0).origin()), List.of(there.peer(), there.id(), ""));
    same(shown, List.of(List.of("n1", "n2", "n3")));
    all.get(0).framework.setPolicy(BuiltinPolicy.NONE);
    accepted(all.get(0));
    same(asked.size(), 1);
  }

  public void aPolicyLooksAtFirstBytes() throws Exception {
    final List<Node> all = serve(3);
    final BlockingQueue<String> heads = new LinkedBlockingQueue<>();
    all.get(0).framework.setPolicy(new Policy() {
      @Override
      public When when() {
        return When.FIRST_BYTES;
      }

      @Override
      public int firstBytes() {
        return 100;
      }

      @Override
      public Duration patience() {
        return Duration.ofMillis(200);
      }

      @Override
      public boolean enough(byte[] head) {
        heads.add(new String(head, US_ASCII));
        return heads.stream().anyMatch(h -> h.contains("\n"));
      }

      @Override
      public String selectTarget(Client client, List<Member> members) {
        final String head = new String(client.head(), US_ASCII);
        return head.contains("\n") ? head.split("\\s")[1] : null;
      }
    });
    final var accepting = new LinkedBlockingQueue<Socket>();
    inBackground(() -> {
      for (;;) accepting.add(keep(all.get(0).server.accept()));
    });
    final java.net.Socket client = all.get(0).connect();
    final java.net.Socket silent = all.get(0).connect();
    client.getOutputStream().write(bytes("HELLO "));
    same(heads.poll(FakeNodes.PATIENCE_MS, TimeUnit.MILLISECONDS), "HELLO ");
    client.getOutputStream().write(bytes("n3\nand more"));
    final byte[] buffer = new byte[100];
    same(all.get(2).accept().read(buffer), "HELLO n3\nand more".length());
    same(Objects.requireNonNull(accepting.poll(FakeNodes.PATIENCE_MS, TimeUnit.MILLISECONDS)).peer(), "[::1]:" + silent.getLocalPort());
  }

  public void failuresAreReportedToThePolicy() throws Exception {
    final List<Node> all = serve(3);
    final List<String> failed = Collections.synchronizedList(new ArrayList<>());
    all.get(0).framework.setPolicy(new Policy() {
      @Override
      public When when() {
        return When.ASKED;
      }

      @Override
      public String selectTarget(Client client, List<Member> members) {
        return members.stream().map(Member::name).filter(n -> failed.stream().noneMatch(f -> f.startsWith(n))).findFirst().orElse(null);
      }

      @Override
      public void notifyFailedHandoff(String target, GeckoException why) {
        failed.add(target + " " + why.code());
      }
    });
    final Scene s = new Scene(all);
    nodes.tell("handoffs n1 refuse");
    s.here.handoffInBackground(null);
    yes(FakeNodes.eventually(() -> failed.size() == 2));
    same(failed.stream().sorted().toList(), List.of("n2 REFUSED", "n3 REFUSED"));
    thrown(UnavailableException.class, s.here::handoff); // it has named nobody
  }

  public void wrongAnswersKeepTheClient() throws Exception {
    final List<Node> all = serve(2);
    final BlockingQueue<Throwable> reported = reported();
    final Deque<String> answers = new ArrayDeque<>(List.of("nobody"));
    all.get(0).framework.setPolicy((client, members) -> answers.pop());
    accepted(all.get(0));
    accepted(all.get(0));
    yes(reported.take().getMessage().contains("'nobody', which is none of the members"));
    same(reported.take().getClass(), java.util.NoSuchElementException.class);
  }

  public void builtInPolicies() throws Exception {
    final List<Node> all = serve(3);
    for (BuiltinPolicy policy : BuiltinPolicy.values()) all.get(0).framework.setPolicy(policy);
    all.get(0).framework.setPolicy(BuiltinPolicy.ROUND_ROBIN);
    final BlockingQueue<String> where = new LinkedBlockingQueue<>();
    for (Node node : all) {
      inBackground(() -> {
        for (;;) {
          keep(node.server.accept());
          where.add(node.name);
        }
      });
    }
    for (int i = 0; i < 6; ++i) all.get(0).connect();
    final List<String> got = new ArrayList<>();
    while (got.size() < 6) got.add(Objects.requireNonNull(where.poll(FakeNodes.PATIENCE_MS, TimeUnit.MILLISECONDS)));
    same(got.stream().sorted().toList(), List.of("n1", "n1", "n2", "n2", "n3", "n3"));
  }

  // --- what is left

  public void manyMovesLeaveNothing() throws Exception {
    final List<Node> all = serve(2);
    final Action cycle = () -> {
      try (var client = FakeNodes.connect(all.get(0).server.port());
          Socket here = all.get(0).server.accept(PATIENCE)) {
        here.onYield(socket -> socket == here); // refers to itself
        here.setState(new byte[10_000]);
        here.handoff("n2");
        try (Socket there = all.get(1).server.accept(PATIENCE)) {
          same(there.state().length, 10_000);
        }
        same(client.getInputStream().read(), -1);
      }
    };
    for (int i = 0; i < 10; ++i) cycle.run();
    final long before = descriptors();
    for (int i = 0; i < 300; ++i) cycle.run();
    yes(FakeNodes.eventually(() -> descriptors() <= before));
  }

  public void whatIsForgottenIsClosed() throws Exception {
    final List<Node> all = serve(1);
    final java.net.Socket client = all.get(0).connect();
    forget(all.get(0));
    client.setSoTimeout(20);
    yes(FakeNodes.eventually(() -> {
      System.gc();
      try {
        return client.getInputStream().read() == -1;
      } catch (java.net.SocketTimeoutException notYet) {
        return false;
      }
    }));
    yes(FakeNodes.eventually(() -> nodes.say("opened n1").equals("0")));
  }

  private void forget(Node node) throws IOException {
    final Socket socket = node.server.accept(PATIENCE);
    socket.onYield(s -> s == socket);
  }

  /** A machine that ends while the library is busy does so soon, without a crash and without a word. */
  public void theEndOfTheMachine() throws Exception {
    nodes = keep(new FakeNodes(2));
    final Process process = new ProcessBuilder(System.getProperty("java.home") + "/bin/java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
        "-Djava.library.path=" + System.getProperty("java.library.path"), "-cp", System.getProperty("java.class.path"), "BusyProgram", nodes.path("n1"),
        nodes.path("n2")).redirectErrorStream(true).start();
    keep(process::destroyForcibly);
    nodes.tell("wait 2");
    yes(process.waitFor(FakeNodes.PATIENCE_MS, TimeUnit.MILLISECONDS)); // it says little: no pipe is full
    same(process.exitValue() + new String(process.getInputStream().readAllBytes(), UTF_8), "0");
  }

  // --- running

  private void clean() {
    while (!opened.isEmpty()) {
      try {
        opened.pop().close();
      } catch (Exception error) {
        System.out.println("  cleaning up: " + error);
      }
    }
  }

  public static void main(String[] arguments) throws Exception {
    FakeNodes.bin = arguments[0];
    header = arguments[1];
    final Set<String> wanted = Set.of(Arrays.copyOfRange(arguments, 2, arguments.length));
    int passed = 0;
    int failed = 0;
    for (Method test : BindingTest.class.getMethods()) {
      if (test.getDeclaringClass() != BindingTest.class || Modifier.isStatic(test.getModifiers()) || test.getParameterCount() > 0) continue;
      if (!wanted.isEmpty() && !wanted.contains(test.getName())) continue;
      final BindingTest fixture = new BindingTest();
      final long began = System.nanoTime();
      Throwable failure = null;
      try {
        test.invoke(fixture);
      } catch (InvocationTargetException error) {
        failure = error.getCause();
      } finally {
        fixture.clean();
      }
      System.out.printf("%s %s (%d ms)%n", failure == null ? "ok    " : "FAILED", test.getName(), (System.nanoTime() - began) / 1_000_000);
      if (failure == null) ++passed;
      else ++failed;
      if (failure != null) failure.printStackTrace(System.out);
    }
    System.out.println(passed + " passed, " + failed + " failed");
    System.exit(failed == 0 && passed > 0 ? 0 : 1);
  }
}
