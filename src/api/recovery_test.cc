// Checkpoints, exact offsets, and connections whose node has died.
#include <gmock/gmock.h>
#include <netinet/tcp.h>

#include "api/test_group.hh"

namespace gecko::test {
namespace {

class RecoveryOfSockets : public testing::Test {
 protected:
  RecoveryOfSockets() { n1.recovers = true; }
  Group group;
  FakeGeckod& n1 = group.node("n1");
};

std::vector<uint8_t> bytes(std::string_view text) { return {text.begin(), text.end()}; }

TEST_F(RecoveryOfSockets, ACheckpointSaysHowFarTheStreamsWere) {
  Framework one = group.join("n1");
  ServerSocket server = group.listen(one);
  Client client(server.port());
  auto socket = server.accept();
  EXPECT_EQ(n1.expect_message<wire::Opened>(ApiType::opened).base, (StreamBase{0, 0, true}));
  client.send("request!");
  EXPECT_EQ(read_some(*socket), "request!");
  ASSERT_TRUE(socket->write("ans"));
  ASSERT_TRUE(socket->checkpoint(bytes("state")));
  const auto m = n1.expect_message<wire::AppCheckpoint>(ApiType::checkpoint);
  EXPECT_EQ(m.id.str(), socket->id());
  EXPECT_EQ(m.input, 8u);
  EXPECT_EQ(m.output, 3u);
  EXPECT_EQ(m.blob, bytes("state"));
  // Past the library.
  client.send("12345");
  char direct[5];
  ASSERT_EQ(recv(socket->fd(), direct, sizeof direct, MSG_WAITALL), 5);
  ASSERT_EQ(::send(socket->fd(), "wer", 3, 0), 3);
  EXPECT_EQ(*socket->offsets(), (std::pair<uint64_t, uint64_t>(13, 6)));
  EXPECT_FALSE(socket->recovery());
  EXPECT_EQ(socket->checkpoint(std::vector<uint8_t>((1 << 20) + 1)).error().code, Errc::limit);
}

TEST_F(RecoveryOfSockets, ANewGeckodIsToldTheLastCheckpoint) {
  Framework one = group.join("n1");
  ServerSocket server = group.listen(one);
  Client client(server.port());
  auto socket = server.accept();
  ASSERT_TRUE(socket->checkpoint(bytes("first")));
  ASSERT_TRUE(socket->checkpoint(bytes("second")));
  EXPECT_EQ(n1.expect_message<wire::AppCheckpoint>(ApiType::checkpoint).blob, bytes("first"));
  EXPECT_EQ(n1.expect_message<wire::AppCheckpoint>(ApiType::checkpoint).blob, bytes("second"));
  n1.stop();
  n1.start();
  EXPECT_EQ(n1.expect_message<wire::AppCheckpoint>(ApiType::checkpoint).blob, bytes("second"));
}

TEST_F(RecoveryOfSockets, WhereNothingIsRecoveredACheckpointIsNotSent) {
  n1.recovers = false;
  Framework one = group.join("n1");
  ServerSocket server = group.listen(one);
  Client client(server.port());
  auto socket = server.accept();
  ASSERT_TRUE(socket->checkpoint(bytes("state")));
  socket->close();
  (void)n1.expect(ApiType::closed);
  EXPECT_EQ(n1.recorded(ApiType::checkpoint), 0u);
}

TEST_F(RecoveryOfSockets, AnOlderGeckodIsSpokenToAsBefore) {
  n1.version = 2;
  Framework one = group.join("n1");
  ServerSocket server = group.listen(one);
  Client client(server.port());
  auto socket = server.accept();
  EXPECT_EQ(n1.expect_message<wire::OpenedBefore3>(ApiType::opened).id.str(), socket->id());
  ASSERT_TRUE(socket->checkpoint(bytes("state")));
  EXPECT_EQ(*socket->offsets(), (std::pair<uint64_t, uint64_t>(0, 0)));
}

TEST_F(RecoveryOfSockets, ARecoveredConnectionComesOutOfAcceptWithItsOffsets) {
  Framework one = group.join("n1");
  ServerSocket server = group.listen(one);
  Client client(server.port());
  auto socket = server.accept();
  const auto opened = n1.expect_message<wire::Opened>(ApiType::opened);
  const Fd theirs(fcntl(socket->fd(), F_DUPFD_CLOEXEC, 0));
  socket->close();
  (void)n1.expect(ApiType::closed);
  client.send("xy");   // after the death
  const uint64_t far = uint64_t{1} << 33;
  n1.tell(ApiType::arrive, wire::Arrive{opened.id, 7, opened.flow, "n2", bytes("saved"), {far, 100, true}, true, true, 90, far - 500}, theirs.get());
  auto again = server.accept();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->from(), "n2");
  EXPECT_TRUE(again->state().empty());
  const auto recovery = again->recovery();
  ASSERT_TRUE(recovery);
  EXPECT_EQ(recovery->sent, far);
  EXPECT_EQ(recovery->received, 100u);
  ASSERT_TRUE(recovery->checkpoint);
  EXPECT_EQ(recovery->checkpoint->state, bytes("saved"));
  EXPECT_EQ(recovery->checkpoint->input, 90u);
  EXPECT_EQ(recovery->checkpoint->output, far - 500);
  EXPECT_EQ(read_some(*again), "xy");
  ASSERT_TRUE(again->write("abc"));
  EXPECT_EQ(*again->offsets(), (std::pair<uint64_t, uint64_t>(102, far + 3)));
}

// What the dead node's program had saved would not go along.
TEST_F(RecoveryOfSockets, OneStaysUntilItsProgramHasTakenItUp) {
  Framework one = group.join("n1");
  ServerSocket server = group.listen(one);
  Client client(server.port());
  auto socket = server.accept();
  const auto opened = n1.expect_message<wire::Opened>(ApiType::opened);
  const Fd theirs(fcntl(socket->fd(), F_DUPFD_CLOEXEC, 0));
  socket->close();
  (void)n1.expect(ApiType::closed);
  n1.tell(ApiType::arrive, wire::Arrive{opened.id, 7, opened.flow, "n2", bytes("saved"), {5, 6, true}, true, true, 6, 5}, theirs.get());
  const auto is_kept = [&] {
    n1.tell(ApiType::yield, wire::Yield{opened.id});
    const auto no = n1.expect_message<wire::NotYielded>(ApiType::not_yielded);
    return no.id == opened.id && static_cast<Errc>(no.code) == Errc::busy && no.reason.find("not yet taken up") != std::string::npos;
  };
  EXPECT_TRUE(is_kept()) << "nobody has accepted it";
  auto again = server.accept();
  ASSERT_TRUE(again);
  EXPECT_TRUE(is_kept()) << "it does not know yet what its program makes of the checkpoint";
  ASSERT_TRUE(again->set_state(again->recovery()->checkpoint->state));
  n1.tell(ApiType::yield, wire::Yield{opened.id});
  EXPECT_EQ(n1.expect_message<wire::Yielded>(ApiType::yielded).blob, bytes("saved"));
}

// Its node's life was over, and then another one gave it back, all before the application has looked at its socket.
TEST_F(RecoveryOfSockets, OneComesAgainBeforeItsApplicationHasNoticedThatItEnded) {
  Framework one = group.join("n1");
  ServerSocket server = group.listen(one);
  Client client(server.port());
  auto before = server.accept();
  const auto opened = n1.expect_message<wire::Opened>(ApiType::opened);
  const Fd theirs(fcntl(before->fd(), F_DUPFD_CLOEXEC, 0));
  wire::Arrive arrive{opened.id, 7, opened.flow, "n2"};
  arrive.base = {0, 0, true};
  arrive.again = true;
  n1.tell(ApiType::arrive, arrive, theirs.get());
  auto again = server.accept();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->id(), before->id());
  EXPECT_EQ(n1.expect_message<wire::AppHere>(ApiType::here).id, opened.id);
  // Nothing is said any more of the one before,
  ASSERT_TRUE(before->checkpoint(bytes("of before")));
  before->set_movable(false);
  before->close();
  // ... and all of the other.
  ASSERT_TRUE(again->checkpoint(bytes("of now")));
  EXPECT_EQ(n1.expect_message<wire::AppCheckpoint>(ApiType::checkpoint).blob, bytes("of now"));
  client.send("x");
  EXPECT_EQ(read_some(*again), "x");
  again->close();
  EXPECT_EQ(n1.expect_message<wire::AppClosed>(ApiType::closed).id, opened.id);
  EXPECT_EQ(n1.recorded(ApiType::closed), 0u) << "said twice";
  EXPECT_EQ(n1.recorded(ApiType::stays), 0u);
}

