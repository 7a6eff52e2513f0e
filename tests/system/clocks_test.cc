// A node's wall clock jumps by a day, forwards and backwards, while it serves. No decision is made by that clock (tests/layers/check_clock.sh), so
// nothing happens.
#include <fcntl.h>
#include <sys/mman.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "recovery_scene.hh"

namespace gecko::system_test {
namespace {

constexpr int64_t kDay_s = 86'400;

class Clocks : public RecoveryTest {
 protected:
  // All programs of the lab have clocks that can be moved (clock_shim.c).
  void SetUp() override {
    char directory[] = "/tmp/gecko-clocks-XXXXXX";
    ASSERT_NE(::mkdtemp(directory), nullptr);
    directory_ = directory;
    for (const char* node : {"n1", "n2", "n3"}) {
      const Fd fd(::open((directory_ + "/" + node).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
      ASSERT_TRUE(fd && ::ftruncate(fd.get(), sizeof(int64_t)) == 0) << std::strerror(errno);
      void* const at = ::mmap(nullptr, sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
      ASSERT_NE(at, MAP_FAILED);
      moved_by_s_[node] = static_cast<volatile int64_t*>(at);
    }
    ::setenv("GECKO_TEST_CLOCKS", directory, 1);
    ::setenv("LD_PRELOAD", GECKO_CLOCK_SHIM, 1);
    RecoveryTest::begin({.name = "clk", .recovery = "replicated"});
    ::unsetenv("LD_PRELOAD");
  }
  void TearDown() override {
    ::unsetenv("LD_PRELOAD");
    RecoveryTest::TearDown();
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  std::string today(const std::string& node) {
    const auto answer = ask().ask(node, {{"op", "events"}, {"snapshot", true}});
    return answer ? answer->value("/snapshot/time"_json_pointer, "").substr(0, 10) : "";
  }
  std::string view(const std::string& node) { return membership(node).value("view", nlohmann::json()).dump(); }

  std::string directory_;
  std::map<std::string, volatile int64_t*> moved_by_s_;
};

TEST_F(Clocks, AWallClockThatJumpsChangesNothing) {
  auto& talking = ping(2ms);
  auto& stream = echo(2ms);
  auto& idle = ping(1h);
  ASSERT_NO_FATAL_FAILURE(connected());
  move(local(talking), "n2");
  move(local(idle), "n2");
  const std::string before = view("n1"), day = today("n2");
  ASSERT_NE(day, "");
  for (const int64_t jump_s : {kDay_s, -kDay_s, int64_t{0}})
    for (const std::string node : {"n2", "n1"}) {   // an owner; the contact
      *moved_by_s_[node] = jump_s;
      EXPECT_EQ(today(node) == day, jump_s == 0) << "INVALID: the clock of " << node << " did not jump";
      for (int i = 0; i < 50; ++i) ASSERT_TRUE(progresses(talking)) << node << " " << jump_s;   // several leases long
      EXPECT_TRUE(progresses(stream));
      move(local(talking), node == "n1" ? "n2" : "n3");
      EXPECT_TRUE(progresses(talking));
      for (const auto& each : scene().nodes()) {
        EXPECT_EQ(view(each), before) << each;
        EXPECT_TRUE(leases(each)) << each;
      }
    }
  EXPECT_EQ(recovered(scene().nodes()), 0u);
  uint64_t said = 0;
  swarm_->call([&] { idle.speak(), said = idle.totals().exchanges; });
  EXPECT_TRUE(eventually([&] {
    uint64_t now = 0;
    swarm_->call([&] { now = idle.totals().exchanges; });
    return now > said;
  }));
  // Whoever dies meanwhile is recovered as ever.
  *moved_by_s_["n3"] = kDay_s;
  move(local(talking), "n2");
  ASSERT_NO_FATAL_FAILURE(all_protected("n2"));
  ASSERT_TRUE(faults().kill("n2"));
  EXPECT_TRUE(progresses(talking, 10s));
}

}  // namespace
}  // namespace gecko::system_test
