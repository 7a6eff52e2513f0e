// The lab on real namespaces, on a machine of its own (own_machine.hh).
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "lab/lab.hh"
#include "lab/net_namespace.hh"
#include "own_machine.hh"

namespace gecko::lab {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

bool pings(const Lab& lab, const std::string& from, const std::string& address) {
  const auto output = lab.output(from, {"ping", "-n", "-c", "1", "-W", "1", address});
  EXPECT_TRUE(output) << output.error().message;
  return output && output->code == 0;
}
// Carrier changes reach the addresses a little later.
bool pings_soon(const Lab& lab, const std::string& from, const std::string& address) {
  for (const Time deadline = monotonic_now() + seconds(10); monotonic_now() < deadline;)
    if (pings(lab, from, address)) return true;
  return false;
}

TEST(Lab, EverybodyReachesEverybodyInBothFamilies) {
  const auto before = machine();
  {
    const auto lab = Lab::up(plain("reach", 3));
    ASSERT_TRUE(lab) << lab.error().message;
    for (const auto& from : (*lab)->hosts())
      for (const auto& to : (*lab)->hosts()) {
        EXPECT_TRUE(pings(**lab, from.name, to.address.str())) << from.name << " to " << to.name;
        EXPECT_TRUE(pings(**lab, from.name, to.address4.str())) << from.name << " to " << to.name;
      }
    EXPECT_EQ((*lab)->state("n1").value_or(NodeState::down), NodeState::up);
  }
  EXPECT_EQ(machine(), before);
}

TEST(Lab, TwoSideBySideDoNotSeeEachOther) {
  const auto before = machine();
  {
    const auto one = Lab::up(plain("one")), two = Lab::up(plain("two"));
    ASSERT_TRUE(one) << one.error().message;
    ASSERT_TRUE(two) << two.error().message;
    EXPECT_EQ(Lab::list(), (std::vector<std::string>{"one", "two"}));
    EXPECT_TRUE((*one)->cut("n1"));
    EXPECT_FALSE(pings(**one, "client", "2001:db8:1::11"));
    EXPECT_TRUE(pings(**two, "client", "2001:db8:1::11"));
    const auto again = Lab::up(plain("one"));
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, Errc::exists);
    EXPECT_TRUE((*one)->down());
    EXPECT_TRUE(pings(**two, "client", "2001:db8:1::11"));
  }
  EXPECT_EQ(machine(), before);
}

TEST(Lab, CutAndHealKeepAddressesAndRoutes) {
  const auto lab = Lab::up(plain("cable"));
  ASSERT_TRUE(lab) << lab.error().message;
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE((*lab)->cut("n1"));
    EXPECT_EQ((*lab)->state("n1").value_or(NodeState::up), NodeState::cut);
    EXPECT_FALSE(pings(**lab, "client", "2001:db8:1::11"));
    EXPECT_FALSE(pings(**lab, "n2", "198.51.100.11"));
    EXPECT_TRUE(pings(**lab, "client", "2001:db8:1::12"));
    ASSERT_TRUE((*lab)->heal("n1"));
    EXPECT_EQ((*lab)->state("n1").value_or(NodeState::cut), NodeState::up);
    EXPECT_TRUE(pings_soon(**lab, "client", "2001:db8:1::11"));
    EXPECT_TRUE(pings_soon(**lab, "client", "198.51.100.11"));
    EXPECT_TRUE(pings_soon(**lab, "n1", "203.0.113.2"));
  }
  EXPECT_FALSE((*lab)->cut("router"));
  EXPECT_FALSE((*lab)->cut("n9"));
}

