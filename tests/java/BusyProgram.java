import java.io.IOException;
import java.net.InetAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.gecko.Framework;
import org.gecko.MovedException;
import org.gecko.ServerSocket;
import org.gecko.Socket;

/** For BindingTest: ends in the midst of policies, callbacks, handoffs and calls that wait, closes nothing. Usage: BusyProgram DAEMON1 DAEMON2 */
final class BusyProgram {
  private static final List<Socket> SOCKETS = new CopyOnWriteArrayList<>();
  private static final AtomicInteger ASKED = new AtomicInteger();

  private BusyProgram() {}

  private static ServerSocket node(String daemon) throws IOException {
    final Framework framework = new Framework("web", new Framework.Options().daemon(daemon));
    framework.setPolicy((client, members) -> members.get(ASKED.incrementAndGet() % members.size()).name());
    framework.join();
    return framework.listen();
  }

  private interface Work {
    void step() throws IOException;
  }

  private static void forEver(Work work) {
    final Thread thread = new Thread(() -> {
      for (;;) {
        try {
          work.step();
        } catch (MovedException gone) {
          return;
        } catch (IOException refused) {
          // the next
        }
      }
    });
    thread.setDaemon(true);
    thread.start();
  }

  public static void main(String[] daemons) throws Exception {
    final ServerSocket one = node(daemons[0]);
    for (ServerSocket server : List.of(one, node(daemons[1]))) {
      forEver(() -> {
        final Socket socket = server.accept();
        socket.onYield(s -> {
          try {
            s.setState(new byte[9]);
          } catch (IOException error) {
            return false;
          }
          return true;
        });
        SOCKETS.add(socket);
        forEver(() -> socket.read(new byte[9])); // the clients say nothing
      });
    }
    final List<java.net.Socket> clients = new ArrayList<>();
    while (clients.size() < 20) clients.add(new java.net.Socket(InetAddress.getByName("::1"), one.port()));
    forEver(() -> {
      for (Socket socket : SOCKETS) {
        try {
          socket.handoffInBackground(null);
        } catch (IOException gone) {
          // or on its way
        }
      }
    });
    while (SOCKETS.size() < 3 * clients.size()) Thread.sleep(1);
  }
}
