// Threads that wait inside the library: what wakes them, and that nothing they do is lost.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>

#include <future>

#include "api/test_group.hh"

namespace gecko::test {
namespace {

class Blocking : public testing::Test {
 protected:
  Group group;
  FakeGeckod& n1 = group.node("n1");
  FakeGeckod& n2 = group.node("n2");
  Framework one = group.join("n1"), two = group.join("n2");
  ServerSocket server = group.listen(one), other = group.listen(two);
};

TEST_F(Blocking, AReaderIsInterruptedByAMove) {
  Client client(server.port());
  auto socket = server.accept();
  auto reader = waiting([&] {
    char byte = 0;
    return socket->read(&byte, 1).error().code;
  });
  n1.move_away(id_of(*socket), "n2");
  EXPECT_EQ(reader.get(), Errc::moved);
  EXPECT_TRUE(other.accept(Timeout(5000)));
}

TEST_F(Blocking, AReaderSleepsThroughAMoveThatFails) {
  Client client(server.port());
  auto socket = server.accept();
  auto reader = waiting([&] { return read_some(*socket); });
  n1.handoffs = FakeGeckod::Handoffs::refuse;
  for (int i = 0; i < 5; ++i) {
    n1.move_away(id_of(*socket), "n2");
    EXPECT_EQ(n1.expect_message<wire::Yielded>(ApiType::yielded).id, id_of(*socket));
  }
  client.send("at last");
  EXPECT_EQ(reader.get(), "at last");
}

TEST_F(Blocking, AWriterIsInterruptedAndSaysHowMuchItWrote) {
  Client client(server.port());
  auto socket = server.accept();
  std::atomic<size_t> written{0};
  auto writer = waiting([&] {
    const std::string chunk(64 << 10, 'x');
    for (;;) {
      const auto n = socket->write(chunk);
      if (!n) return n.error().code;
      written += *n;
    }
  });
  ASSERT_GT(written, 0u);
  n1.move_away(id_of(*socket), "n2");
  EXPECT_EQ(writer.get(), Errc::moved);
  auto there = other.accept(Timeout(5000));
  ASSERT_TRUE(there);
  auto drained = std::async(std::launch::async, [&] { return client.receive(written + 3); });
  ASSERT_TRUE(there->write("end"));
  const std::string all = drained.get();
  EXPECT_EQ(all.size(), written + 3);
  EXPECT_EQ(all.substr(all.size() - 4), "xend");
}

TEST_F(Blocking, WaitIsAPollThatAMoveInterrupts) {
  Client client(server.port());
  auto socket = server.accept();
  EXPECT_EQ(*socket->wait(POLLIN, Timeout(10)), 0);
  EXPECT_EQ(*socket->wait(POLLOUT, Timeout(1000)), POLLOUT);
  client.send("x");
  EXPECT_EQ(*socket->wait(POLLIN, Timeout(1000)), POLLIN);
  (void)read_some(*socket);
  auto waiter = waiting([&] { return socket->wait(POLLIN).error().code; });
  ASSERT_TRUE(socket->handoff("n2"));
  EXPECT_EQ(waiter.get(), Errc::moved);
}

TEST_F(Blocking, EndWakesReaders) {
  Client client(server.port());
  auto socket = server.accept();
  auto reader = waiting([&] {
    char byte = 0;
    return socket->read(&byte, 1).error().code;
  });
  socket->end();
  EXPECT_EQ(reader.get(), Errc::closed);
  EXPECT_TRUE(client.at_end());
}

TEST_F(Blocking, AcceptReturnsArrivalsAndClientsToManyThreads) {
  constexpr int kThreads = 8, kEach = 20;
  std::atomic<int> accepted{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&] {
      while (auto socket = other.accept(Timeout(3000))) {
        (void)socket->write("y");
        if (++accepted == 2 * kEach) break;
      }
    });
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < kEach; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    auto socket = server.accept();
    ASSERT_TRUE(socket && socket->handoff("n2"));
    clients.push_back(std::make_unique<Client>(other.port()));
  }
  for (auto& client : clients) EXPECT_EQ(client->receive(1), "y");
  other.end();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(accepted, 2 * kEach);
}

TEST_F(Blocking, AcceptEndsWithItsServerAndItsFramework) {
  auto by_timeout = other.accept(Timeout(20));
  EXPECT_EQ(by_timeout.error().code, Errc::timeout);
  auto acceptor = waiting([&] { return server.accept().error().code; });
  one = Framework();
  EXPECT_EQ(acceptor.get(), Errc::closed);
}

