// Two nodes and a witness (docs/adr/0029): either node may die, the witness too, and a cut between the two leaves one of them in charge.
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "fault_scene.hh"
#include "lab/net_namespace.hh"

namespace gecko::system_test {
namespace {

using Pointer = nlohmann::json::json_pointer;

class WithAWitness : public FaultTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(set_up({.name = "wit", .nodes = 2, .witness = true, .recovery = "fast"}));
    ASSERT_TRUE(all_are_members()) << membership("n1");
  }
  bool all_are_members() {
    return eventually([&] {
      return std::ranges::all_of(lab().geckods(), [&](const auto& node) { return members(node) == Names{"n1", "n2", "w"} && is_member(node) && leases(node); });
    }, 20s);
  }
  // Ping-pongs at both nodes, protected.
  void serve() {
    for (int i = 0; i < 8; ++i) clients_.push_back(&ping(2ms, true));
    ASSERT_NO_FATAL_FAILURE(connected());
    for (size_t i = 0; i < 4; ++i) ASSERT_NO_FATAL_FAILURE(move(local(*clients_[i]), "n2"));
    ASSERT_TRUE(eventually([&] { return all_protected("n1") && all_protected("n2"); }, 10s)) << status("n1") << status("n2");
  }
  bool all_protected(const std::string& node) {
    const auto rows = ask().ask(node, {{"op", "connections"}});
    return rows && std::ranges::all_of((*rows)["connections"], [](const auto& row) { return row.value("protected", false); });
  }
  size_t connections(const std::string& node) {
    const auto rows = ask().ask(node, {{"op", "connections"}}, 1s);
    return rows ? (*rows)["connections"].size() : SIZE_MAX;
  }
  uint64_t recovered(const std::string& node) { return status(node).value(Pointer("/groups/0/recoveries/recovered"), uint64_t{0}); }
  void everybody_goes_on() {
    for (auto* client : clients_) EXPECT_TRUE(progresses(*client)) << local(*client).str();
  }
  double longest_silence_ms() {
    double ms = 0;
    for (auto* client : clients_)
      swarm_->call([&] { ms = std::max(ms, std::chrono::duration<double, std::milli>(client->timeline().longest_ever()).count()); });
    return ms;
  }
  std::string geckod_program() { return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "geckod"; }

  std::vector<kit::PingClient*> clients_;
};

TEST_F(WithAWitness, TheDeathOfANodeIsSurvived) {
  ASSERT_NO_FATAL_FAILURE(serve());
  ASSERT_TRUE(faults().kill("n2"));
  EXPECT_TRUE(eventually([&] { return members("n1") == Names{"n1", "w"}; })) << membership("n1");
  EXPECT_TRUE(eventually([&] { return recovered("n1") >= 4; })) << status("n1");
  everybody_goes_on();
  std::printf("a node of two dies beside a witness: longest silence %.0f ms\n", longest_silence_ms());
}

TEST_F(WithAWitness, TheDeathOfTheContactIsSurvived) {
  ASSERT_NO_FATAL_FAILURE(serve());
  ASSERT_TRUE(faults().kill("n1"));
  EXPECT_TRUE(eventually([&] { return contact("n2") == "n2" && members("n2") == Names{"n2", "w"}; })) << membership("n2");
  EXPECT_TRUE(eventually([&] { return recovered("n2") >= 4; })) << status("n2");
  everybody_goes_on();
  std::printf("the contact of two dies beside a witness: longest silence %.0f ms\n", longest_silence_ms());
}

