import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;

/** A group "web" of fake nodes n1, n2, ... in another process (tests/python/fake_nodes.cc), and clients on loopback. */
final class FakeNodes implements AutoCloseable {
  /** Where the programs are. */
  static String bin;

  static final long PATIENCE_MS = 10_000;

  private final Process process;
  private final PrintStream input;
  private final BufferedReader output;
  private final String directory;

  FakeNodes(int count) throws IOException {
    final List<String> command = new ArrayList<>(List.of(bin + "/fake_nodes_test"));
    for (int i = 1; i <= count; ++i) command.add("n" + i);
    process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
    input = new PrintStream(process.getOutputStream(), true);
    output = new BufferedReader(new InputStreamReader(process.getInputStream()));
    directory = output.readLine();
  }

  String path(String node) {
    return directory + "/" + node + ".sock";
  }

  synchronized String say(String line) throws IOException {
    input.println(line);
    return output.readLine();
  }

  void tell(String line) throws IOException {
    final String answer = say(line);
    if (!"ok".equals(answer)) throw new AssertionError(line + ": " + answer);
  }

  /** Ends its children, too. */
  @Override
  public void close() {
    input.close();
    try {
      if (!process.waitFor(PATIENCE_MS, TimeUnit.MILLISECONDS)) process.destroyForcibly();
    } catch (InterruptedException now) {
      process.destroyForcibly();
    }
  }

  /** Moves every connection of two nodes back and forth until it is closed. */
  final class Mover implements AutoCloseable {
    private final AtomicBoolean stop = new AtomicBoolean();
    private final Thread thread = new Thread(this::run);
    private volatile int moves;
    private volatile Throwable failure;

    Mover() {
      thread.start();
    }

    int moves() {
      if (failure != null) throw new AssertionError(failure);
      return moves;
    }

    private void run() {
      try {
        while (!stop.get()) {
          tell("move n1 n2");
          tell("move n2 n1");
          ++moves;
          Thread.sleep(2);
        }
      } catch (Throwable error) {
        failure = error;
      }
    }

    @Override
    public void close() {
      stop.set(true);
      try {
        thread.join();
      } catch (InterruptedException now) {
        Thread.currentThread().interrupt();
      }
    }
  }

  static java.net.Socket connect(int port) throws IOException {
    final java.net.Socket client = new java.net.Socket(InetAddress.getByName("::1"), port);
    client.setSoTimeout((int) PATIENCE_MS);
    client.setTcpNoDelay(true);
    return client;
  }

  interface Condition {
    boolean holds() throws Exception;
  }

  /** Waits for something that another thread or process brings about. */
  static boolean eventually(Condition condition) throws Exception {
    for (final long end = System.nanoTime() + PATIENCE_MS * 1_000_000; System.nanoTime() < end; Thread.sleep(2)) {
      if (condition.holds()) return true;
    }
    return condition.holds();
  }
}
