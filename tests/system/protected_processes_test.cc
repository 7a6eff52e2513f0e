// One process of a node that owns protected connections is killed or stopped, or the disk under it is full: who goes on, who notices, who is silent.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <thread>

#include "protected_scene.hh"

namespace gecko::system_test {
namespace {

// ---------------------------------------------------------------- a half of geckod

class OneHalf : public ProtectedScene, public ::testing::WithParamInterface<Half> {};
std::string half(const ::testing::TestParamInfo<Half>& h) { return h.param == Half::privileged ? "Privileged" : "Unprivileged"; }
INSTANTIATE_TEST_SUITE_P(, OneHalf, ::testing::Values(Half::privileged, Half::unprivileged), half);

// The other half ends with it, the lease keeper goes on, and so do they.
TEST_P(OneHalf, KilledAndStartedAgainCostsNothing) {
  begin();
  ASSERT_NO_FATAL_FAILURE(serve("n2"));
  if (!restarts_in_time("n2", {geckod(lab(), "n2", GetParam())})) {
    may_be_lost = clients();
    GTEST_SKIP() << "no processor for geckod: its connections are the others' by now";
  }
  nothing_has_happened();
  whole();
  say("one half of the owner's geckod killed");
}

TEST_P(OneHalf, StoppedForTwoSecondsCostsNothing) {
  begin();
  ASSERT_NO_FATAL_FAILURE(serve("n2"));
  const pid_t pid = geckod(lab(), "n2", GetParam());
  ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  const Time until = monotonic_now() + 2s;   // the fault's length
  for (auto* client : talking_) EXPECT_TRUE(progresses(*client)) << "it waits for a stopped geckod: " << local(*client).str();
  std::this_thread::sleep_until(until);
  ASSERT_EQ(::kill(pid, SIGCONT), 0);
  nothing_has_happened();
  whole();
  say("one half of the owner's geckod stopped for 2 s");
}

class StoppedForTooLong : public ProtectedScene {};

// Its keeper has heard nothing of geckod for restart_grace and has ended. Who wakes finds that others have its connections, of which no mirror was written
// meanwhile: they go on where their clients say, or are closed.
TEST_F(StoppedForTooLong, AGeckodFindsItsConnectionsElsewhere) {
  begin();
  ASSERT_NO_FATAL_FAILURE(serve("n2"));
  const pid_t pid = geckod(lab(), "n2", Half::unprivileged), keeper = lease_keeper(lab(), "n2");
  ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  ASSERT_TRUE(eventually([&] { return kit::is_gone(keeper); }, 8s)) << "the lease keeper goes on without geckod";
  const BootTime out = BootClock::now();
  ASSERT_NO_FATAL_FAILURE(expelled());
  EXPECT_TRUE(eventually([&] { return recovered({"n1", "n3"}) >= resting_.size(); })) << recoveries("n3");
  const BootTime woken = BootClock::now();
  ASSERT_EQ(::kill(pid, SIGCONT), 0);
  const size_t ended = settle(20s);
  for (auto* client : resting_) EXPECT_FALSE(done(*client)) << "it was at rest, its mirror complete";
  EXPECT_LT(ended, talking_.size()) << "none of those that talked goes on";
  whole();
  EXPECT_NE(life("n2"), life_);
  std::this_thread::sleep_for(woken + 1s - BootClock::now());
  must_be_silent("n2", out, woken + 1s);
  say("the owner's geckod stopped for longer than restart_grace");
}

// ---------------------------------------------------------------- the application alone

class StoppedProgram : public ProtectedScene, public ::testing::WithParamInterface<const char*> {
 protected:
  // In the midst of talking; those that rested have asked something, too.
  void stop_the_owners() {
    program_ = process_named(lab(), "n2", "gecko-echo");
    ASSERT_GT(program_, 0);
    ASSERT_EQ(::kill(program_, SIGSTOP), 0);
    swarm_->call([&] {
      for (auto* client : resting_) client->speak();
    });
    for (auto* client : talking_) ASSERT_FALSE(progresses(*client, 100ms)) << "INVALID: somebody answers";
  }
  pid_t program_ = -1;
};
INSTANTIATE_TEST_SUITE_P(, StoppedProgram, ::testing::Values("fast", "replicated"), [](const auto& p) { return std::string(p.param); });

// Its node lives and so does it: they wait for it, as they would anywhere.
TEST_P(StoppedProgram, ItsConnectionsWaitAndLoseNothing) {
  begin(GetParam());
  ASSERT_NO_FATAL_FAILURE(serve("n2"));
  const Time until = monotonic_now() + 3s;   // the fault's length
  ASSERT_NO_FATAL_FAILURE(stop_the_owners());
  std::this_thread::sleep_until(until);
  ASSERT_EQ(::kill(program_, SIGCONT), 0);
  nothing_has_happened();
  whole();
  say("the owner's application stopped for 3 s");
}

// What it was asked and had not read, no other node has in `fast`; in `replicated` it was not acknowledged, so the client still has it.
TEST_P(StoppedProgram, ItsNodeMayDieMeanwhile) {
  const bool replicated = GetParam() == std::string("replicated");
  begin(GetParam());
  ASSERT_NO_FATAL_FAILURE(serve("n2"));
  ASSERT_NO_FATAL_FAILURE(stop_the_owners());
  ASSERT_TRUE(faults().kill("n2"));
  const size_t at_least = replicated ? clients() : 0;
  EXPECT_TRUE(eventually([&] { return recovered(others("n2")) >= at_least; })) << recoveries("n1") << recoveries("n3");
  EXPECT_LE(settle(20s), clients() - at_least) << "and nobody hangs";
  say("the owner's application stopped, then its node killed");
}

// ---------------------------------------------------------------- the lease keeper

class KeeperDies : public ProtectedScene {};

// A node's death, although geckod, its programs and its kernel live.
TEST_F(KeeperDies, ItsConnectionsGoOnElsewhere) {
  begin();
  ASSERT_NO_FATAL_FAILURE(serve("n2"));
  kill_process(lease_keeper(lab(), "n2"));
  const BootTime out = BootClock::now();
  recovered_elsewhere();
  whole();
  EXPECT_NE(life("n2"), life_);
  std::this_thread::sleep_for(out + 1s - BootClock::now());
  must_be_silent("n2", out, out + 1s);
  say("the owner's lease keeper killed");
}

// Its lease lasts for up to 40 ms more, but its geckod begins a new life and then says no more of the old one's connections to their backups: were an
// answer let out without them, the heir could not go on from what the client has.
TEST_F(KeeperDies, WhatIsAskedOfItsNodeInThatMomentIsNotLost) {
  begin();
  ASSERT_NO_FATAL_FAILURE(serve("n2", 1, 20));
  ASSERT_EQ(::kill(lease_keeper(lab(), "n2"), SIGKILL), 0);
  swarm_->call([&] {
    for (auto* client : resting_) client->speak();
  });
  EXPECT_TRUE(eventually([&] { return recovered(others("n2")) >= resting_.size(); }, 10s)) << recoveries("n3");
  (void)settle();
  for (auto* client : resting_) EXPECT_FALSE(done(*client)) << local(*client).str();
  say("the owner's lease keeper killed, then the clients speak");
}

// It is a member again before it has a lease, and knows later than the others that it is one: what it was given then would be of none of its lives, and the
// gate would let nothing of it out.
TEST_F(KeeperDies, ItsNodeIsGivenNothingBeforeItHasALeaseAgain) {
  begin("replicated");
  for (int i = 0; i < 6; ++i) talking_.push_back(&ping(2ms)), resting_.push_back(&ping(1h));
  ASSERT_NO_FATAL_FAILURE(connected());
  ASSERT_NO_FATAL_FAILURE(give_all_to("n2"));
  size_t refused = 0;
  for (int round = 0; round < 3; ++round) {   // who flaps more is trusted later each time
    const std::string before = life("n3");
    ASSERT_EQ(::kill(lease_keeper(lab(), "n3"), SIGKILL), 0);
    size_t moved = 0;
    EXPECT_TRUE(eventually([&] {
      const auto given = ask().handoff("n1", client_address(), "n3");
      if (given) moved += given->moved, refused += given->refused;
      return moved >= clients();
    }, 10s)) << "round " << round << ": " << moved << " moved; " << membership("n3");
    ASSERT_TRUE(everybody_is_member()) << membership("n3");
    ASSERT_NE(life("n3"), before);
    for (auto* client : talking_) ASSERT_TRUE(progresses(*client)) << "round " << round << ": " << local(*client).str() << " hangs";
    ASSERT_NO_FATAL_FAILURE(give_all_to("n2"));
  }
  EXPECT_EQ(settle(), 0u);
  may_be_lost = 0;
  EXPECT_GT(refused, 0u) << "INVALID: it was never without a lease";
  std::printf("handed to a node whose lease keeper had just died: %zu refused before it had its next lease\n", refused);
}

TEST_F(KeeperDies, StoppedForTwoSecondsItIsDeadAndSilent) {
  begin();
  ASSERT_NO_FATAL_FAILURE(serve("n2"));
  const pid_t keeper = lease_keeper(lab(), "n2");
  ASSERT_EQ(::kill(keeper, SIGSTOP), 0);
  const BootTime out = BootClock::now();
  ASSERT_NO_FATAL_FAILURE(expelled());
  recovered_elsewhere();
  std::this_thread::sleep_for(out + 2s - BootClock::now());   // the fault's length
  const BootTime woken = BootClock::now();
  ASSERT_EQ(::kill(keeper, SIGCONT), 0);
  whole();
  EXPECT_NE(life("n2"), life_);
  std::this_thread::sleep_for(woken + 1s - BootClock::now());
  must_be_silent("n2", out, woken + 1s);
  say("the owner's lease keeper stopped for 2 s");
}

// ---------------------------------------------------------------- a full disk

class FullDisk : public ProtectedScene {
 protected:
  std::string disk() { return lab().directory() + "/n2/state"; }
  // n2 gets a disk of its own, before it serves.
  void small_disk() {
    ASSERT_TRUE(faults().kill("n2"));
    ASSERT_EQ(::mount("gecko-test", disk().c_str(), "tmpfs", 0, "size=64k"), 0) << std::strerror(errno);
    ASSERT_NO_FATAL_FAILURE(start_geckod("n2"));
    for (const char* name : {"gecko-echo", "gecko-stream"}) ASSERT_TRUE(scene().start_application("n2", name));
    ASSERT_TRUE(ask().wait_applications(2, 10s));
    ASSERT_TRUE(everybody_is_member()) << membership("n2");
  }
  void fill() {
    const Fd file(::open((disk() + "/filler").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_TRUE(file);
    const std::string page(1024, 'x');
    while (::write(file.get(), page.data(), page.size()) > 0) {
    }
    ASSERT_EQ(errno, ENOSPC);
  }
};

// What a node must write has its place from the beginning: it votes, a restart finds its life, its connections move and its neighbours' are recovered.
TEST_F(FullDisk, UnderAnOwnerIsNotNoticed) {
  begin();
  ASSERT_NO_FATAL_FAILURE(small_disk());
  ASSERT_NO_FATAL_FAILURE(serve("n2"));
  ASSERT_NO_FATAL_FAILURE(fill());
  if (!restarts_in_time("n2")) {
    may_be_lost = clients();
    GTEST_SKIP() << "no processor for geckod: its connections are the others' by now";
  }
  nothing_has_happened();
  for (auto* client : {talking_[0], talking_[1]}) ASSERT_NO_FATAL_FAILURE(move(local(*client), "n3"));
  EXPECT_EQ(settle(), 0u);
  ASSERT_NO_FATAL_FAILURE(all_protected("n3"));
  // Without its vote nothing of n3 could be recovered; it is the heir of none of it.
  ASSERT_TRUE(faults().kill("n3"));
  EXPECT_TRUE(eventually([&] { return members("n2") == Names{"n1", "n2"} && recovered({"n1"}) >= 2; })) << membership("n2") << recoveries("n1");
  EXPECT_LE(settle(), 1u);
  EXPECT_TRUE(membership("n2").value("voting", false)) << membership("n2");
  EXPECT_EQ(life("n2"), life_);
  say("the owner's disk is full");
}

}  // namespace
}  // namespace gecko::system_test
