// Letting go and getting back: outcomes, vetoes, policies, retries.
#include <gmock/gmock.h>

#include "api/test_group.hh"

namespace gecko::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Handoff : public testing::Test {
 protected:
  Group group;
  FakeGeckod& n1 = group.node("n1");
  FakeGeckod& n2 = group.node("n2");
  FakeGeckod& n3 = group.node("n3");
  Framework one = group.join("n1"), two = group.join("n2"), three = group.join("n3");
  ServerSocket server = group.listen(one), other = group.listen(two), third = group.listen(three);
};

TEST_F(Handoff, ARefusedOneGoesOnAsIfNothingHadHappened) {
  Client client(server.port());
  auto socket = server.accept();
  const int number = socket->fd();
  client.send("before");
  n1.handoffs = FakeGeckod::Handoffs::refuse;
  const auto status = socket->handoff("n2");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Errc::refused);
  EXPECT_EQ(status.error().message, "it does not want it");
  EXPECT_EQ(socket->fd(), number);
  EXPECT_EQ(read_some(*socket), "before");
  ASSERT_TRUE(socket->write("after"));
  EXPECT_EQ(client.receive(5), "after");
  EXPECT_FALSE(socket->is_moved());
  socket->close();
  EXPECT_TRUE(client.at_end());
  EXPECT_TRUE(n1.await([&] { return n1.open_connections().empty(); }));
}

TEST_F(Handoff, AnnouncesWhatItAcceptsAndCloses) {
  Client client(server.port());
  auto socket = server.accept();
  const auto opened = n1.expect_message<wire::Opened>(ApiType::opened);
  EXPECT_EQ(opened.id.str(), socket->id());
  EXPECT_EQ(opened.flow.peer.str(), client.name());
  EXPECT_EQ(opened.flow.local.str(), socket->local_name());
  EXPECT_EQ(opened.epoch, 1u);
  EXPECT_TRUE(opened.movable);
  const std::string id = socket->id();
  socket->close();
  EXPECT_EQ(n1.expect_message<wire::AppClosed>(ApiType::closed).id.str(), id);
}

TEST_F(Handoff, OnItsWayNothingCanBeReadOrWrittenAndTheNumberStaysTaken) {
  Client client(server.port());
  auto socket = server.accept();
  ASSERT_TRUE(socket->set_blocking(false));
  client.send("kept");
  n1.handoffs = FakeGeckod::Handoffs::hold;
  ASSERT_TRUE(socket->handoff_in_background("n2"));
  Fd theirs;
  const auto message = n1.expect_message<wire::AppHandoff>(ApiType::handoff, &theirs);
  char byte = 0;
  EXPECT_EQ(socket->read(&byte, 1).error().code, Errc::again);
  EXPECT_EQ(socket->write("x").error().code, Errc::again);
  EXPECT_EQ(socket->handoff_in_background("n3").error().code, Errc::busy);
  EXPECT_EQ(::read(socket->fd(), &byte, 1), 0);  // the EOF end
  char peeked[8] = {};
  EXPECT_EQ(recv(theirs.get(), peeked, sizeof peeked, MSG_PEEK | MSG_DONTWAIT), 4);
  // The operator asks meanwhile: it is busy.
  n1.tell(ApiType::yield, wire::Yield{message.id});
  EXPECT_EQ(n1.expect_message<wire::NotYielded>(ApiType::not_yielded).code, static_cast<uint16_t>(Errc::busy));
  n1.tell(ApiType::outcome, wire::AppOutcome{message.request, message.id, static_cast<uint16_t>(Errc::timeout), "slow", "n2", true});
  ASSERT_TRUE(eventually([&] { return socket->read(&byte, 1).has_value(); }));
  EXPECT_EQ(byte, 'k');
}