TEST_F(WithAWitness, NobodyNoticesItsDeathAndItVotesAgain) {
  ASSERT_NO_FATAL_FAILURE(serve());
  for (const bool disk_lost : {false, true}) {
    ASSERT_TRUE(faults().kill("w"));
    if (disk_lost) {
      ASSERT_GT(std::filesystem::remove_all(lab().directory() + "/w/state"), 0u);
    }
    EXPECT_TRUE(eventually([&] { return members("n1") == Names{"n1", "n2"} && members("n2") == Names{"n1", "n2"}; })) << membership("n1");
    everybody_goes_on();
    EXPECT_EQ(status("n1")["verdict"], "degraded") << "an operator must hear that the next death may not be survived";
    ASSERT_TRUE(faults().start("w"));
    ASSERT_TRUE(all_are_members()) << membership("w");
  }
  for (const char* node : {"n1", "n2"}) {
    EXPECT_EQ(logged(node, "the lease of this node has ended"), 0u) << node;
    EXPECT_EQ(recovered(node), 0u);
  }
  EXPECT_EQ(contact("n2"), "n1");
  EXPECT_TRUE(eventually([&] { return status("n1")["verdict"] == "ok"; })) << status("n1")["reasons"];
  std::printf("the witness dies twice: longest silence %.0f ms\n", longest_silence_ms());
  ASSERT_TRUE(faults().kill("n2"));
  EXPECT_TRUE(eventually([&] { return recovered("n1") >= 4; })) << status("n1");
  everybody_goes_on();
}

// Both reach the witness, and clients reach both. The contact goes on with everything; the other one is silent until they meet again.
TEST_F(WithAWitness, ACutBetweenTheTwoLeavesTheContactInCharge) {
  ASSERT_NO_FATAL_FAILURE(serve());
  ASSERT_TRUE(faults().link("n1", "n2", {.loss_ppm = 1'000'000}));
  EXPECT_TRUE(eventually([&] { return members("n1") == Names{"n1", "w"} && members("w") == Names{"n1", "w"}; })) << membership("n1");
  EXPECT_TRUE(eventually([&] { return recovered("n1") >= 4; })) << status("n1");
  EXPECT_TRUE(eventually([&] { return !leases("n2") && connections("n2") == 0; })) << membership("n2");
  everybody_goes_on();
  std::printf("a cut between two nodes that both reach the witness: longest silence %.0f ms\n", longest_silence_ms());
  // It asks to join by way of the witness all the time.
  const auto view = membership("n1").value(Pointer("/view/epoch"), uint64_t{0});
  std::this_thread::sleep_for(2s);
  EXPECT_LE(membership("n1").value(Pointer("/view/epoch"), uint64_t{0}), view + 1) << "the view flaps";   // what was recovered leaves it
  EXPECT_TRUE(leases("n1"));
  EXPECT_FALSE(leases("n2"));
  EXPECT_EQ(contact("n1"), "n1");
  EXPECT_EQ(logged("n1", "this node is not contact any more"), 0u);
  everybody_goes_on();
  ASSERT_TRUE(faults().unlink_all());
  ASSERT_TRUE(all_are_members()) << membership("n2");
  EXPECT_EQ(contact("n2"), "n1");
  EXPECT_EQ(connections("n1"), clients_.size());
  everybody_goes_on();
}