TEST_F(Blocking, AFrameworkThatEndsLeavesConnectionsUsable) {
  Client client(server.port());
  auto socket = server.accept();
  { const Framework gone = std::move(one); }
  client.send("hi");
  EXPECT_EQ(read_some(*socket), "hi");
  EXPECT_EQ(socket->handoff("n2").error().code, Errc::unavailable);
}

TEST_F(Blocking, NoSigpipeAndErrnoStays) {
  struct sigaction before{};
  sigaction(SIGPIPE, nullptr, &before);
  ASSERT_EQ(before.sa_handler, SIG_DFL);
  Client client(server.port());
  auto socket = server.accept();
  client.close();
  errno = 4711;
  Errc last{};
  for (int i = 0; i < 1000 && last != Errc::closed; ++i) {
    const auto n = socket->write("x");
    if (!n) last = n.error().code;
  }
  EXPECT_EQ(last, Errc::closed);
  EXPECT_EQ(errno, 4711);
}

TEST_F(Blocking, AChildOfForkIsToldToOpenItsOwn) {
  Client client(server.port());
  auto socket = server.accept();
  const pid_t pid = fork();
  if (pid == 0) {
    char byte = 0;
    const bool refused = socket->read(&byte, 1).error().code == Errc::invalid && one.join().error().code == Errc::invalid &&
                         server.accept(Timeout(0)).error().code == Errc::invalid && socket->handoff("n2").error().code == Errc::invalid;
    socket->close();   // touches nothing of the parent's
    one = Framework();
    Framework::Options options;
    options.daemon = n1.path();
    options.event_loop = true;  // the thread sanitizer allows no new threads here
    auto own = Framework::open("web", options);
    _exit(refused && own && own->join() ? 0 : 1);
  }
  int status = -1;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
  client.send("parent");
  EXPECT_EQ(read_some(*socket), "parent");
}

// The application's threads read and write while the operator moves every connection to and fro: the echo is exact. Bytes that a thread
// has read and not yet echoed are protected by a mutex that on_yield tries: the pattern of docs/api.md.
TEST_F(Blocking, ThreadedEchoIsExactUnderConstantMoves) {
  constexpr int kClients = 8;
  std::vector<std::thread> servers;
  std::mutex guard;
  std::vector<std::thread> workers;
  std::atomic<bool> stop{false};
  const auto serve = [](Socket socket) {
    std::mutex busy;
    socket.on_yield([&](Socket&) {
      if (!busy.try_lock()) return false;
      busy.unlock();
      return true;
    });
    char buffer[4096];
    for (;;) {
      const auto ready = socket.wait(POLLIN);
      if (!ready) return;
      const std::lock_guard lock(busy);
      (void)socket.set_blocking(false);
      const auto n = socket.read(buffer, sizeof buffer);
      (void)socket.set_blocking(true);
      if (!n && n.error().code == Errc::again) continue;
      if (!n || *n == 0) return;
      if (!socket.write(buffer, *n)) return;
    }
  };
  for (ServerSocket* s : {&server, &other})
    servers.emplace_back([&, s] {
      while (auto socket = s->accept()) {
        const std::lock_guard lock(guard);
        workers.emplace_back([&serve, mine = std::make_shared<Socket>(std::move(*socket))] { serve(std::move(*mine)); });
      }
    });
  std::atomic<int> exchanges = 0;
  std::atomic<bool> enough = false;   // a fast machine must not be done before there was anything to survive
  std::thread mover([&] {
    while (!stop) {
      for (FakeGeckod* from : {&n1, &n2})
        for (const ConnId& id : from->open_connections()) from->move_away(id, from == &n1 ? "n2" : "n1");
      enough = n1.recorded(ApiType::yielded) + n2.recorded(ApiType::yielded) >= 20;
      // Moves alone would leave no time for bytes: on average one exchange of each client between two rounds.
      const int next = exchanges + kClients;
      for (int seen = exchanges; seen < next && !stop; seen = exchanges) exchanges.wait(seen);
    }
  });
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; ++i)
    clients.emplace_back([&, i] {
      Client client(server.port());
      std::string text(3000, static_cast<char>('a' + i));
      for (int round = 0; round < 100 || (!enough && round < 100000); ++round) {
        text[0] = static_cast<char>('0' + round % 10);
        client.send(text);
        ASSERT_EQ(client.receive(text.size()), text);
        ++exchanges;
        exchanges.notify_one();
      }
    });
  for (auto& thread : clients) thread.join();
  stop = true;
  ++exchanges;
  exchanges.notify_one();
  mover.join();
  EXPECT_GE(n1.recorded(ApiType::yielded) + n2.recorded(ApiType::yielded), 20u);
  one = Framework();
  two = Framework();
  for (auto& thread : servers) thread.join();
  for (auto& thread : workers) thread.join();
}

}  // namespace
}  // namespace gecko::test