TEST_F(Handoff, ForegroundTimeoutLeavesItOnItsWay) {
  Client client(server.port());
  auto socket = server.accept();
  n1.handoffs = FakeGeckod::Handoffs::hold;
  EXPECT_EQ(socket->handoff("n2", Timeout(20)).error().code, Errc::timeout);
  const auto message = n1.expect_message<wire::AppHandoff>(ApiType::handoff);
  n1.tell(ApiType::outcome, wire::AppOutcome{message.request, message.id, 0, "", "n2", true});
  char byte = 0;
  EXPECT_EQ(socket->read(&byte, 1).error().code, Errc::moved);  // blocking: waits for the outcome
}

TEST_F(Handoff, ClosingOnTheWayEndsItWhenItComesBack) {
  Client client(server.port());
  auto socket = server.accept();
  n1.handoffs = FakeGeckod::Handoffs::hold;
  ASSERT_TRUE(socket->handoff_in_background("n2"));
  Fd theirs;
  const auto message = n1.expect_message<wire::AppHandoff>(ApiType::handoff, &theirs);
  socket->close();
  theirs.reset();
  n1.tell(ApiType::outcome, wire::AppOutcome{message.request, message.id, static_cast<uint16_t>(Errc::refused), "no", "n2", true});
  EXPECT_TRUE(client.at_end());
  EXPECT_EQ(n1.expect_message<wire::AppClosed>(ApiType::closed).id, message.id);
}

TEST_F(Handoff, GeckodHearsOfTheEndOfOneThatChangedItsMindOnTheWay) {
  Client client(server.port());
  auto socket = server.accept();
  n1.handoffs = FakeGeckod::Handoffs::hold;
  ASSERT_TRUE(socket->handoff_in_background("n2"));
  Fd theirs;
  const auto message = n1.expect_message<wire::AppHandoff>(ApiType::handoff, &theirs);
  socket->set_movable(false);
  socket->close();
  theirs.reset();
  n1.tell(ApiType::outcome, wire::AppOutcome{message.request, message.id, static_cast<uint16_t>(Errc::refused), "no", "n2", true});
  EXPECT_EQ(n1.expect_message<wire::AppClosed>(ApiType::closed).id, message.id);
  EXPECT_TRUE(client.at_end());
}

TEST_F(Handoff, TheOperatorsYieldCarriesTheStateAndCanBeVetoed) {
  Client client(server.port());
  auto socket = server.accept();
  bool willing = false;
  socket->on_yield([&](Socket& s) {
    EXPECT_EQ(s.id(), socket->id());
    (void)s.set_state(std::vector<uint8_t>{7});
    EXPECT_EQ(s.handoff("n2").error().code, Errc::busy);          // would wait for the thread it is on
    EXPECT_EQ(one.set_contact("n2").error().code, Errc::busy);
    char byte = 0;
    EXPECT_EQ(s.read(&byte, 1).error().code, Errc::busy);
    return willing;
  });
  n1.move_away(id_of(*socket), "n2");
  const auto refused = n1.expect_message<wire::NotYielded>(ApiType::not_yielded);
  EXPECT_EQ(refused.code, static_cast<uint16_t>(Errc::refused));
  client.send("still");
  EXPECT_EQ(read_some(*socket), "still");
  willing = true;
  n1.move_away(id_of(*socket), "n2");
  auto there = other.accept();
  ASSERT_TRUE(there);
  EXPECT_EQ(there->state(), std::vector<uint8_t>{7});
  EXPECT_EQ(read_some(*socket).substr(0, 5), "error");
  EXPECT_TRUE(socket->is_moved());
}

TEST_F(Handoff, TheLateOutcomeOfAnEarlierMoveDoesNotEndAYield) {
  Client client(server.port());
  auto socket = server.accept();
  n1.handoffs = FakeGeckod::Handoffs::hold;
  n1.move_away(id_of(*socket), "n2");
  const auto message = n1.expect_message<wire::Yielded>(ApiType::yielded);
  n1.tell(ApiType::outcome, wire::AppOutcome{77, message.id, 0, "", "n2", true});
  n1.tell(ApiType::outcome, wire::AppOutcome{0, message.id, static_cast<uint16_t>(Errc::refused), "no", "n2", true});
  client.send("still");
  EXPECT_EQ(read_some(*socket), "still");
}