TEST_F(WithAWitness, ItServesNothing) {
  ASSERT_NO_FATAL_FAILURE(serve());
  EXPECT_EQ(status("w")["verdict"], "ok");
  EXPECT_TRUE(group("w").value("witness", false));
  const auto refused = [&](const std::string& via, const nlohmann::json& question) {
    const auto answer = ask().ask(via, question);
    return answer ? answer->dump() : answer.error().message;
  };
  EXPECT_NE(refused("w", {{"op", "connections"}}).find("is a witness"), std::string::npos);
  EXPECT_NE(refused("n1", {{"op", "drain"}, {"node", "w"}, {"action", "start"}}).find("is the witness"), std::string::npos);
  EXPECT_NE(refused("n1", {{"op", "contact"}, {"node", "w"}}).find("may not be contact"), std::string::npos);
  EXPECT_NE(refusal("n1", client_address(), "w").find("is the witness"), std::string::npos);
  // A drain waits for no word of it.
  ASSERT_TRUE(ask().ask("n1", {{"op", "drain"}, {"node", "n2"}, {"action", "start"}}));
  EXPECT_TRUE(eventually([&] {
    const auto answer = ask().ask("n1", {{"op", "drain"}, {"node", "n2"}, {"action", "look"}});
    return answer && answer->value("done", false) && answer->value("confirmed", Names{}) == Names{"n1"} && answer->value("not_confirmed", Names{"?"}).empty();
  }));
  // Nothing of the group is in its kernel.
  const auto addresses = lab().output("w", {"ip", "address"});
  ASSERT_TRUE(addresses);
  EXPECT_EQ(addresses->out.find(lab().group_address().str()), std::string::npos) << addresses->out;
  EXPECT_EQ(addresses->out.find(": gecko"), std::string::npos) << addresses->out;   // no hold device
  const auto filters = lab().output("w", {"tc", "filter", "show", "dev", "eth0", "ingress"});
  ASSERT_TRUE(filters);
  EXPECT_EQ(filters->out, "");
}

TEST_F(WithAWitness, ItHasNoRightsAndNeedsNone) {
  const auto processes = lab::processes_in(lab().find("w")->network_namespace);
  ASSERT_EQ(processes.size(), 2u) << "the witness and its lease keeper";
  for (const pid_t pid : processes) {
    for (const char* set : {"CapEff", "CapPrm", "CapInh", "CapAmb"}) EXPECT_EQ(status_line(pid, set), "0000000000000000") << set;
    EXPECT_EQ(status_line(pid, "NoNewPrivs"), "1");
#ifndef GECKO_ASAN
    EXPECT_EQ(status_line(pid, "Seccomp"), "2");
#endif
  }
  // Started by somebody who has none to begin with, with keys that are his.
  ASSERT_TRUE(faults().kill("w"));
  const passwd* nobody = ::getpwnam("nobody");
  ASSERT_NE(nobody, nullptr);
  const std::string home = lab().directory() + "/w", keys = home + "/own-keys";
  std::filesystem::permissions(lab().group_file(), std::filesystem::perms(0644));
  std::filesystem::remove_all(home + "/state");
  std::filesystem::copy(lab().directory() + "/keys/w", keys, std::filesystem::copy_options::recursive);
  for (const auto& path : {home, keys}) {
    ASSERT_EQ(::chown(path.c_str(), nobody->pw_uid, nobody->pw_gid), 0);
    for (const auto& entry : std::filesystem::directory_iterator(path)) ASSERT_EQ(::chown(entry.path().c_str(), nobody->pw_uid, nobody->pw_gid), 0);
  }
  lab::SpawnOptions options;
  options.log_file = lab().log("w");
  options.daemon = true;
  const auto started = lab().run("w", {"setpriv", "--reuid=nobody", "--regid=" + std::to_string(nobody->pw_gid), "--clear-groups", "--bounding-set=-all",
                                       geckod_program(), "--witness", "--node", "w", "--runtime-dir", home, "--state-dir", home + "/state", "--keys", keys,
                                       lab().group_file()}, std::move(options));
  ASSERT_TRUE(started) << started.error().message;
  EXPECT_TRUE(all_are_members()) << read_text(lab().log("w"));
}

// The service manager of one program: what it is told.
class Listener {
 public:
  explicit Listener(std::string path) : path_(std::move(path)), socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    path_.copy(name.sun_path, sizeof name.sun_path - 1);
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0) << path_;
  }
  const std::string& path() const { return path_; }
  // Words with this in them come, now or soon; what came before them is forgotten.
  ::testing::AssertionResult hears(const std::string& words, Duration at_most = 10s) {
    std::string all;
    for (const Time end = monotonic_now() + at_most; monotonic_now() < end;) {
      pollfd ready{socket_.get(), POLLIN, 0};
      (void)::poll(&ready, 1, 100);
      char text[1024];
      const ssize_t size = ::recv(socket_.get(), text, sizeof text, 0);
      if (size <= 0) continue;
      const std::string said(text, static_cast<size_t>(size));
      if (said.find(words) != said.npos) return ::testing::AssertionSuccess();
      all += said + "; ";
    }
    return ::testing::AssertionFailure() << "not '" << words << "' but " << all;
  }

 private:
  const std::string path_;
  const Fd socket_;
};

