// What befalls a node as a whole, its cable or its contact, while it owns protected connections: its clients go on, or are told; nobody hangs, and
// never do two nodes speak for one connection. One fault a test; mixtures are chaos_short's (docs/chaos.md).
#include <signal.h>

#include <algorithm>
#include <thread>

#include "protected_scene.hh"

namespace gecko::system_test {
namespace {

// ---------------------------------------------------------------- one-way loss

class OneWayLoss : public ProtectedScene, public ::testing::WithParamInterface<bool> {};
std::string way(const ::testing::TestParamInfo<bool>& outward) { return outward.param ? "FromTheOwner" : "ToTheOwner"; }
INSTANTIATE_TEST_SUITE_P(, OneWayLoss, ::testing::Bool(), way);

// Whoever is not heard, or does not hear, gets no answers to its heartbeats: no lease.
TEST_P(OneWayLoss, ItsConnectionsGoOnElsewhere) {
  begin();
  ASSERT_NO_FATAL_FAILURE(serve("n2"));
  for (const char* other : {"client", "n1", "n3"}) ASSERT_TRUE(GetParam() ? faults().link("n2", other, {.loss_ppm = 1'000'000}, true)
                                                                          : faults().link(other, "n2", {.loss_ppm = 1'000'000}, true));
  const BootTime out = BootClock::now();
  ASSERT_NO_FATAL_FAILURE(expelled());
  EXPECT_TRUE(eventually([&] { return !leases("n2"); })) << membership("n2");
  recovered_elsewhere();
  std::this_thread::sleep_for(1s);   // what its programs and its kernel repeat meanwhile
  ASSERT_TRUE(faults().unlink_all());
  const BootTime healed = BootClock::now();
  whole();
  std::this_thread::sleep_for(healed + 1s - BootClock::now());
  must_be_silent("n2", out, healed + 1s);
  say(GetParam() ? "nothing that the owner says arrives" : "nothing arrives at the owner");
}

// ---------------------------------------------------------------- cut and healed

class CutAndHealed : public ProtectedScene, public ::testing::WithParamInterface<bool> {};
std::string programs(const ::testing::TestParamInfo<bool>& die) { return die.param ? "AndItsProgramsDie" : "AndItsProgramsGoOn"; }
INSTANTIATE_TEST_SUITE_P(, CutAndHealed, ::testing::Bool(), programs);

// Its programs still have the connections, its kernel repeats what was never acknowledged, and ends what its programs leave.
TEST_P(CutAndHealed, WhatTheOwnerSaysAfterwardsHarmsNobody) {
  begin();
  ASSERT_NO_FATAL_FAILURE(serve("n2"));
  const pid_t program = process_named(lab(), "n2", "gecko-echo");
  ASSERT_TRUE(faults().cut("n2"));
  const BootTime out = BootClock::now();
  ASSERT_NO_FATAL_FAILURE(expelled());
  recovered_elsewhere();
  std::this_thread::sleep_for(1s);   // its kernel's next repetition comes soon after it is healed
  ASSERT_TRUE(faults().heal("n2"));
  const BootTime healed = BootClock::now();
  if (GetParam()) {
    kill_process(program);
    ASSERT_TRUE(scene().start_application("n2", "gecko-echo"));
  }
  whole();
  std::this_thread::sleep_for(healed + 1s - BootClock::now());
  must_be_silent("n2", out, healed + 1s);
  say("the owner's link cut and healed");
}

// ---------------------------------------------------------------- flapping

class Flapping : public ProtectedScene {};

TEST_F(Flapping, ACableThatComesAndGoesLeavesOneOwner) {
  begin();
  ASSERT_NO_FATAL_FAILURE(serve("n2"));
  for (const auto length : {20ms, 40ms, 80ms, 150ms, 40ms, 300ms, 20ms}) {   // less and more than what a lease and a view take
    ASSERT_TRUE(faults().cut("n2"));
    std::this_thread::sleep_for(length);
    ASSERT_TRUE(faults().heal("n2"));
    std::this_thread::sleep_for(length);
  }
  EXPECT_TRUE(suspected()) << "INVALID: nobody has noticed";
  const size_t ended = settle();
  whole();
  EXPECT_LE(ended, life("n2") == life_ ? 0u : talking_.size() / 3);
  say("a flapping cable");
}

// ---------------------------------------------------------------- false suspicion

struct Pause {
  const char* of;
  std::chrono::milliseconds length;
};
void PrintTo(const Pause& pause, std::ostream* out) { *out << pause.of << " for " << pause.length.count() << " ms"; }

class FalseSuspicion : public ProtectedScene, public ::testing::WithParamInterface<Pause> {};
std::string name_of(const ::testing::TestParamInfo<Pause>& p) { return std::string(p.param.of) + std::to_string(p.param.length.count()) + "ms"; }
// The lease is 40 ms, a suspicion takes 30.
INSTANTIATE_TEST_SUITE_P(, FalseSuspicion,
                         ::testing::Values(Pause{"Halves", 60ms}, Pause{"Halves", 100ms}, Pause{"Keeper", 60ms}, Pause{"Keeper", 100ms},
                                           Pause{"Node", 60ms}, Pause{"Node", 100ms}), name_of);

TEST_P(FalseSuspicion, AStopOfAboutALeaseCostsNobodyItsConnection) {
  const auto [of, length] = GetParam();
  const bool halves = std::string_view(of) == "Halves";
  begin();
  ASSERT_NO_FATAL_FAILURE(serve("n2"));
  const auto pids = halves ? geckods("n2") : std::string_view(of) == "Keeper" ? std::vector{lease_keeper(lab(), "n2")} : scene().processes("n2");
  for (const pid_t pid : pids) ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  std::this_thread::sleep_for(length);
  for (const pid_t pid : pids) ASSERT_EQ(::kill(pid, SIGCONT), 0);
  if (halves) {   // its keeper answers for it
    nothing_has_happened();
    whole();
  } else {
    const size_t ended = settle();
    EXPECT_TRUE(suspected()) << "INVALID: nobody has noticed";
    whole();
    EXPECT_LE(ended, life("n2") == life_ ? 0u : talking_.size() / 3);
  }
  say(std::string(of) + " stopped for " + std::to_string(length.count()) + " ms");
}

// ---------------------------------------------------------------- bad cables

class BadCablesAndADeath : public ProtectedScene, public ::testing::WithParamInterface<const char*> {};
std::string recovery(const ::testing::TestParamInfo<const char*>& p) { return p.param; }
INSTANTIATE_TEST_SUITE_P(, BadCablesAndADeath, ::testing::Values("fast", "replicated"), recovery);

// 3 % of all packets lost and as many overtaken, on every cable: heartbeats, mirrors and clients' packets. Leases hold nevertheless, and so do promises.
TEST_P(BadCablesAndADeath, PromisesHold) {
  begin(GetParam());
  ASSERT_NO_FATAL_FAILURE(serve("n2", 8, 4));
  const lab::LinkFaults bad{.jitter_us = 300, .loss_ppm = 30'000, .reorder_ppm = 30'000, .seed = 5};
  for (const auto& [one, other] : {std::pair("client", "n1"), std::pair("client", "n2"), std::pair("client", "n3"), std::pair("n1", "n2"),
                                   std::pair("n1", "n3"), std::pair("n2", "n3")}) {
    const auto linked = faults().link(one, other, bad);
    ASSERT_TRUE(linked) << linked.error().message;
  }
  const Time until = monotonic_now() + 3s;   // 300 heartbeats each way
  for (auto* client : talking_) EXPECT_TRUE(progresses(*client, 10s)) << local(*client).str();
  std::this_thread::sleep_until(until);
  EXPECT_EQ(life("n2"), life_) << "lost packets are no death";
  const auto links = lab().links();
  ASSERT_TRUE(links) << links.error().message;
  size_t lost = 0, reordered = 0;
  for (const auto& link : *links) lost += link.counters.lost, reordered += link.counters.reordered;
  EXPECT_GT(lost, 100u) << "INVALID: the cables are good";
  EXPECT_GT(reordered, 100u) << "INVALID: the cables are good";
  ASSERT_TRUE(faults().kill("n2"));
  EXPECT_TRUE(eventually([&] { return recovered({"n1", "n3"}) >= clients(); }, 20s)) << recoveries("n3");
  const size_t ended = settle(20s);
  if (std::string_view(GetParam()) == "replicated") {
    EXPECT_EQ(ended, 0u) << "nothing that it was told is lost";
  }
  // Who waits for a lost packet to come again is in the midst of an exchange, and here most do: they may be told that it is over.
  for (auto* client : resting_) EXPECT_FALSE(done(*client)) << "it was at rest, its mirror complete";
  ASSERT_TRUE(faults().unlink_all());   // what is under way ends in time
  say(std::string("a death on bad cables, ") + GetParam());
}

// ---------------------------------------------------------------- what was only just given to it

class AcceptorDies : public ProtectedScene, public ::testing::WithParamInterface<std::chrono::milliseconds> {};
std::string after(const ::testing::TestParamInfo<std::chrono::milliseconds>& p) { return std::to_string(p.param.count()) + "msAfter"; }
INSTANTIATE_TEST_SUITE_P(, AcceptorDies, ::testing::Values(0ms, 5ms, 15ms, 30ms, 60ms), after);

// The contact has been told that they are the acceptor's; its backup may have heard of none of them, and the acceptor itself comes back, in a new life.
TEST_P(AcceptorDies, WhoeverIsLostIsTold) {
  begin();
  ASSERT_NO_FATAL_FAILURE(serve("n2", 9, 9));
  judge_speakers();   // what comes now is moved back
  std::vector<Endpoint> given;   // a third stays, a third was the contact's, a third the other's
  for (const auto& client : {local(*talking_[0]), local(*talking_[1]), local(*talking_[2]), local(*resting_[0]), local(*resting_[1]), local(*resting_[2])})
    move(client, "n1"), given.push_back(client);
  for (const auto& client : {local(*talking_[3]), local(*talking_[4]), local(*talking_[5]), local(*resting_[3]), local(*resting_[4]), local(*resting_[5])})
    move(client, "n3"), given.push_back(client);
  for (const char* node : {"n1", "n2", "n3"}) ASSERT_NO_FATAL_FAILURE(all_protected(node));
  const auto moved = ask().handoff("n3", client_address(), "n2");
  std::this_thread::sleep_for(GetParam());
  ASSERT_TRUE(faults().kill("n2"));
  ASSERT_NO_FATAL_FAILURE(listen());
  ASSERT_TRUE(moved) << moved.error().message;
  EXPECT_EQ(moved->moved, given.size()) << moved->first_refusal;
  std::this_thread::sleep_for(1700ms);
  ASSERT_TRUE(faults().start("n2"));
  const size_t ended = settle(20s);
  std::printf("the acceptor killed %lld ms after the move: %zu of %zu connections ended\n", static_cast<long long>(GetParam().count()), ended, clients());
}

// ---------------------------------------------------------------- the contact

class ContactDies : public ProtectedScene {};

// As events say it.
std::string utc_now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  char text[64];
  const size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + n, sizeof text - n, ".%06ldZ", now.tv_nsec / 1000);
  return text;
}

