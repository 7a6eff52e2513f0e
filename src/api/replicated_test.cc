// Replicated connections: what is read is told before it is returned, what is written waits for the backups, and both go on after a recovery.
#include <gmock/gmock.h>

#include <thread>

#include "api/test_group.hh"
#include "wire/mirror.hh"

namespace gecko::test {
namespace {

using std::chrono::milliseconds;

std::vector<uint8_t> bytes(std::string_view text) { return {text.begin(), text.end()}; }
std::string text(const wire::AppInput& part) { return {part.bytes.begin(), part.bytes.end()}; }

class Replicated : public testing::Test {
 protected:
  Replicated() { n1.recovers = n1.replicates = true; }

  struct Served {
    Client client;
    Socket socket;
    wire::Opened opened;
  };
  // A connection whose birth geckod has been told of, with the beginning of its log.
  Served serve() {
    Client client(server->port());
    auto socket = server->accept();
    EXPECT_TRUE(socket);
    const auto opened = n1.expect_message<wire::Opened>(ApiType::opened);
    const auto begin = next_input();
    EXPECT_EQ(begin.offset, 0u);
    EXPECT_TRUE(begin.bytes.empty());
    return {std::move(client), std::move(*socket), opened};
  }
  void listen() {
    one.emplace(group.join("n1"));
    server.emplace(group.listen(*one));
  }
  wire::AppInput next_input() { return n1.expect_message<wire::AppInput>(ApiType::input); }
  // Its node has died; another one's geckod gives it to its program again. What a predecessor had read comes out of the socket once more.
  Socket recover(Served& served, wire::Arrive arrive) {
    arrive.recovered = true;
    arrive.epoch = 7;
    arrive.from = "n2";
    return arrives(served, std::move(arrive));
  }
  Socket arrives(Served& served, wire::Arrive arrive) {
    const Fd theirs(fcntl(served.socket.fd(), F_DUPFD_CLOEXEC, 0));
    served.socket.close();
    (void)n1.expect(ApiType::closed);
    arrive.id = served.opened.id;
    arrive.flow = served.opened.flow;
    n1.tell(ApiType::arrive, arrive, theirs.get());
    auto again = server->accept();
    EXPECT_TRUE(again);
    return again ? std::move(*again) : Socket();
  }