// A geckod that was started anew does not know that the application had it before.
TEST_F(RecoveryOfSockets, OneThatHasEndedGivesWayToOneThatArrives) {
  Framework one = group.join("n1");
  ServerSocket server = group.listen(one);
  Client client(server.port());
  auto before = server.accept();
  const auto opened = n1.expect_message<wire::Opened>(ApiType::opened);
  const Fd theirs(fcntl(before->fd(), F_DUPFD_CLOEXEC, 0));
  n1.tell(ApiType::arrive, wire::Arrive{opened.id, 7, opened.flow, "n2"}, theirs.get());
  client.send("x");
  EXPECT_EQ(read_some(*before), "x") << "it lives: it is ours already";
  Client other(server.port());
  auto living = server.accept();
  const auto lives = n1.expect_message<wire::Opened>(ApiType::opened);
  const Fd its(fcntl(living->fd(), F_DUPFD_CLOEXEC, 0));
  sockaddr nobody{.sa_family = AF_UNSPEC, .sa_data = {}};
  ASSERT_EQ(::connect(theirs.get(), &nobody, sizeof nobody), 0);   // it ends, as by the kernel
  wire::Arrive arrive{opened.id, 8, lives.flow, "n2"};
  n1.tell(ApiType::arrive, arrive, its.get());
  auto again = server.accept();
  ASSERT_TRUE(again);
  other.send("y");
  EXPECT_EQ(read_some(*again), "y");
}