TEST_F(Handoff, NotMovableIsSaidAndKept) {
  Client client(server.port());
  auto socket = server.accept();
  (void)n1.expect_message<wire::Opened>(ApiType::opened);
  socket->stay("a raw stream");
  const auto said = n1.expect_message<wire::Stays>(ApiType::stays);
  EXPECT_EQ(said.reason, "a raw stream");
  EXPECT_EQ(said.id.str(), socket->id());
  n1.move_away(id_of(*socket), "n2");
  EXPECT_EQ(n1.expect_message<wire::NotYielded>(ApiType::not_yielded).code, static_cast<uint16_t>(Errc::refused));
  EXPECT_EQ(socket->handoff("n2").error().code, Errc::refused);
  socket->set_movable(true);
  EXPECT_EQ(n1.expect_message<wire::Stays>(ApiType::stays).reason, "");
  EXPECT_TRUE(socket->handoff("n2"));
}

TEST_F(Handoff, APostponedOneFollowsByItself) {
  Client client(server.port());
  auto socket = server.accept();
  bool busy = true;
  socket->on_yield([&](Socket& s) { return !busy || s.postpone("a request is in progress"); });
  EXPECT_FALSE(socket->is_postponed());
  n1.move_away(id_of(*socket), "n2");
  const auto later = n1.expect_message<wire::NotYielded>(ApiType::not_yielded);
  EXPECT_EQ(later.code, static_cast<uint16_t>(Errc::again));
  EXPECT_EQ(later.reason, "a request is in progress");
  EXPECT_TRUE(eventually([&] { return socket->is_postponed(); }));
  client.send("still");
  EXPECT_EQ(read_some(*socket), "still");
  busy = false;
  ASSERT_TRUE(socket->handoff_in_background());
  EXPECT_EQ(n1.expect_message<wire::AppHandoff>(ApiType::handoff).target, "");  // geckod knows where to
  EXPECT_TRUE(third.accept(gecko::Timeout(5000)));
  EXPECT_FALSE(socket->is_postponed());
}

TEST_F(Handoff, APostponementEndsOneWait) {
  Client client(server.port());
  auto socket = server.accept();
  socket->on_yield([](Socket& s) { return s.postpone("a request is in progress"); });
  std::thread asks([&] { n1.move_away(id_of(*socket), "n2"); });   // before, in or after the beginning of the wait
  const auto woken = socket->wait(POLLIN, gecko::Timeout(10000));
  asks.join();
  ASSERT_TRUE(woken) << woken.error().message;
  EXPECT_EQ(*woken, 0);
  EXPECT_TRUE(socket->is_postponed());
  EXPECT_EQ(n1.expect_message<wire::NotYielded>(ApiType::not_yielded).code, static_cast<uint16_t>(Errc::again));
  client.send("x");
  EXPECT_EQ(socket->wait(POLLIN).value_or(0), POLLIN);
}

TEST_F(Handoff, YieldOfAnUnknownConnectionIsAnswered) {
  n1.tell(ApiType::yield, wire::Yield{ConnId::random()});
  EXPECT_EQ(n1.expect_message<wire::NotYielded>(ApiType::not_yielded).code, static_cast<uint16_t>(Errc::not_found));
}

TEST_F(Handoff, ToThisVeryNodeItArrivesAgain) {
  Client client(server.port());
  auto socket = server.accept();
  const std::string id = socket->id();
  ASSERT_TRUE(socket->handoff("n1"));
  auto again = server.accept();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->id(), id);
  client.send("hi");
  EXPECT_EQ(read_some(*again), "hi");
  EXPECT_TRUE(socket->is_moved());
}

