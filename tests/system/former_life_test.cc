// A node comes back and its former life is still about: what its programs say of connections that ended with it, what its steering table says of them.
#include <signal.h>

#include <algorithm>
#include <thread>

#include "protected_scene.hh"

namespace gecko::system_test {
namespace {

class FormerLife : public ProtectedScene {};

// Its sockets have ended, the program has not looked yet. The same connections come to it once more: they are new to it, and what it says of the old ones
// is not said of them.
TEST_F(FormerLife, ConnectionsComeBackToAProgramThatHasNotNoticedThatTheyEnded) {
  begin("replicated");
  ASSERT_NO_FATAL_FAILURE(serve("n2", 0, 12));
  ASSERT_TRUE(faults().pause("n2"));
  ASSERT_NO_FATAL_FAILURE(expelled());
  ASSERT_TRUE(eventually([&] { return recovered(others("n2")) >= clients(); })) << recoveries("n3");
  const pid_t program = process_named(lab(), "n2", "gecko-echo");
  ASSERT_GT(program, 0);
  for (const pid_t pid : scene().processes("n2")) ASSERT_EQ(::kill(pid, pid == program ? SIGSTOP : SIGCONT), 0);
  ASSERT_TRUE(eventually([&] { return is_member("n2") && leases("n2"); }, 20s)) << membership("n2");
  ASSERT_NO_FATAL_FAILURE(give_all_to("n2"));
  ASSERT_EQ(::kill(program, SIGCONT), 0);
  EXPECT_EQ(settle(), 0u) << "their owner lives";
  may_be_lost = 0;
  whole();
  const auto rows = ask().ask("n2", {{"op", "connections"}});
  ASSERT_TRUE(rows);
  EXPECT_EQ((*rows)["connections"].size(), clients());
}

// Killed while connections were frozen on their way from it: its table holds their packets, and its journal says that their program may offer them. It is
// in a life of its own when it comes back, and becomes contact: packets of those that others have recovered go there.
TEST_F(FormerLife, WhatItHeldWhenItWasKilledIsNotHeldWhenItIsContact) {
  begin("replicated");
  ASSERT_TRUE(begins_with_contact("n2"));
  ASSERT_NO_FATAL_FAILURE(serve("n2", 4, 4));   // born there: of one that has come to it, its journal says that too
  ASSERT_TRUE(begins_with_contact("n1"));
  ASSERT_EQ(::kill(geckod(lab(), "n2", Half::privileged), SIGSTOP), 0);   // it answers no freeze
  kit::Operator other(lab());
  ASSERT_TRUE(other.ask("n1", {{"op", "status"}}));
  std::thread operating([&] { (void)other.handoff("n1", client_address(), "n3", 10s); });
  const bool held = eventually([&] { return counter("n2", "held_packets") > 0; });
  ASSERT_TRUE(faults().kill("n2"));
  operating.join();
  ASSERT_TRUE(held) << "INVALID: nothing was held";
  ASSERT_TRUE(eventually([&] { return recovered(others("n2")) >= clients(); })) << recoveries("n3");
  ASSERT_NO_FATAL_FAILURE(start_geckod("n2"));
  for (const char* program : {"gecko-echo", "gecko-stream"}) ASSERT_TRUE(scene().start_application("n2", program));
  ASSERT_TRUE(everybody_is_member()) << membership("n2");
  ASSERT_TRUE(begins_with_contact("n2"));
  EXPECT_EQ(settle(), 0u) << "they were recovered";
  may_be_lost = 0;
  whole();
}

}  // namespace
}  // namespace gecko::system_test
