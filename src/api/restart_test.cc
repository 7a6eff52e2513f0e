// geckod restarts, dies in the middle of a move, or talks nonsense: connections go on, the conversation is taken up again.
#include <gmock/gmock.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include "api/test_group.hh"

namespace gecko::test {
namespace {

using testing::HasSubstr;

class Restart : public testing::Test {
 protected:
  Group group;
  FakeGeckod& n1 = group.node("n1");
  FakeGeckod& n2 = group.node("n2");
  Framework one = group.join("n1"), two = group.join("n2");
  ServerSocket server = group.listen(one), other = group.listen(two);
};

TEST_F(Restart, TheFrameworkJoinsAgainAndAnnouncesEverything) {
  Client client(server.port()), second(server.port());
  auto fresh = server.accept(), moved = server.accept();
  ASSERT_TRUE(moved->handoff("n2"));
  auto there = other.accept();
  ASSERT_TRUE(there->handoff("n1"));
  auto back = server.accept();
  ASSERT_TRUE(back);
  n1.stop();
  ASSERT_TRUE(eventually([&] { return !one.is_connected(); }));
  EXPECT_EQ(fresh->handoff("n2").error().code, Errc::unavailable);
  EXPECT_EQ(one.members().error().code, Errc::unavailable);
  EXPECT_THAT(one.set_contact("n2").error().message, HasSubstr("not connected to geckod at"));
  client.send("meanwhile");
  EXPECT_EQ(read_some(*fresh), "meanwhile");
  Client third(server.port());   // clients are accepted without geckod, too
  auto orphan = server.accept();
  ASSERT_TRUE(orphan);
  n1.start();
  ASSERT_TRUE(eventually([&] { return one.is_connected(); }));
  std::map<std::string, uint64_t> epochs;
  for (int i = 0; i < 3; ++i) {
    const auto m = n1.expect_message<wire::Opened>(ApiType::opened);
    epochs[m.id.str()] = m.epoch;
  }
  EXPECT_EQ(epochs, (std::map<std::string, uint64_t>{{fresh->id(), 1}, {back->id(), 3}, {orphan->id(), 1}}));
  EXPECT_EQ(n1.expect_message<wire::Listens>(ApiType::listens).port, server.port());
  ASSERT_TRUE(back->handoff("n2"));
  EXPECT_TRUE(other.accept(Timeout(5000)));
}

TEST_F(Restart, ALeaverStaysOut) {
  ASSERT_TRUE(one.leave());
  (void)n1.expect_message<wire::Leave>(ApiType::leave);
  n1.stop();
  n1.start();
  ASSERT_TRUE(eventually([&] { return one.is_connected(); }));
  EXPECT_NE(n1.expect_message<wire::Leave>(ApiType::leave).request, 0u);
}

TEST_F(Restart, WhoeverLeftCanJoinAgainAndSaysWhatItListensOn) {
  (void)n1.expect(ApiType::join);
  ASSERT_TRUE(one.leave());
  ASSERT_TRUE(one.join());
  EXPECT_EQ(n1.expect(ApiType::join).type, ApiType::join);
  EXPECT_EQ(n1.expect_message<wire::Listens>(ApiType::listens).port, server.port());
  n1.stop();
  n1.start();
  ASSERT_TRUE(eventually([&] { return one.is_connected(); }));
  (void)n1.expect(ApiType::listens);
  EXPECT_EQ(n1.recorded(ApiType::leave), 0u);
}

TEST_F(Restart, GeckodHearsHowManyConnectionsMayCome) {
  const auto room = n1.expect_message<wire::Room>(ApiType::room);
  EXPECT_GT(room.arrivals, 0u);
  EXPECT_LT(room.arrivals, 1u << 20);
}

TEST_F(Restart, OutcomesOfManyConnectionsComeInParts) {
  n1.set_script([](FakeGeckod& daemon, FakeGeckod::Record& r) {
    if (r.type != ApiType::handoff_client) return false;
    const auto m = wire::decode<wire::HandoffClient>(r.body);
    wire::ClientResult part{m->request, std::vector<wire::ClientOutcome>(wire::kMaxHints, wire::ClientOutcome{ConnId{}, m->client, "n1", 0, ""})};
    daemon.answer(r, ApiType::client_result, part);
    part.outcomes.resize(1);
    daemon.answer(r, ApiType::client_result, part);
    return true;
  });
  gecko_client_outcome first{};
  EXPECT_EQ(gecko_framework_handoff_client(one.handle(), "::1", "n2", &first, 1), static_cast<int>(wire::kMaxHints) + 1);
}

TEST_F(Restart, NamesOverTheLimitAreErrors) {
  const std::string name(64, 'n');
  EXPECT_EQ(one.set_contact(name).error().code, Errc::invalid);
  EXPECT_EQ(one.handoff_client("::1", name).error().code, Errc::invalid);
  Framework::Options options;
  options.daemon = n1.path();
  EXPECT_EQ(Framework::open(name, options).error().code, Errc::invalid);
}

TEST_F(Restart, DeathInTheMiddleOfAMoveGivesTheConnectionBack) {
  Client client(server.port()), second(server.port());
  auto pushed = server.accept(), pulled = server.accept();
  n1.handoffs = FakeGeckod::Handoffs::hold;
  ASSERT_TRUE(pushed->handoff_in_background("n2"));
  n1.move_away(id_of(*pulled), "n2");
  (void)n1.expect_message<wire::AppHandoff>(ApiType::handoff);
  (void)n1.expect_message<wire::Yielded>(ApiType::yielded);
  client.send("one");
  second.send("two");
  n1.stop();
  EXPECT_EQ(read_some(*pushed), "one");
  EXPECT_EQ(read_some(*pulled), "two");
  n1.start();
  n1.handoffs = FakeGeckod::Handoffs::move;
  ASSERT_TRUE(n1.await([&] { return n1.open_connections().size() >= 2; }) && eventually([&] { return one.is_connected(); }));
  EXPECT_TRUE(pushed->handoff("n2"));
  EXPECT_TRUE(pulled->handoff("n2"));
}

// Killed between the two steps of a freeze.
TEST_F(Restart, AConnectionThatWasMadeDeafHearsAgain) {
  Client client(server.port());
  auto socket = server.accept();
  const int on = 1;
  ASSERT_EQ(setsockopt(socket->fd(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on), 0);
  n1.set_script([](FakeGeckod& daemon, FakeGeckod::Record& r) {
    if (r.type != ApiType::handoff) return false;
    sock_filter drop_all[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    const sock_fprog program{1, drop_all};
    const int off = 0;
    EXPECT_EQ(setsockopt(r.fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), 0);
    EXPECT_EQ(setsockopt(r.fd.get(), SOL_SOCKET, SO_KEEPALIVE, &off, sizeof off), 0);
    daemon.hang_up();
    return true;
  });
  EXPECT_EQ(socket->handoff("n2").error().code, Errc::unavailable);
  client.send("do you hear me?");
  EXPECT_EQ(read_some(*socket), "do you hear me?");
  int keepalive = 0;
  socklen_t size = sizeof keepalive;
  EXPECT_EQ(getsockopt(socket->fd(), SOL_SOCKET, SO_KEEPALIVE, &keepalive, &size), 0);
  EXPECT_EQ(keepalive, 1);
}

TEST_F(Restart, AForegroundHandoffThatGeckodDoesNotSurviveFails) {
  Client client(server.port());
  auto socket = server.accept();
  n1.set_script([](FakeGeckod& daemon, FakeGeckod::Record& r) {
    if (r.type != ApiType::handoff) return false;
    daemon.hang_up();
    return true;
  });
  const auto status = socket->handoff("n2");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Errc::unavailable);
  client.send("here");
  EXPECT_EQ(read_some(*socket), "here");
}

void set_repair(int fd, int on) { ASSERT_EQ(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on), 0) << strerror(errno); }

// The privileged half thaws what its dead companion had frozen; until then the connection is nobody's.
TEST_F(Restart, AFrozenConnectionIsGivenBackWhenItThaws) {
  Client client(server.port());
  auto socket = server.accept();
  (void)socket->set_blocking(false);
  n1.handoffs = FakeGeckod::Handoffs::hold;
  ASSERT_TRUE(socket->handoff_in_background("n2"));
  Fd theirs;
  (void)n1.expect_message<wire::AppHandoff>(ApiType::handoff, &theirs);
  set_repair(theirs.get(), 1);
  client.send("later");
  n1.stop();
  ASSERT_TRUE(eventually([&] { return !one.is_connected(); }));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));   // nothing may come of it: the library looks every 20 ms
  char byte = 0;
  EXPECT_EQ(socket->read(&byte, 1).error().code, Errc::again);
  set_repair(theirs.get(), 0);
  EXPECT_TRUE(eventually([&] { return socket->read(&byte, 1).has_value(); }));
  EXPECT_EQ(byte, 'l');
}