TEST_F(Handoff, AnArrivalThatNobodyHasAcceptedCanLeaveAgain) {
  Client client(server.port());
  auto socket = server.accept();
  ASSERT_TRUE(socket->handoff("n2"));
  n2.move_away(id_of(*socket), "n3");
  auto there = third.accept(Timeout(5000));
  ASSERT_TRUE(there);
  EXPECT_EQ(there->from(), "n2");
  EXPECT_EQ(other.accept(Timeout(0)).error().code, Errc::timeout);
  // And comes back into the queue if it is not taken.
  ASSERT_TRUE(there->handoff("n2"));
  n2.handoffs = FakeGeckod::Handoffs::refuse;
  n2.move_away(id_of(*there), "n3");
  (void)n2.expect_message<wire::Yielded>(ApiType::yielded);
  auto back = other.accept(Timeout(5000));
  ASSERT_TRUE(back);
  client.send("x");
  EXPECT_EQ(read_some(*back), "x");
}

// --- policies

struct Scripted : Policy {
  std::vector<std::string> targets;   // in this order; then nothing
  std::vector<std::string> seen, failures;
  std::mutex lock;
  std::optional<std::string> select_target(const Socket& socket, const std::vector<Member>& members) override {
    const std::lock_guard guard(lock);
    std::string line = socket.peer_name().empty() ? "?" : "";
    for (const Member& m : members) line += m.name + (m.self ? "* " : " ");
    seen.push_back(line);
    if (targets.empty()) return std::nullopt;
    auto next = targets.front();
    targets.erase(targets.begin());
    return next;
  }
  void notify_failed_handoff(const std::string& target, const Error& why) override {
    const std::lock_guard guard(lock);
    failures.push_back(target + ": " + why.message);
  }
};

TEST_F(Handoff, ABackgroundHandoffTriesThreeTargetsAndReportsEach) {
  auto policy = std::make_shared<Scripted>();
  one.set_policy(policy);
  policy->targets = {"n1"};            // the new client stays
  Client client(server.port());
  auto socket = server.accept();
  FakeGeckod& n4 = group.node("n4");
  Framework four = group.join("n4");
  (void)n4;
  ASSERT_TRUE(eventually([&] { return one.members()->size() == 4; }));
  policy->targets = {"n2", "n3", "n4"};
  n1.handoffs = FakeGeckod::Handoffs::refuse;
  (void)socket->set_blocking(true);
  ASSERT_TRUE(socket->handoff_in_background());
  client.send("alive");
  EXPECT_EQ(read_some(*socket), "alive");  // waits until it is back
  const std::lock_guard guard(policy->lock);
  EXPECT_THAT(policy->failures, ElementsAre("n2: it does not want it", "n3: it does not want it", "n4: it does not want it"));
  EXPECT_THAT(policy->seen, ElementsAre("n1* n2 n3 ", "n2 n3 n4 ", "n3 n4 ", "n4 "));
  EXPECT_TRUE(n1.await([&] { return n1.recorded(ApiType::handoff) == 3; }));
}

TEST_F(Handoff, ABackgroundHandoffToANamedTargetFallsBackOnThePolicy) {
  auto policy = std::make_shared<Scripted>();
  policy->targets = {"n1", "n3"};
  one.set_policy(policy);
  Client client(server.port());
  auto socket = server.accept();
  ASSERT_TRUE(socket->handoff_in_background("nowhere"));
  auto there = third.accept(Timeout(5000));
  ASSERT_TRUE(there);
  EXPECT_EQ(there->id(), socket->id());
  EXPECT_THAT(policy->failures, ElementsAre("nowhere: no such node"));
}