// Neither its donor nor its acceptor: it only knew where their packets go.
TEST_F(ContactDies, InMidHandoffNobodyElseNotices) {
  begin("fast", 4);
  ASSERT_NO_FATAL_FAILURE(serve("n2", 200, 0));
  ASSERT_EQ(contact("n2"), "n1");
  const auto pids = scene().processes("n1");
  judge_speakers();   // what comes now is moved back
  // How long all of them take.
  const auto there = ask().handoff("n2", client_address(), "n3");
  ASSERT_TRUE(there) << there.error().message;
  ASSERT_EQ(there->moved, clients()) << there->first_refusal;
  const auto back = ask().handoff("n3", client_address(), "n2");
  ASSERT_TRUE(back) << back.error().message;
  ASSERT_EQ(back->moved, clients()) << back->first_refusal;
  ASSERT_NO_FATAL_FAILURE(all_protected("n2"));
  ASSERT_NO_FATAL_FAILURE(listen());
  kit::Operator other(lab());
  ASSERT_TRUE(other.ask("n2", {{"op", "status"}}));   // connected
  const uint64_t seq = last_event("n2");
  size_t moved = 0;
  std::thread operating([&] {
    if (const auto answer = other.handoff("n2", client_address(), "n3", 20s)) moved = answer->moved;
  });
  std::this_thread::sleep_for(there->took() / 3);
  const std::string killed = utc_now();
  kill_at_once(pids);
  operating.join();
  EXPECT_TRUE(eventually([&] { return contact("n2") != "n1" && contact("n2") == contact("n3"); }));
  EXPECT_EQ(settle(), 0u) << "neither its donor nor its acceptor has died";
  size_t before = 0, after = 0;
  for (const auto& handoff : events("n2", "handoff", seq)) ++(handoff.value("time", "") < killed ? before : after);
  EXPECT_GT(after, 0u) << "INVALID: they were over by then";
  std::printf("the contact killed in the middle of %zu handoffs (of %.0f ms): %zu moved; %zu before, %zu after\n", clients(),
              std::chrono::duration<double, std::milli>(there->took()).count(), moved, before, after);
  ASSERT_NO_FATAL_FAILURE(start_geckod("n1"));
  whole();
  say("the contact killed in the middle of handoffs");
}

}  // namespace
}  // namespace gecko::system_test