TEST_F(RecoveryOfSockets, OneWithoutACheckpointSaysSo) {
  Framework one = group.join("n1");
  ServerSocket server = group.listen(one);
  Client client(server.port());
  auto socket = server.accept();
  const auto opened = n1.expect_message<wire::Opened>(ApiType::opened);
  const Fd theirs(fcntl(socket->fd(), F_DUPFD_CLOEXEC, 0));
  socket->close();
  n1.tell(ApiType::arrive, wire::Arrive{opened.id, 7, opened.flow, "n2", {}, {5, 6, true}, true}, theirs.get());
  auto again = server.accept();
  ASSERT_TRUE(again);
  ASSERT_TRUE(again->recovery());
  EXPECT_FALSE(again->recovery()->checkpoint);
}

TEST_F(RecoveryOfSockets, WhichConnectionsComeIsSaidBeforeListeningAndToEveryGeckod) {
  Framework one = group.join("n1");
  EXPECT_TRUE(one.recovers());
  ASSERT_TRUE(one.set_recovery(80, true));
  const auto all = n1.expect_message<wire::AppRecovery>(ApiType::recovery);
  EXPECT_EQ(all.port, 80);
  EXPECT_TRUE(all.wanted);
  ServerSocket server = group.listen(one);
  (void)n1.expect(ApiType::listen);
  n1.stop();
  n1.start();
  (void)n1.expect(ApiType::listens);
  EXPECT_EQ(n1.recorded(ApiType::recovery), 1u) << "a port that is served before is protected as if nothing had been said";
  EXPECT_TRUE(n1.expect_message<wire::AppRecovery>(ApiType::recovery).wanted);
  ASSERT_TRUE(one.set_recovery(80, false));
  EXPECT_FALSE(n1.expect_message<wire::AppRecovery>(ApiType::recovery).wanted);
}

TEST_F(RecoveryOfSockets, SaidBeforeJoiningItIsToldWithTheJoin) {
  Framework one = group.open("n1");
  EXPECT_FALSE(one.recovers());
  ASSERT_TRUE(one.set_recovery(80, false));
  EXPECT_EQ(n1.recorded(ApiType::recovery), 0u);
  ASSERT_TRUE(one.join());
  EXPECT_FALSE(n1.expect_message<wire::AppRecovery>(ApiType::recovery).wanted);
}

TEST_F(RecoveryOfSockets, AnOlderGeckodIsNotToldWhichComeBack) {
  n1.version = 2;
  Framework one = group.join("n1");
  ASSERT_TRUE(one.set_recovery(80, true));
  ServerSocket server = group.listen(one);
  (void)n1.expect(ApiType::listen);
  EXPECT_EQ(n1.recorded(ApiType::recovery), 0u);
}

TEST_F(RecoveryOfSockets, AConnectionThatPassedAnOlderNodeHasNoOffsets) {
  Framework one = group.join("n1");
  ServerSocket server = group.listen(one);
  Client client(server.port());
  auto socket = server.accept();
  const auto opened = n1.expect_message<wire::Opened>(ApiType::opened);
  const Fd theirs(fcntl(socket->fd(), F_DUPFD_CLOEXEC, 0));
  socket->close();
  n1.arrive(opened.id, 2, opened.flow, "n2", {}, theirs.get());
  auto again = server.accept();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->offsets().error().code, Errc::unsupported);
  EXPECT_EQ(again->checkpoint(bytes("state")).error().code, Errc::unsupported);
}

}  // namespace
}  // namespace gecko::test