TEST_F(Handoff, ThePolicySendsNewClientsElsewhereAndAcceptDoesNotReturnThem) {
  one.set_policy(std::make_shared<RoundRobin>());
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 6; ++i) clients.push_back(std::make_unique<Client>(server.port()));
  std::vector<Socket> here, there, third_ones;
  while (auto s = server.accept(Timeout(200))) here.push_back(std::move(*s));
  while (auto s = other.accept(Timeout(200))) there.push_back(std::move(*s));
  while (auto s = third.accept(Timeout(200))) third_ones.push_back(std::move(*s));
  EXPECT_EQ(here.size(), 2u);
  EXPECT_EQ(there.size(), 2u);
  EXPECT_EQ(third_ones.size(), 2u);
  EXPECT_EQ(there.front().from(), "n1");
}

TEST_F(Handoff, ANodeThatIsNotTheContactAsksNoPolicyAboutNewClients) {
  n1.contact = false;
  n1.tell_members();
  ASSERT_TRUE(eventually([&] {
    const auto m = one.members();
    return m && !m->front().contact;
  }));
  one.set_policy(std::make_shared<RoundRobin>());
  for (int i = 0; i < 4; ++i) {
    Client client(server.port());
    EXPECT_TRUE(server.accept(Timeout(2000)));
  }
}

TEST_F(Handoff, ANewClientThatNobodyTakesIsReturnedByAccept) {
  auto policy = std::make_shared<Scripted>();
  policy->targets = {"n2", "n3"};
  one.set_policy(policy);
  n1.handoffs = FakeGeckod::Handoffs::refuse;
  Client client(server.port());
  auto socket = server.accept(Timeout(5000));
  ASSERT_TRUE(socket) << socket.error().message;
  EXPECT_EQ(socket->from(), "");
  client.send("hi");
  EXPECT_EQ(read_some(*socket), "hi");
  EXPECT_EQ(policy->failures.size(), 2u);
}

TEST_F(Handoff, WhenAskedIsNotAskedAboutNewClients) {
  struct Asked : Scripted {
    When when() const override { return When::asked; }
  };
  auto policy = std::make_shared<Asked>();
  policy->targets = {"n2"};
  one.set_policy(policy);
  Client client(server.port());
  auto socket = server.accept();
  EXPECT_TRUE(policy->seen.empty());
  EXPECT_TRUE(socket->handoff());
  EXPECT_THAT(policy->seen, ElementsAre("n2 n3 "));
  EXPECT_TRUE(other.accept(Timeout(5000)));
}

TEST_F(Handoff, APolicyThatNamesNobodyIsAnError) {
  struct Nobody : Policy {
    std::optional<std::string> select_target(const Socket&, const std::vector<Member>&) override { return std::nullopt; }
  };
  one.set_policy(std::make_shared<Nobody>());
  Client client(server.port());
  auto socket = server.accept();
  EXPECT_EQ(socket->handoff().error().code, Errc::unavailable);
  one.set_policy(nullptr);
  EXPECT_TRUE(socket->handoff());  // geckod chooses
}

TEST(Policies, BuiltInsCoverTheirMembers) {
  std::vector<Member> members;
  for (const char* name : {"c", "a", "b"}) {
    members.push_back({});
    members.back().name = name;
  }
  RoundRobin round;
  std::string order;
  gecko_socket* none = nullptr;
  Socket socket(none);
  for (int i = 0; i < 7; ++i) order += *round.select_target(socket, members);
  EXPECT_EQ(order, "abcabca");
  members.erase(members.begin() + 2);  // b leaves
  EXPECT_EQ(*round.select_target(socket, members), "c");
  members[0].connections = 5;          // c
  LeastConnections least;
  EXPECT_EQ(*least.select_target(socket, members), "a");
  Random random;
  std::map<std::string, int> hits;
  for (int i = 0; i < 1000; ++i) ++hits[*random.select_target(socket, members)];
  EXPECT_GT(hits["a"], 400);
  EXPECT_GT(hits["c"], 400);
  EXPECT_FALSE(random.select_target(socket, {}));
}

// --- the other calls