TEST(Lab, PauseResumeKillReachEveryProcessOfTheNodeOnly) {
  const auto lab = Lab::up(plain("faults"));
  ASSERT_TRUE(lab) << lab.error().message;
  EXPECT_FALSE((*lab)->pause("n1"));  // nothing there yet
  auto mine = (*lab)->run("n1", {"sh", "-c", "sleep 1000 & sleep 1000"});
  auto other = (*lab)->run("n2", {"sleep", "1000"});
  ASSERT_TRUE(mine && other);
  for (const Time deadline = monotonic_now() + seconds(10); processes_in("gecko-faults-n1").size() < 3 && monotonic_now() < deadline;) poll(nullptr, 0, 1);
  ASSERT_EQ(processes_in("gecko-faults-n1").size(), 3u);
  EXPECT_TRUE((*lab)->pause("n1"));
  EXPECT_EQ((*lab)->state("n1").value_or(NodeState::up), NodeState::paused);
  EXPECT_TRUE((*lab)->resume("n1"));
  EXPECT_EQ((*lab)->state("n1").value_or(NodeState::paused), NodeState::up);
  EXPECT_TRUE((*lab)->kill("n1"));
  EXPECT_TRUE(processes_in("gecko-faults-n1").empty());
  EXPECT_EQ(mine->wait(seconds(10)).value_or(0), 128 + SIGKILL);
  EXPECT_EQ(other->wait(milliseconds(0)).error().code, Errc::timeout);
  EXPECT_TRUE((*lab)->down());
  EXPECT_EQ(other->wait(seconds(10)).value_or(0), 128 + SIGKILL);
}

TEST(Lab, ShapingHoldsTheRate) {
  LabOptions options = plain("shaped", 1);
  options.mbit = 50;
  const auto lab = Lab::up(options);
  ASSERT_TRUE(lab) << lab.error().message;
  const auto shape = lab::run({"tc", "-j", "-n", "gecko-shaped-router", "qdisc", "show", "dev", "n1"}, {});
  ASSERT_TRUE(shape);
  EXPECT_NE(shape->out.find("\"tbf\""), std::string::npos) << shape->out;
  EXPECT_TRUE(pings(**lab, "client", "2001:db8:1::11"));
}

// --- through the command

