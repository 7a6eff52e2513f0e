import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Optional;
import org.gecko.BuiltinPolicy;
import org.gecko.Framework;
import org.gecko.GeckoException;
import org.gecko.MovedException;
import org.gecko.Recovery;
import org.gecko.ServerSocket;
import org.gecko.Socket;

/**
 * Counts for its clients. A line with a number N is answered with the next N numbers of this connection, each a line of 16 bytes; a line {@code move} hands the
 * connection to another node. Run it on every node of a group: {@code java -cp gecko.jar Counter.java GROUP}. Every number comes once and in order,
 * however often the connection moves, also in the middle of an answer, and when its node dies (in a group with {@code recovery}), also there.
 *
 * <p>How it survives: what it will write follows from what it knows and what it has read. So a checkpoint after each read is enough; whoever goes on
 * counts from there once more and leaves out what the client has received.
 */
public final class Counter {
  private static final int LINE = 16;
  private static final int CHUNK = 64 * 1024;
  private static final int LONGEST_REQUEST = 64;

  private final Socket client;
  private long count; // the last number of this connection
  private long left; // so many are still to be written
  private long skip; // so many of the next bytes the client has already
  private byte[] input = {}; // read and not looked at yet

  private Counter(Socket client) {
    this.client = client;
  }

  private byte[] pack() {
    return ByteBuffer.allocate(3 * Long.BYTES + input.length).putLong(count).putLong(left).putLong(skip).put(input).array();
  }

  private void unpack(byte[] state) {
    final ByteBuffer from = ByteBuffer.wrap(state);
    count = from.getLong();
    left = from.getLong();
    skip = from.getLong();
    input = new byte[from.remaining()];
    from.get(input);
  }

  /** False: something is missing that nobody has any more. */
  private boolean resume() throws IOException {
    final Optional<Recovery> death = client.recovery();
    if (death.isEmpty()) {
      final byte[] state = client.state();
      if (state.length > 0) unpack(state); // it has moved here
      return true;
    }
    final Optional<Recovery.Checkpoint> last = death.get().checkpoint();
    if (last.isEmpty()) return death.get().received() == 0; // it had said nothing
    unpack(last.get().state());
    skip += death.get().sent() - last.get().output();
    return death.get().received() == last.get().input() && skip >= 0;
  }

  private void serve() {
    try (client) {
      if (!resume()) return;
      client.checkpoint(pack());
      final byte[] buffer = new byte[CHUNK];
      for (;;) {
        while (left > 0 || nextRequest()) {
          client.setState(pack());
          client.mayLeave();
          answer();
        }
        client.setState(pack());
        final int n = client.read(buffer); // it may leave here, too
        if (n < 0) return;
        final byte[] more = new byte[input.length + n];
        System.arraycopy(input, 0, more, 0, input.length);
        System.arraycopy(buffer, 0, more, input.length, n);
        input = more;
        client.checkpoint(pack()); // before the answer
      }
    } catch (MovedException gone) {
      // another node goes on with it
    } catch (IOException | NumberFormatException error) {
      System.err.println("Counter: " + client.peer() + ": " + error.getMessage());
    }
  }

  /** False: no whole line is there. */
  private boolean nextRequest() throws IOException {
    for (int i = 0; i < input.length; ++i) {
      if (input[i] != '\n') continue;
      final String line = new String(input, 0, i, StandardCharsets.US_ASCII);
      final byte[] rest = new byte[input.length - i - 1];
      System.arraycopy(input, i + 1, rest, 0, rest.length);
      input = rest;
      if (line.equals("move")) move();
      else left = Long.parseUnsignedLong(line);
      return true;
    }
    if (input.length > LONGEST_REQUEST) throw new NumberFormatException("a line without an end");
    return false;
  }

  private void move() throws IOException {
    client.setState(pack());
    try {
      client.handoff();
    } catch (MovedException gone) {
      throw gone;
    } catch (GeckoException nobody) {
      System.err.println("Counter: " + client.peer() + " stays: " + nobody.getMessage());
    }
  }

  /** A piece of it: no move comes in between. */
  private void answer() throws IOException {
    final int numbers = (int) Math.min(left, CHUNK / LINE);
    final ByteArrayOutputStream out = new ByteArrayOutputStream(numbers * LINE);
    final byte[] line = new byte[LINE];
    line[LINE - 1] = '\n';
    for (int i = 0; i < numbers; ++i) {
      long number = ++count;
      for (int digit = LINE - 2; digit >= 0; --digit, number /= 10) line[digit] = (byte) ('0' + number % 10);
      out.write(line, 0, LINE);
    }
    left -= numbers;
    final int dropped = (int) Math.min(skip, numbers * LINE);
    skip -= dropped;
    client.outputStream().write(out.toByteArray(), dropped, numbers * LINE - dropped);
  }

  public static void main(String[] arguments) throws IOException {
    if (arguments.length != 1) {
      System.err.println("usage: java -cp gecko.jar Counter.java GROUP");
      System.exit(64);
    }
    try (Framework group = new Framework(arguments[0])) {
      group.setPolicy(BuiltinPolicy.LEAST_CONNECTIONS);
      group.join();
      try (ServerSocket server = group.listen()) {
        System.out.println(
            "Counter: node " + group.node() + " serves group " + group.group() + " at " + group.address() + " port " + server.port());
        for (;;) {
          final Socket client = server.accept();
          final Thread thread = new Thread(() -> new Counter(client).serve());
          thread.setDaemon(true);
          thread.start();
        }
      }
    }
  }
}