TEST_F(Handoff, AdoptsConnectionsOfTheGroupOnly) {
  Client client(server.port());
  Fd listener(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage to{};
  socklen_t size = Endpoint{*Address::parse("::1"), 0}.to_sockaddr(to);
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&to), size), 0);
  ASSERT_EQ(listen(listener.get(), 5), 0);
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&to), &size);
  Client second(Endpoint::from_sockaddr(to)->port);
  Fd accepted(accept(listener.get(), nullptr, nullptr));
  auto socket = one.adopt(accepted.get());
  ASSERT_TRUE(socket) << socket.error().message;
  (void)accepted.release();
  second.send("hi");
  EXPECT_EQ(read_some(*socket), "hi");
  EXPECT_TRUE(socket->handoff("n2"));
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  EXPECT_EQ(one.adopt(pair[0]).error().code, Errc::invalid);
  EXPECT_EQ(fcntl(pair[0], F_GETFD), FD_CLOEXEC);  // still the caller's
  ::close(pair[0]);
  ::close(pair[1]);
  EXPECT_EQ(one.adopt(-1).error().code, Errc::invalid);
}

TEST_F(Handoff, ConnectsFromTheGroupsAddress) {
  Fd listener(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage to{};
  socklen_t size = Endpoint{*Address::parse("::1"), 0}.to_sockaddr(to);
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&to), size), 0);
  ASSERT_EQ(listen(listener.get(), 5), 0);
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&to), &size);
  const std::string peer = Endpoint::from_sockaddr(to)->str();
  auto socket = one.connect(peer);
  ASSERT_TRUE(socket) << socket.error().message;
  EXPECT_EQ(socket->peer_name(), peer);
  Fd accepted(accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(socket->write("out"));
  char text[4] = {};
  EXPECT_EQ(read(accepted.get(), text, 3), 3);
  ASSERT_TRUE(socket->handoff("n2"));
  auto there = other.accept(Timeout(5000));  // an outbound connection has no listening port: any server gets it
  ASSERT_TRUE(there);
  ASSERT_TRUE(there->write("put"));
  EXPECT_EQ(read(accepted.get(), text, 3), 3);
  EXPECT_FALSE(one.connect("nonsense"));
  listener.reset();
  const auto refused = one.connect(peer, Timeout(1000));
  EXPECT_FALSE(refused);
}

TEST_F(Handoff, MovesAClientAndTheContact) {
  const auto outcomes = one.handoff_client("[2001:db8::1]:4711", "n2");
  ASSERT_TRUE(outcomes);
  ASSERT_EQ(outcomes->size(), 1u);
  EXPECT_TRUE(outcomes->front().moved());
  EXPECT_EQ(outcomes->front().client, "[2001:db8::1]:4711");
  EXPECT_EQ(n1.expect_message<wire::HandoffClient>(ApiType::handoff_client).target, "n2");
  ASSERT_TRUE(one.handoff_client("192.0.2.7", "n2"));
  EXPECT_EQ(n1.expect_message<wire::HandoffClient>(ApiType::handoff_client).client.port, 0);
  EXPECT_EQ(one.handoff_client("what", "n2").error().code, Errc::invalid);
  EXPECT_TRUE(one.set_contact("n3"));
  EXPECT_EQ(n1.expect_message<wire::SetContact>(ApiType::set_contact).node, "n3");
  EXPECT_TRUE(one.leave());
}

TEST_F(Handoff, StateHasALimit) {
  Client client(server.port());
  auto socket = server.accept();
  EXPECT_TRUE(socket->set_state(std::vector<uint8_t>(wire::kMaxBlob, 1)));
  EXPECT_EQ(socket->set_state(std::vector<uint8_t>(wire::kMaxBlob + 1, 2)).error().code, Errc::limit);
  ASSERT_TRUE(socket->handoff("n2"));
  auto there = other.accept(Timeout(5000));
  ASSERT_TRUE(there);
  EXPECT_EQ(there->state(), std::vector<uint8_t>(wire::kMaxBlob, 1));
}

}  // namespace
}  // namespace gecko::test