TEST_F(Restart, AConnectionThatNeverThawsIsSilentlyGone) {
  Client client(server.port());
  auto socket = server.accept();
  n1.handoffs = FakeGeckod::Handoffs::hold;
  ASSERT_TRUE(socket->handoff_in_background("n2"));
  Fd theirs;
  (void)n1.expect_message<wire::AppHandoff>(ApiType::handoff, &theirs);
  set_repair(theirs.get(), 1);
  n1.stop();
  char byte = 0;
  const auto n = socket->read(&byte, 1);  // waits 3 s
  ASSERT_FALSE(n);
  EXPECT_EQ(n.error().code, Errc::closed);
  EXPECT_THAT(n.error().message, HasSubstr("being handed over"));
  socket->close();
  theirs.reset();
  EXPECT_EQ(recv(client.fd(), &byte, 1, MSG_DONTWAIT), -1);  // no FIN, no RST: it may live elsewhere
  EXPECT_EQ(errno, EAGAIN);
}

// The move had been committed: geckod has ended this end without a packet, and what is left is no connection.
TEST_F(Restart, AConnectionThatWasRetiredIsNotGivenBack) {
  Client client(server.port());
  auto socket = server.accept();
  n1.handoffs = FakeGeckod::Handoffs::hold;
  ASSERT_TRUE(socket->handoff_in_background("n2"));
  Fd theirs;
  (void)n1.expect_message<wire::AppHandoff>(ApiType::handoff, &theirs);
  set_repair(theirs.get(), 1);
  const sockaddr none{AF_UNSPEC, {}};
  ASSERT_EQ(connect(theirs.get(), &none, sizeof none), 0) << strerror(errno);
  set_repair(theirs.get(), -1);
  n1.hang_up();
  char byte = 0;
  const auto n = socket->read(&byte, 1);
  ASSERT_FALSE(n);
  EXPECT_EQ(n.error().code, Errc::closed);
  EXPECT_THAT(n.error().message, HasSubstr("being handed over"));
}