  Group group;
  FakeGeckod& n1 = group.node("n1");
  std::optional<Framework> one;
  std::optional<ServerSocket> server;
};

TEST_F(Replicated, WhatIsReadIsToldBeforeTheProgramHasIt) {
  listen();
  auto [client, socket, opened] = serve();
  client.send("first");
  ASSERT_EQ(read_some(socket), "first");
  client.send("second");
  char a[2], b[100];
  const iovec parts[] = {{a, sizeof a}, {b, sizeof b}};
  ASSERT_EQ(*socket.readv(parts, 2), 6u);
  const auto one_part = next_input(), other = next_input();
  EXPECT_EQ(one_part.id, opened.id);
  EXPECT_EQ(one_part.offset, 0u);
  EXPECT_EQ(text(one_part), "first");
  EXPECT_EQ(other.offset, 5u);
  EXPECT_EQ(text(other), "second");
  EXPECT_FALSE(other.end);
  client.send("!");
  ASSERT_TRUE(socket.wait(POLLIN));
  EXPECT_EQ(*socket.read(a, 0), 0u);   // asks for nothing: not the end
  EXPECT_EQ(read_some(socket), "!");
  EXPECT_EQ(text(next_input()), "!");
  client.close();
  EXPECT_EQ(read_some(socket), "");
  EXPECT_EQ(read_some(socket), "");
  const auto end = next_input();
  EXPECT_EQ(end.offset, 12u);
  EXPECT_TRUE(end.bytes.empty());
  EXPECT_TRUE(end.end);
  socket.close();
  (void)n1.expect(ApiType::closed);
  EXPECT_EQ(n1.recorded(ApiType::input), 0u) << "the end is told once";
}

TEST_F(Replicated, ABigReadComesInParts) {
  listen();
  auto [client, socket, opened] = serve();
  const std::string all(700'000, 'x');
  std::thread sender([&client = client, &all] { client.send(all); });
  size_t got = 0, told = 0;
  std::vector<char> buffer(all.size());
  while (got < all.size()) {
    const auto n = socket.read(buffer.data(), buffer.size());
    ASSERT_TRUE(n);
    got += *n;
    while (told < got) {
      const auto part = next_input();
      ASSERT_EQ(part.offset, told);
      ASSERT_LE(part.bytes.size(), wire::kMaxInputPart);
      ASSERT_FALSE(part.bytes.empty());
      told += part.bytes.size();
    }
  }
  EXPECT_EQ(told, got);
  sender.join();
}

TEST_F(Replicated, AWriteWaitsUntilTheBackupsHaveWhatWasRead) {
  listen();
  n1.keeps = false;
  auto [client, socket, opened] = serve();
  client.send("request");
  ASSERT_EQ(read_some(socket), "request");
  std::atomic<bool> written{false};
  std::thread writer([&socket = socket, &written] {
    EXPECT_EQ(*socket.write("answer"), 6u);
    written = true;
  });
  const auto asked = n1.expect_message<wire::AppAwait>(ApiType::await_stable);
  EXPECT_EQ(asked.id, opened.id);
  EXPECT_EQ(asked.offset, 7u);
  n1.tell(ApiType::stable, wire::AppStable{opened.id, 6});   // not all of it
  pollfd nothing{client.fd(), POLLIN, 0};
  EXPECT_EQ(poll(&nothing, 1, 30), 0);
  EXPECT_FALSE(written);
  n1.tell(ApiType::stable, wire::AppStable{opened.id, 7});
  writer.join();
  EXPECT_EQ(client.receive(6), "answer");
  // Nothing has been read since.
  EXPECT_TRUE(socket.write("more"));
  EXPECT_EQ(n1.recorded(ApiType::await_stable), 0u);
}

TEST_F(Replicated, AWriteWaitsUntilTheBackupsHaveTheCheckpointBeforeIt) {
  listen();
  auto [client, socket, opened] = serve();
  client.send("request");
  ASSERT_EQ(read_some(socket), "request");
  ASSERT_TRUE(socket.write("1"));
  EXPECT_EQ(n1.expect_message<wire::AppAwait>(ApiType::await_stable).checkpoints, 0u);
  n1.keeps = false;
  ASSERT_TRUE(socket.checkpoint(bytes("state")));
  std::thread writer([&socket = socket] { EXPECT_EQ(*socket.write("2"), 1u); });
  const auto asked = n1.expect_message<wire::AppAwait>(ApiType::await_stable);
  EXPECT_EQ(asked.offset, 7u);
  EXPECT_EQ(asked.checkpoints, 1u);
  EXPECT_EQ(n1.recorded(ApiType::checkpoint), 1u) << "it is said before what waits for it";
  n1.tell(ApiType::stable, wire::AppStable{opened.id, 7, 0});   // an answer to something that was asked before
  EXPECT_EQ(client.receive(1), "1");
  pollfd nothing{client.fd(), POLLIN, 0};
  EXPECT_EQ(poll(&nothing, 1, 30), 0);
  n1.tell(ApiType::stable, wire::AppStable{opened.id, 7, 1});
  writer.join();
  EXPECT_EQ(client.receive(1), "2");
  EXPECT_TRUE(socket.write("3")) << "none since";
  EXPECT_EQ(n1.recorded(ApiType::await_stable), 0u);
}

TEST_F(Replicated, AShutdownWaitsForACheckpointAndANonBlockingOneGivesUp) {
  listen();
  n1.keeps = false;
  auto [client, socket, opened] = serve();
  ASSERT_TRUE(socket.set_blocking(false));
  ASSERT_TRUE(socket.checkpoint(bytes("state")));
  EXPECT_EQ(socket.shutdown(SHUT_WR).error().code, Errc::again);
  const auto asked = n1.expect_message<wire::AppAwait>(ApiType::await_stable);
  EXPECT_EQ(asked.offset, 0u);
  n1.tell(ApiType::stable, wire::AppStable{opened.id, asked.offset, asked.checkpoints});
  EXPECT_TRUE(eventually([&socket = socket] { return socket.shutdown(SHUT_WR).has_value(); }));
  EXPECT_TRUE(client.at_end());
}

TEST_F(Replicated, WhoeverOnlyWritesDoesNotWait) {
  listen();
  n1.keeps = false;
  auto [client, socket, opened] = serve();
  ASSERT_TRUE(socket.write("hello"));
  ASSERT_TRUE(socket.shutdown(SHUT_WR));
  EXPECT_EQ(client.receive(5), "hello");
  EXPECT_TRUE(client.at_end());
  EXPECT_EQ(n1.recorded(ApiType::await_stable), 0u);
}

TEST_F(Replicated, AShutdownWaitsLikeAWrite) {
  listen();
  n1.keeps = false;
  auto [client, socket, opened] = serve();
  client.send("x");
  ASSERT_EQ(read_some(socket), "x");
  std::thread ender([&socket = socket] { EXPECT_TRUE(socket.shutdown(SHUT_WR)); });
  EXPECT_EQ(n1.expect_message<wire::AppAwait>(ApiType::await_stable).offset, 1u);
  pollfd nothing{client.fd(), POLLIN, 0};
  EXPECT_EQ(poll(&nothing, 1, 30), 0);
  EXPECT_EQ(n1.recorded(ApiType::ending), 0u);
  n1.tell(ApiType::stable, wire::AppStable{opened.id, 1});
  ender.join();
  EXPECT_TRUE(client.at_end());
}

TEST_F(Replicated, ANonBlockingWriteGivesUpAndAsksOnce) {
  listen();
  n1.keeps = false;
  auto [client, socket, opened] = serve();
  ASSERT_TRUE(socket.set_blocking(false));
  client.send("x");
  ASSERT_TRUE(eventually([&socket = socket] { return read_some(socket) == "x"; }));
  const Time before = monotonic_now();
  EXPECT_EQ(socket.write("y").error().code, Errc::again);
  const auto took = monotonic_now() - before;
  EXPECT_GE(took, milliseconds(45));
  EXPECT_LT(took, milliseconds(2000));
  EXPECT_EQ(socket.write("y").error().code, Errc::again);
  (void)n1.expect(ApiType::await_stable);
  EXPECT_EQ(n1.recorded(ApiType::await_stable), 0u);
  n1.tell(ApiType::stable, wire::AppStable{opened.id, 1});
  EXPECT_TRUE(eventually([&socket = socket] { return socket.write("y").has_value(); }));
  EXPECT_EQ(client.receive(1), "y");
}

TEST_F(Replicated, AMoveInterruptsAWriteThatWaits) {
  FakeGeckod& n2 = group.node("n2");
  listen();
  Framework two = group.join("n2");
  ServerSocket other = group.listen(two);
  n1.keeps = false;
  auto [client, socket, opened] = serve();
  client.send("x");
  ASSERT_EQ(read_some(socket), "x");
  std::thread writer([&socket = socket] { EXPECT_EQ(socket.write("y").error().code, Errc::moved); });
  (void)n1.expect(ApiType::await_stable);
  n1.move_away(opened.id, "n2");
  writer.join();
  auto there = other.accept(Timeout(5000));
  ASSERT_TRUE(there);
  EXPECT_TRUE(there->write("z"));   // n2 replicates nothing
  EXPECT_EQ(client.receive(1), "z");
  EXPECT_EQ(n2.recorded(ApiType::input), 0u);
}

TEST_F(Replicated, AMoveThatFailsAsksAgain) {
  listen();
  (void)group.node("n2");
  n1.keeps = false;
  n1.handoffs = FakeGeckod::Handoffs::refuse;
  auto [client, socket, opened] = serve();
  client.send("x");
  ASSERT_EQ(read_some(socket), "x");
  std::thread writer([&socket = socket] { EXPECT_EQ(*socket.write("y"), 1u); });
  (void)n1.expect(ApiType::await_stable);
  n1.keeps = true;
  n1.move_away(opened.id, "n2");
  writer.join();
  EXPECT_EQ(client.receive(1), "y");
}

TEST_F(Replicated, TheEndOfTheConnectionOrOfTheFrameworkInterruptsAWriteThatWaits) {
  listen();
  n1.keeps = false;
  auto ended = serve(), left = serve();
  for (Served* s : {&ended, &left}) {
    s->client.send("x");
    ASSERT_EQ(read_some(s->socket), "x");
  }
  std::thread first([&] { EXPECT_EQ(ended.socket.write("y").error().code, Errc::closed); });
  std::thread second([&] { EXPECT_TRUE(left.socket.write("y")); });   // it goes on as a plain connection
  (void)n1.expect(ApiType::await_stable);
  (void)n1.expect(ApiType::await_stable);
  ended.socket.end();
  first.join();
  server.reset();
  one.reset();
  second.join();
  EXPECT_EQ(left.client.receive(1), "y");
}

// A callback may want what the writer holds.
TEST_F(Replicated, NoCallbackRunsInsideAWrite) {
  one.emplace(group.join("n1", true));   // no thread: whoever waits reads
  server.emplace(group.listen(*one));
  n1.keeps = false;
  server->set_blocking(false);
  Client client(server->port());
  auto socket = server->accept();
  ASSERT_TRUE(eventually([&] { return socket || (socket = server->accept()); }));
  const auto id = n1.expect_message<wire::Opened>(ApiType::opened).id;
  int asked = 0;
  socket->on_yield([&](Socket&) {
    ++asked;
    return false;
  });
  client.send("x");
  ASSERT_TRUE(eventually([&] { return read_some(*socket) == "x"; }));
  n1.tell(ApiType::yield, wire::Yield{id});
  EXPECT_EQ(socket->write("y").error().code, Errc::again);
  EXPECT_EQ(asked, 0);
  pollfd wants{one->fd(), POLLIN, 0};
  ASSERT_EQ(poll(&wants, 1, 5000), 1) << "the loop is told that something is left to do";
  ASSERT_TRUE(one->dispatch());
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(n1.expect_message<wire::NotYielded>(ApiType::not_yielded).id, id);
  EXPECT_EQ(poll(&wants, 1, 0), 0);
}

TEST_F(Replicated, WithThreadsAMoveGetsThroughWhileAWriteWaits) {
  listen();
  n1.keeps = false;
  auto [client, socket, opened] = serve();
  std::atomic<std::thread::id> where{};
  socket.on_yield([&](Socket&) {
    where = std::this_thread::get_id();
    return false;
  });
  client.send("x");
  ASSERT_EQ(read_some(socket), "x");
  std::thread writer([&socket = socket] { EXPECT_TRUE(socket.write("y")); });
  const auto writes = writer.get_id();
  (void)n1.expect(ApiType::await_stable);
  n1.tell(ApiType::yield, wire::Yield{opened.id});
  (void)n1.expect(ApiType::not_yielded);
  EXPECT_NE(where.load(), std::thread::id());
  EXPECT_NE(where.load(), writes);
  n1.tell(ApiType::stable, wire::AppStable{opened.id, 1});
  writer.join();
}

TEST_F(Replicated, ANewGeckodIsToldEverythingAgain) {
  listen();
  n1.keeps = false;
  auto [client, socket, opened] = serve();
  client.send("before");
  ASSERT_EQ(read_some(socket), "before");
  ASSERT_TRUE(socket.checkpoint(bytes("state")));
  client.send("after");
  ASSERT_EQ(read_some(socket), "after");
  std::thread writer([&socket = socket] { EXPECT_TRUE(socket.write("answer")); });
  EXPECT_EQ(n1.expect_message<wire::AppAwait>(ApiType::await_stable).offset, 11u);
  n1.stop();
  ASSERT_TRUE(eventually([&] { return !one->is_connected(); }));
  client.send("!");
  ASSERT_EQ(read_some(socket), "!");
  std::vector<ApiType> order;
  std::mutex lock;
  n1.set_script([&](FakeGeckod&, FakeGeckod::Record& r) {
    const std::lock_guard guard(lock);
    order.push_back(r.type);
    return false;
  });
  n1.start();
  EXPECT_EQ(n1.expect_message<wire::AppCheckpoint>(ApiType::checkpoint).input, 6u);
  const auto begin = next_input(), rest = next_input();
  EXPECT_EQ(begin.offset, 6u);
  EXPECT_TRUE(begin.bytes.empty());
  EXPECT_EQ(rest.offset, 6u);
  EXPECT_EQ(text(rest), "after!");
  const auto awaits = n1.expect_message<wire::AppAwait>(ApiType::await_stable);
  EXPECT_EQ(awaits.offset, 11u);
  EXPECT_EQ(awaits.checkpoints, 1u);
  n1.tell(ApiType::stable, wire::AppStable{opened.id, 11, awaits.checkpoints});
  writer.join();
  EXPECT_EQ(client.receive(6), "answer");
  const std::lock_guard guard(lock);
  std::erase_if(order, [](ApiType type) {
    return type != ApiType::opened && type != ApiType::checkpoint && type != ApiType::input && type != ApiType::await_stable;
  });
  EXPECT_THAT(order, testing::ElementsAre(ApiType::opened, ApiType::checkpoint, ApiType::input, ApiType::input, ApiType::await_stable));
  n1.set_script(nullptr);
}

TEST_F(Replicated, WhatIsReadBeforeGeckodKnowsTheConnectionComesWithItsAnnouncement) {
  listen();
  n1.stop();
  ASSERT_TRUE(eventually([&] { return !one->is_connected(); }));
  Client client(server->port());
  auto socket = server->accept();
  client.send("early");
  ASSERT_EQ(read_some(*socket), "early");
  n1.start();
  EXPECT_TRUE(next_input().bytes.empty());
  EXPECT_EQ(text(next_input()), "early");
}

TEST_F(Replicated, AReplayedConnectionReadsAndWritesOnceMore) {
  listen();
  n1.keeps = false;
  auto served = serve();
  served.client.send("0123456789");   // read by the dead node after its checkpoint at 90; "9" is new
  wire::Arrive arrive;
  arrive.blob = bytes("saved");
  arrive.base = {1005, 90, true};
  arrive.saved = arrive.replayed = true;
  arrive.input = 90;
  arrive.output = 1000;
  arrive.logged = 99;
  auto socket = recover(served, arrive);
  const auto recovery = socket.recovery();
  ASSERT_TRUE(recovery);
  EXPECT_EQ(recovery->received, 90u);
  EXPECT_EQ(recovery->sent, 1000u);
  ASSERT_TRUE(recovery->checkpoint);
  EXPECT_EQ(recovery->checkpoint->input, 90u);
  EXPECT_EQ(recovery->checkpoint->output, 1000u);
  EXPECT_EQ(*socket.offsets(), (std::pair<uint64_t, uint64_t>(90, 1000)));
  const auto begin = next_input();
  EXPECT_EQ(begin.offset, 99u);
  EXPECT_TRUE(begin.bytes.empty());
  char some[6];
  ASSERT_EQ(*socket.read(some, 6), 6u);
  // The client has five bytes of the answer: they are counted, not sent, and need not wait.
  EXPECT_EQ(*socket.write("ab"), 2u);
  EXPECT_EQ(*socket.offsets(), (std::pair<uint64_t, uint64_t>(96, 1002)));
  EXPECT_EQ(socket.handoff("n2").error().code, Errc::busy) << "how much is left to be swallowed does not travel";
  ASSERT_TRUE(socket.checkpoint(bytes("between")));
  EXPECT_EQ(n1.expect_message<wire::AppCheckpoint>(ApiType::checkpoint).output, 1002u);
  EXPECT_EQ(n1.recorded(ApiType::await_stable), 0u);
  n1.keeps = true;
  EXPECT_EQ(*socket.write("cdefg"), 5u);
  EXPECT_EQ(n1.expect_message<wire::AppAwait>(ApiType::await_stable).offset, 96u);
  EXPECT_EQ(served.client.receive(2), "fg");
  EXPECT_EQ(*socket.offsets(), (std::pair<uint64_t, uint64_t>(96, 1007)));
  ASSERT_EQ(read_some(socket), "6789");
  const auto fresh = next_input();
  EXPECT_EQ(fresh.offset, 99u) << "what geckod has is not told again";
  EXPECT_EQ(text(fresh), "9");
}

// The same socket, whose kernel has counted since before.
TEST_F(Replicated, OneHandedOffToItsOwnNodeGoesOnWhereItStands) {
  listen();
  auto served = serve();
  served.client.send("before");
  ASSERT_EQ(read_some(served.socket), "before");
  ASSERT_EQ(text(next_input()), "before");
  wire::Arrive arrive;
  arrive.epoch = 2;
  arrive.from = "n1";
  arrive.base = {0, 0, true};
  auto socket = arrives(served, arrive);
  EXPECT_EQ(next_input().offset, 6u);
  served.client.send("after");
  ASSERT_EQ(read_some(socket), "after");
  const auto fresh = next_input();
  EXPECT_EQ(fresh.offset, 6u);
  EXPECT_EQ(text(fresh), "after");
  EXPECT_EQ(socket.offsets()->first, 11u);
}

TEST_F(Replicated, OneWithoutACheckpointBeginsAnew) {
  listen();
  auto served = serve();
  wire::Arrive arrive;
  arrive.base = {3, 0, true};
  arrive.replayed = true;
  arrive.logged = 0;
  auto socket = recover(served, arrive);
  const auto recovery = socket.recovery();
  ASSERT_TRUE(recovery);
  EXPECT_EQ(recovery->received, 0u);
  EXPECT_EQ(recovery->sent, 0u);
  EXPECT_FALSE(recovery->checkpoint);
  const iovec parts[] = {{const_cast<char*>("ab"), 2}, {const_cast<char*>("cd"), 2}};
  EXPECT_EQ(*socket.writev(parts, 2), 4u);
  EXPECT_EQ(served.client.receive(1), "d");
}

// Its new backups may not have yet what its predecessor had read.
TEST_F(Replicated, WhatHasArrivedWaitsBeforeItsFirstOutput) {
  listen();
  n1.keeps = false;
  auto served = serve();
  wire::Arrive arrive;
  arrive.base = {50, 40, true};
  arrive.logged = 40;
  auto socket = recover(served, arrive);
  std::thread writer([&] { EXPECT_TRUE(socket.write("y")); });
  EXPECT_EQ(n1.expect_message<wire::AppAwait>(ApiType::await_stable).offset, 40u);
  n1.tell(ApiType::stable, wire::AppStable{served.opened.id, 40});
  writer.join();
}

TEST_F(Replicated, ThreadsThatReadOneSocketTellInTheKernelsOrder) {
  listen();
  auto [client, socket, opened] = serve();
  constexpr size_t kBytes = 200'000;
  std::string sent(kBytes, '\0');
  for (size_t i = 0; i < kBytes; ++i) sent[i] = static_cast<char>('a' + i * 7 % 23);
  std::atomic<size_t> got{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&socket = socket, &got] {
      char buffer[37];
      for (;;) {
        const auto n = socket.read(buffer, sizeof buffer);
        if (!n || *n == 0) break;
        got += *n;
      }
    });
  }
  client.send(sent);
  client.close();
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(got, kBytes);
  std::string told;
  for (;;) {
    const auto part = next_input();
    ASSERT_EQ(part.offset, told.size());
    told += text(part);
    if (part.end) break;
  }
  EXPECT_EQ(told, sent);
}

TEST_F(Replicated, AnOlderGeckodHearsNothing) {
  n1.version = 3;
  listen();
  Client client(server->port());
  auto socket = server->accept();
  client.send("x");
  ASSERT_EQ(read_some(*socket), "x");
  ASSERT_TRUE(socket->write("y"));
  EXPECT_EQ(client.receive(1), "y");
  ASSERT_TRUE(one->set_replicated(80, false));
  socket->close();
  (void)n1.expect(ApiType::closed);
  for (const auto type : {ApiType::input, ApiType::await_stable, ApiType::replication}) EXPECT_EQ(n1.recorded(type), 0u);
}

TEST_F(Replicated, AGeckodThatKnowsNothingOfCheckpointsIsAskedForInputOnly) {
  n1.version = 4;
  listen();
  auto [client, socket, opened] = serve();
  client.send("x");
  ASSERT_EQ(read_some(socket), "x");
  ASSERT_TRUE(socket.checkpoint(bytes("state")));
  ASSERT_TRUE(socket.write("y"));
  EXPECT_EQ(n1.expect_message<wire::AppAwaitBefore5>(ApiType::await_stable).offset, 1u);
  ASSERT_TRUE(socket.checkpoint(bytes("state")));
  ASSERT_TRUE(socket.write("z"));
  EXPECT_EQ(client.receive(2), "yz");
  EXPECT_EQ(n1.recorded(ApiType::await_stable), 0u);
}

// As when a node is set back to the version before.
TEST_F(Replicated, AnOlderGeckodAfterARestartEndsTheWaiting) {
  listen();
  n1.keeps = false;
  auto [client, socket, opened] = serve();
  client.send("x");
  ASSERT_EQ(read_some(socket), "x");
  std::thread writer([&socket = socket] { EXPECT_TRUE(socket.write("y")); });
  (void)n1.expect(ApiType::await_stable);
  n1.stop();
  n1.version = 3;
  n1.start();
  writer.join();
  EXPECT_EQ(client.receive(1), "y");
}

TEST_F(Replicated, AProgramCanDoWithout) {
  one.emplace(group.open("n1"));
  n1.keeps = false;
  ASSERT_TRUE(one->join());
  const uint16_t port = one->ports().front();
  ASSERT_TRUE(one->set_replicated(port, false));
  const auto said = n1.expect_message<wire::AppReplication>(ApiType::replication);
  EXPECT_EQ(said.port, port);
  EXPECT_FALSE(said.wanted);
  server.emplace(group.listen(*one));
  Client client(server->port());
  auto socket = server->accept();
  client.send("x");
  ASSERT_EQ(read_some(*socket), "x");
  ASSERT_TRUE(socket->write("y"));
  socket->close();
  (void)n1.expect(ApiType::closed);
  for (const auto type : {ApiType::input, ApiType::await_stable}) EXPECT_EQ(n1.recorded(type), 0u);
  n1.stop();
  n1.start();
  (void)n1.expect(ApiType::listens);
  EXPECT_EQ(n1.recorded(ApiType::replication), 1u) << "before what it says of listening";
}

}  // namespace
}  // namespace gecko::test
