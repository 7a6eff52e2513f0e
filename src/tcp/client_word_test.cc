// Which of a client's segments is enough to go on from. With real clients: recover_test.cc.
#include "tcp/client_word.hh"

#include <gtest/gtest.h>

namespace gecko::tcp {
namespace {

using namespace std::chrono_literals;
using Verdict = ClientWord::Verdict;

constexpr uint32_t kSent = 1000, kReceived = 0xffffff00;   // the second comes round soon

struct ClientWordTest : testing::Test {
  ClientWordTest() {
    mirror.flow = {Endpoint::parse("[2001:db8:f::80]:80").value(), Endpoint::parse("[2001:db8:c::1]:40000").value()};
    mirror.mss = 1440;
    mirror.sack = true;
    mirror.snd_una = kSent;
    mirror.snd_edge = kSent + 60'000;
    mirror.rcv_nxt = kReceived;
    mirror.rcv_edge = kReceived + 60'000;
  }
  Segment says(uint32_t ahead, uint32_t acked, size_t payload = 0) {
    Segment s;
    s.from = mirror.flow.peer;
    s.to = mirror.flow.local;
    s.seq = kReceived + ahead;
    s.ack = kSent + acked;
    s.window = 500;
    static const wire::Bytes bytes(5000);
    s.payload = wire::ByteView(bytes).first(payload);
    return s;
  }
  Segment answer(uint32_t ahead, uint32_t acked) {
    Segment s = says(ahead, acked);
    s.sack = true;
    s.sack_left = kSent - 1;
    s.sack_right = kSent;
    return s;
  }
  wire::TcpMirror mirror;
};

TEST_F(ClientWordTest, TheAnswerToTheProbeIsEnoughAtOnce) {
  ClientWord word(mirror);
  EXPECT_EQ(word.judge(1s), Verdict::silent);
  word.heard(answer(0, 500));
  EXPECT_EQ(word.judge(0ms), Verdict::enough);
  EXPECT_EQ(word.recovered().state.send_seq, kSent + 500);
}

TEST_F(ClientWordTest, SaysWhatItWaitsFor) {
  ClientWord word(mirror);
  EXPECT_EQ(word.what_is_missing(), "has said nothing");
  word.heard(says(200'000'000, 0));
  EXPECT_EQ(word.what_is_missing().find("has said nothing that fits its mirror: "), 0u) << word.what_is_missing();
  word.heard(answer(64, 500));
  EXPECT_EQ(word.judge(1s), Verdict::silent);
  EXPECT_EQ(word.what_is_missing().find("does not send again 64 bytes"), 0u) << word.what_is_missing();
}

TEST_F(ClientWordTest, AMirrorThatIsTooOldIsKnownByTheAnswerAlone) {
  ClientWord word(mirror);
  word.heard(says(200'000'000, 0));   // anybody can say that
  EXPECT_EQ(word.judge(1s), Verdict::silent);
  word.heard(answer(200'000'000, 0));
  EXPECT_EQ(word.judge(0ms), Verdict::beyond);
}

TEST_F(ClientWordTest, AWindowThatWasOpenedAfterTheMirrorIsLearntFromTheAnswer) {
  ClientWord word(mirror);
  word.heard(says(61'000, 0, 1000));
  word.heard(answer(62'000, 0));   // the mirror's window: 60,000
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(word.judge(1s), Verdict::silent) << i;
    word.heard(says(61'000, 0, 1000));   // its first one without an acknowledgement
  }
  EXPECT_EQ(word.judge(1s), Verdict::enough);
  EXPECT_EQ(word.recovered().received, 61'000u);
  EXPECT_EQ(word.recovered().state.recv_seq, kReceived + 61'000);
  EXPECT_EQ(word.recovered().state.rcv_wnd, 1000u);
  EXPECT_TRUE(wire::validate(word.recovered().state));
}

TEST_F(ClientWordTest, MoreThanAWindowBeforeTheClientsPlaceAllWasReceived) {
  ClientWord word(mirror);
  word.heard(answer(1'000'000, 0));   // without window scaling
  EXPECT_EQ(word.judge(1s), Verdict::silent);
  for (int i = 0; i < 3; ++i) word.heard(says(999'000, 0, 1000));
  EXPECT_EQ(word.judge(1s), Verdict::enough);
  EXPECT_EQ(word.recovered().received, 999'000u);
  EXPECT_EQ(word.recovered().sent, 0u);
  EXPECT_TRUE(wire::validate(word.recovered().state));
}

TEST_F(ClientWordTest, AnythingElseMayBeOlderThanTheDeadNodesLastWord) {
  ClientWord word(mirror);
  word.heard(says(0, 100));
  EXPECT_EQ(word.judge(5ms), Verdict::silent);
  word.heard(answer(0, 500));
  word.heard(says(0, 300));   // overtaken
  EXPECT_EQ(word.judge(6ms), Verdict::enough);
  EXPECT_EQ(word.recovered().state.send_seq, kSent + 500);
}

TEST_F(ClientWordTest, AClientWithoutDuplicateReportsIsBelievedABitLater) {
  ClientWord word(mirror);
  word.heard(says(0, 100));
  EXPECT_EQ(word.judge(299ms), Verdict::silent) << "what it said may be a long way old";
  EXPECT_EQ(word.judge(300ms), Verdict::enough);
}

TEST_F(ClientWordTest, OutstandingBytesAreWaitedForUntilTheyComeAgain) {
  ClientWord word(mirror);
  word.heard(answer(2000, 0));
  EXPECT_EQ(word.judge(1s), Verdict::silent);
  word.heard(says(1000, 0, 1000));   // its last segment: a tail loss probe
  EXPECT_EQ(word.judge(1s), Verdict::silent);
  word.heard(says(2000, 0, 1000));   // and new ones
  word.heard(says(3000, 0, 1000));
  EXPECT_EQ(word.judge(1s), Verdict::silent);
  word.heard(says(0, 0, 1000));
  EXPECT_EQ(word.judge(1s), Verdict::enough);
}

TEST_F(ClientWordTest, WhatDoesNotComeAgainHasBeenReceived) {
  ClientWord word(mirror);
  word.heard(answer(2000, 0));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(word.judge(1s), Verdict::silent) << i;
    word.heard(says(1500, 0, 500));
  }
  EXPECT_EQ(word.judge(1s), Verdict::enough);
  EXPECT_EQ(word.recovered().received, 1500u);
  EXPECT_EQ(word.recovered().state.recv_seq, kReceived + 1500);
  EXPECT_EQ(word.recovered().state.rcv_wnd, 60'000u - 1500);
  EXPECT_EQ(word.recovered().outstanding, 500u);
  EXPECT_TRUE(wire::validate(word.recovered().state));
}

TEST_F(ClientWordTest, AnEndThatIsOutstandingComesAgainToo) {
  ClientWord word(mirror);
  word.heard(answer(1, 0));
  EXPECT_EQ(word.judge(1s), Verdict::silent);
  Segment fin = says(0, 0);
  fin.flags |= Segment::kFin;
  word.heard(fin);
  EXPECT_EQ(word.judge(1s), Verdict::enough);
}

TEST_F(ClientWordTest, AResetCountsIfItIsTheClients) {
  ClientWord word(mirror);
  Segment reset = says(1'000'000, 0);
  reset.flags = Segment::kRst;
  word.heard(reset);
  EXPECT_EQ(word.judge(1s), Verdict::silent);
  reset.seq = kReceived;
  word.heard(reset);
  EXPECT_EQ(word.judge(0ms), Verdict::reset);
}

TEST_F(ClientWordTest, ASynOfAnybodyEndsNothing) {
  ClientWord word(mirror);
  Segment syn = says(77, 0);
  syn.flags = Segment::kSyn;
  word.heard(syn);
  EXPECT_EQ(word.judge(0ms), Verdict::silent);
}

TEST_F(ClientWordTest, NonsenseIsNotHeard) {
  ClientWord word(mirror);
  word.heard(says(0, 200'000'000));
  word.heard(says(90'000, 0));
  EXPECT_EQ(word.judge(9s), Verdict::silent);
}

}  // namespace
}  // namespace gecko::tcp