TEST_F(Restart, AConnectionThatEndedByItselfIsGivenBackWithWhatItHasReceived) {
  Client client(server.port());
  auto socket = server.accept();
  ASSERT_TRUE(socket->shutdown(SHUT_WR));
  EXPECT_TRUE(client.at_end());
  n1.handoffs = FakeGeckod::Handoffs::hold;
  ASSERT_TRUE(socket->handoff_in_background("n2"));
  Fd theirs;
  (void)n1.expect_message<wire::AppHandoff>(ApiType::handoff, &theirs);
  client.send("last");
  client.close();
  pollfd ended{theirs.get(), POLLRDHUP, 0};
  ASSERT_EQ(poll(&ended, 1, 5000), 1);
  theirs.reset();
  n1.hang_up();
  EXPECT_EQ(read_some(*socket), "last");
}

// A freeze that was under way may hit a connection that has just been given back.
TEST_F(Restart, AFreezeOutOfTheBlueIsWaitedFor) {
  Client client(server.port());
  auto socket = server.accept();
  set_repair(socket->fd(), 1);
  auto writer = waiting([&] { return socket->write("through").has_value(); });
  set_repair(socket->fd(), 0);
  EXPECT_TRUE(writer.get());
  EXPECT_EQ(client.receive(7), "through");
}

TEST_F(Restart, AnOutcomeThatLeavesItFrozenIsALoss) {
  Client client(server.port());
  auto socket = server.accept();
  n1.handoffs = FakeGeckod::Handoffs::hold;
  ASSERT_TRUE(socket->handoff_in_background("n2"));
  Fd theirs;
  const auto m = n1.expect_message<wire::AppHandoff>(ApiType::handoff, &theirs);
  set_repair(theirs.get(), 1);
  n1.tell(ApiType::outcome, wire::AppOutcome{m.request, m.id, static_cast<uint16_t>(Errc::timeout), "the acceptor died with it", "n2", true});
  char byte = 0;
  EXPECT_EQ(socket->read(&byte, 1).error().code, Errc::closed);
}

TEST_F(Restart, AHandoffAnsweredByAnErrorIsGivenBack) {
  Client client(server.port());
  auto socket = server.accept();
  n1.set_script([](FakeGeckod& daemon, FakeGeckod::Record& r) {
    if (r.type != ApiType::handoff) return false;
    const auto m = wire::decode<wire::AppHandoff>(r.body);
    daemon.tell(ApiType::error, wire::ApiError{m->request, static_cast<uint16_t>(Errc::limit), "too many"});
    return true;
  });
  EXPECT_EQ(socket->handoff("n2").error().code, Errc::limit);
  client.send("x");
  EXPECT_EQ(read_some(*socket), "x");
}