// As geckod-witness.service runs it. What an operator has removed stays away, and says so, until its service is started again.
TEST_F(WithAWitness, ItsServiceSaysWhetherItVotesAlsoWhenAnOperatorHasRemovedIt) {
  ASSERT_TRUE(faults().kill("w"));
  const std::string home = lab().directory() + "/w";
  Listener manager(home + "/notify");
  const auto start = [&] {
    lab::SpawnOptions options;
    options.log_file = lab().log("w");
    options.environment = {"NOTIFY_SOCKET=" + manager.path(), "WATCHDOG_USEC=1500000"};
    return lab().run("w", {geckod_program(), "--witness", "--node", "w", "--runtime-dir", home, "--state-dir", home + "/state", "--keys",
                           lab().directory() + "/keys/w", lab().group_file()}, std::move(options));
  };
  auto witness = start();
  ASSERT_TRUE(witness) << witness.error().message;
  EXPECT_TRUE(manager.hears("READY=1\nSTATUS="));
  EXPECT_TRUE(manager.hears("STATUS=votes on who is a member", 20s));
  EXPECT_TRUE(manager.hears("WATCHDOG=1"));
  ASSERT_TRUE(all_are_members()) << membership("w");

  ASSERT_TRUE(ask().ask("n1", {{"op", "member"}, {"action", "remove"}, {"nodes", {"w"}}}));
  ASSERT_TRUE(eventually([&] { return members("n1") == Names{"n1", "n2"} && members("w") == Names{"n1", "n2"}; })) << membership("w");
  EXPECT_TRUE(manager.hears("this node is not a member"));
  EXPECT_EQ(status("w")["verdict"], "degraded");
  EXPECT_EQ(logged("w", "it stays away until geckod --witness is started again"), 1u);
  std::this_thread::sleep_for(1600ms);   // a node asks to join again every 200 ms
  EXPECT_EQ(members("n1"), (Names{"n1", "n2"}));

  // Its lease keeper lives: the same life would go on, had it not been removed.
  witness->signal(SIGTERM);
  EXPECT_TRUE(manager.hears("STOPPING=1"));
  const auto ended = witness->wait(5s);
  ASSERT_TRUE(ended && *ended == 0) << (ended ? std::to_string(*ended) : ended.error().message);
  witness = start();
  ASSERT_TRUE(witness) << witness.error().message;
  EXPECT_TRUE(manager.hears("votes on who is a member", 20s));
  EXPECT_TRUE(all_are_members()) << membership("w");
  witness->signal(SIGHUP);
  EXPECT_TRUE(manager.hears("RELOADING=1\nMONOTONIC_USEC="));
  EXPECT_TRUE(manager.hears("READY=1\nSTATUS=votes on who is a member"));
}

TEST_F(WithAWitness, EachIsStartedAsWhatTheFileSays) {
  const auto said = [&](std::vector<std::string> words) {
    words.insert(words.begin(), geckod_program());
    words.push_back(lab().group_file());
    const auto ended = lab().output("w", words);
    EXPECT_TRUE(ended && ended->code == 65) << (ended ? ended->code : -1);
    return ended ? ended->err : ended.error().message;
  };
  EXPECT_NE(said({"--node", "w"}).find("start it with 'geckod --witness'"), std::string::npos);
  EXPECT_NE(said({"--node", "n1", "--witness"}).find("start geckod without --witness"), std::string::npos);
}

}  // namespace
}  // namespace gecko::system_test