TEST(LabCommand, UpStatusExecDown) {
  const auto before = machine();
  const auto up = gecko({"lab", "up", "--name", "cmd", "--no-daemons", "--nodes", "2", "--ipv4", "--port", "80", "--port", "443"});
  ASSERT_EQ(up.code, 0) << up.err;
  EXPECT_NE(up.out.find("gecko lab down --name cmd"), std::string::npos) << up.out;
  const auto status = gecko({"lab", "--name", "cmd", "status", "--json"});
  EXPECT_EQ(status.code, 0);
  const auto json = nlohmann::json::parse(status.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << status.out;
  EXPECT_EQ(json["schema"], "gecko.lab/1");
  EXPECT_EQ(json["group_address"], "198.51.100.80");
  EXPECT_EQ(json["ports"], nlohmann::json({80, 443}));
  EXPECT_EQ(json["hosts"]["n2"]["state"], "up");
  EXPECT_EQ(json["hosts"]["client"]["address"], "2001:db8:2::2");
  EXPECT_EQ(gecko({"lab", "exec", "--name", "cmd", "n1", "--", "sh", "-c", "exit 41"}).code, 41);
  EXPECT_EQ(gecko({"lab", "exec", "--name", "cmd", "n1", "--", "/nonexistent"}).code, 127);
  EXPECT_EQ(gecko({"lab", "exec", "--name", "cmd", "n2", "--", "printenv", "GECKO_SOCKET"}).out, "/run/gecko/lab/cmd/n2/geckod.sock\n");
  EXPECT_EQ(gecko({"lab", "exec", "--name", "cmd", "client", "--", "printenv", "GECKO_SOCKET"}).code, 1);
  EXPECT_EQ(gecko({"lab", "exec", "--name", "cmd", "mars", "--", "true"}).code, 1);
  EXPECT_EQ(gecko({"lab", "up", "--name", "cmd", "--no-daemons"}).code, 1);
  EXPECT_EQ(gecko({"lab", "down", "--name", "cmd"}).code, 0);
  EXPECT_EQ(gecko({"lab", "down", "--name", "cmd"}).code, 0);
  EXPECT_EQ(gecko({"lab", "status", "--name", "cmd"}).code, 1);
  EXPECT_EQ(machine(), before);
}

TEST(LabCommand, BadOptionsEndWith64) {
  EXPECT_EQ(gecko({"lab", "up", "--nodes", "0"}).code, 64);
  EXPECT_EQ(gecko({"lab", "up", "--name", "../etc"}).code, 64);
  EXPECT_EQ(gecko({"lab", "down", "--name", "../etc"}).code, 64);
  EXPECT_EQ(gecko({"lab", "up", "--nonsense"}).code, 64);
  EXPECT_EQ(gecko({"lab"}).code, 64);
}

TEST(LabCommand, DownAllOfOneOwnerLeavesTheOthers) {
  SpawnOptions owned;
  owned.environment = {"GECKO_LAB_OWNER=me"};
  ASSERT_TRUE(run({gecko_program(), "lab", "up", "--name", "mine", "--no-daemons"}, owned));
  ASSERT_EQ(gecko({"lab", "up", "--name", "yours", "--no-daemons"}).code, 0);
  EXPECT_EQ(gecko({"lab", "down", "--all", "--owner", "me"}).code, 0);
  EXPECT_EQ(Lab::list(), std::vector<std::string>{"yours"});
  EXPECT_EQ(gecko({"lab", "down", "--all"}).code, 0);
  EXPECT_TRUE(Lab::list().empty());
}

// kill -9 at moments spread over the whole of `up`; time is the injected fault here. Whatever stands then, one `down` removes it.
TEST(LabCommand, KilledAnywhereInUpOneDownCleansAll) {
  const auto before = machine();
  int killed_midway = 0, finished = 0;
  for (int moment = 0; finished < 3 && moment < 2000; ++moment) {
    SpawnOptions options;
    options.pipe_out = true;
    auto up = spawn({gecko_program(), "lab", "up", "--name", "crash", "--no-daemons", "--nodes", "3"}, options);
    ASSERT_TRUE(up) << up.error().message;
    const auto ended = up->wait(std::chrono::microseconds(500) * moment);
    if (ended) ++finished;
    up->kill_and_reap();
    const auto half = Lab::open("crash");
    if (half && !(*half)->complete()) {
      ++killed_midway;
      EXPECT_EQ(gecko({"lab", "status", "--name", "crash"}).code, 2);
    }
    EXPECT_EQ(gecko({"lab", "down", "--name", "crash"}).code, 0);
    ASSERT_EQ(machine(), before) << "killed after " << moment << " half milliseconds";
  }
  EXPECT_GE(killed_midway, 5) << "INVALID: too few kills fell into the middle to prove anything";
}

// ^C while a lab is made: either nothing is left, or it was too late and the lab stands.
TEST(LabCommand, InterruptedUpRemovesWhatItMade) {
  const auto before = machine();
  int interrupted = 0;
  bool finished = false;
  for (int moment = 0; !finished && moment < 2000; ++moment) {
    auto up = spawn({gecko_program(), "lab", "up", "--name", "stop", "--no-daemons", "--nodes", "3"}, {.pipe_out = true, .pipe_err = true});
    ASSERT_TRUE(up) << up.error().message;
    const auto early = up->wait(std::chrono::microseconds(500) * moment);
    up->signal(SIGINT);
    const auto code = early ? early : up->wait(seconds(20));
    ASSERT_TRUE(code) << code.error().message;
    char said[512] = {};
    ASSERT_GE(read(up->err.get(), said, sizeof said - 1), 0);
    if (std::string_view(said).find("interrupted") != std::string_view::npos) ++interrupted;
    finished = early.has_value();
    if (*code == 0) {
      EXPECT_TRUE(Lab::open("stop")) << "up said it is up, but it is not";
      EXPECT_EQ(gecko({"lab", "down", "--name", "stop"}).code, 0);
    }
    ASSERT_EQ(machine(), before) << "interrupted after " << moment << " half milliseconds, exit code " << *code << "; " << said;
  }
  EXPECT_GE(interrupted, 3) << "INVALID: too few interrupts fell into the middle to prove anything";
}

}  // namespace
}  // namespace gecko::lab