// Out of descriptors: what arrives waits on its way, the conversation goes on, nobody's connection is closed.
TEST_F(Restart, ArrivalsWithoutADescriptorWait) {
  constexpr int kCount = 6;
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<Fd> ends;
  Fd listener(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage at{};
  socklen_t size = Endpoint{*Address::parse("::1"), 0}.to_sockaddr(at);
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&at), size), 0);
  ASSERT_EQ(::listen(listener.get(), kCount), 0);
  size = sizeof at;
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&at), &size);
  for (int i = 0; i < kCount; ++i) {
    clients.push_back(std::make_unique<Client>(Endpoint::from_sockaddr(at)->port));
    ends.emplace_back(accept(listener.get(), nullptr, nullptr));
  }
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int lowest_free = fcntl(0, F_DUPFD_CLOEXEC, 0);
  ::close(lowest_free);
  const rlimit low{static_cast<rlim_t>(lowest_free) + 2, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  for (size_t i = 0; i < kCount; ++i) {
    const Flow flow{*Endpoint::parse("[::1]:" + std::to_string(server.port())), *Endpoint::parse(clients[i]->name())};
    n1.arrive(ConnId::random(), 2, flow, "n2", {}, ends[i].get());
  }
  std::vector<Socket> here;
  while (auto s = server.accept(Timeout(300))) here.push_back(std::move(*s));
  EXPECT_LT(here.size(), static_cast<size_t>(kCount));
  EXPECT_TRUE(one.is_connected());
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  while (auto s = server.accept(Timeout(500))) here.push_back(std::move(*s));
  EXPECT_EQ(here.size(), static_cast<size_t>(kCount));
  ends.clear();
  for (size_t i = 0; i < here.size(); ++i) {
    clients[i]->send("x");
    EXPECT_EQ(read_some(here[i]), "x");
  }
}

TEST_F(Restart, NonsenseFromGeckodEndsTheConversationNotTheProgram) {
  Client client(server.port());
  auto socket = server.accept();
  const auto frame = [](uint16_t type, const wire::Bytes& body, uint8_t fds = 0) {
    wire::Bytes out;
    wire::put_frame(out, type, fds, body);
    return out;
  };
  std::vector<wire::Bytes> nonsense{
      frame(999, {}),                                                  // unknown
      frame(static_cast<uint16_t>(ApiType::yield), {1, 2, 3}),         // short
      frame(static_cast<uint16_t>(ApiType::members), wire::Bytes(40, 0xff)),
      frame(static_cast<uint16_t>(ApiType::arrive), wire::encode(wire::Arrive{}), 0),    // without its descriptor
      frame(static_cast<uint16_t>(ApiType::listening), wire::encode(wire::Listening{}), 1),  // announced, not sent
      {0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0},                            // endless
      {4, 0, 0, 0, 1, 0, 0, 7, 1, 2, 3, 4},                            // reserved byte
      frame(static_cast<uint16_t>(ApiType::welcome), wire::encode(wire::Welcome{})),
  };
  for (uint16_t type = 50; type <= 61; ++type)
    for (const size_t size : {0u, 1u, 7u, 20u, 300u}) nonsense.push_back(frame(type, wire::Bytes(size, 0xee)));
  for (const auto& bytes : nonsense) {
    ASSERT_TRUE(eventually([&] { return one.is_connected() && n1.has_application(); }));
    n1.tell_raw(bytes);
    if (bytes.size() > 8 && (bytes[4] == 54) && bytes[6] == 1) n1.hang_up();
    (void)n1.expect_message<wire::Join>(ApiType::join);  // comes back
  }
  ASSERT_TRUE(eventually([&] { return one.is_connected(); }));
  client.send("fine");
  EXPECT_EQ(read_some(*socket), "fine");
  EXPECT_TRUE(socket->handoff("n2"));
}

TEST(Greeting, ErrorsOfGeckodAreTheErrorsOfOpenAndJoin) {
  Group group;
  group.node("n1").set_script([](FakeGeckod& daemon, FakeGeckod::Record& r) {
    if (r.type != ApiType::hello) return false;
    daemon.answer(r, ApiType::error, wire::ApiError{0, static_cast<uint16_t>(Errc::version), "geckod speaks 7 to 9"});
    return true;
  });
  Framework::Options options;
  options.daemon = group.node("n1").path();
  const auto framework = Framework::open("web", options);
  ASSERT_FALSE(framework);
  EXPECT_EQ(framework.error().code, Errc::version);
  EXPECT_EQ(framework.error().message, "geckod speaks 7 to 9");
  options.daemon = group.node("n2").path();
  auto other = Framework::open("nosuch", options);
  ASSERT_TRUE(other);
  EXPECT_EQ(other->join().error().code, Errc::not_found);
  EXPECT_EQ(other->members().error().code, Errc::invalid);
  EXPECT_EQ(ServerSocket::listen(*other).error().code, Errc::invalid);
  EXPECT_EQ(other->connect("[::1]:80").error().code, Errc::invalid);
}

}  // namespace
}  // namespace gecko::test
