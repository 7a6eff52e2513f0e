// What the fault tests share: a scene with three nodes, verified clients in it, and the faults themselves. Each test has a lab of its own,
// because most of them leave theirs damaged.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "kit/echo_client.hh"
#include "kit/node_processes.hh"
#include "kit/ping_client.hh"
#include "kit/scene.hh"
#include "kit/swarm.hh"

namespace gecko::system_test {

using namespace std::chrono_literals;
using Names = std::set<std::string>;

// Polls until `done`; false when `at_most` has passed before.
bool eventually(const std::function<bool()>& done, Duration at_most = 5s);

using kit::geckod, kit::Half, kit::lease_keeper, kit::process_named, kit::status_line;
void kill_process(pid_t pid);   // SIGKILL, and waits until it is gone
void kill_at_once(const std::vector<pid_t>& pids);   // the same for several: none sees another's end first
std::string read_text(const std::string& file);

class FaultTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;   // no client lost a byte (unless the test said how many may end); a failure quotes the logs

  void set_up(const kit::SceneOptions& options);   // what SetUp does, with another lab

  kit::Scene& scene() { return *scene_; }
  const lab::Lab& lab() { return scene_->lab(); }
  kit::Operator& ask() { return scene_->ask(); }
  lab::Lab& faults() { return const_cast<lab::Lab&>(lab()); }

  kit::PingClient& ping(Duration pause = 2ms, bool keep_timeline = false);
  kit::EchoClient& echo(Duration pause = 1ms);
  void connected();           // all of them, or the test fails
  Endpoint local(kit::Client& client);
  bool done(kit::Client& client);
  bool progresses(kit::Client& client, Duration at_most = 5s);     // one more exchange
  // It learns that its connection has ended. One that only waits for an answer is made to ask: nobody else knows its sequence numbers.
  bool is_told(kit::Client& client, Duration at_most);
  // Each of them speaks or has ended, or the test fails; how many have ended.
  size_t all_speak(const std::vector<kit::Client*>& clients, Duration at_most);
  std::string owner(const Endpoint& client);                       // "": nobody
  // Moves one connection and expects that to work.
  void move(const Endpoint& client, const std::string& to);
  // The operator's words when a handoff is refused: of the command, or of the connection. "": it was not refused.
  std::string refusal(const std::string& via, const std::string& client, const std::string& to);
  nlohmann::json status(const std::string& via);
  // Of its group in status; empty while geckod there does not answer.
  nlohmann::json group(const std::string& via);
  nlohmann::json membership(const std::string& via);
  Names members(const std::string& via);
  bool is_member(const std::string& via);
  std::string life(const std::string& via);                        // another one: it has died meanwhile
  bool everybody_is_member(Duration at_most = 20s);                // of one view, with a lease
  bool leases(const std::string& via);
  std::string contact(const std::string& via);
  bool begins_with_contact(const std::string& node);               // and makes it so where another one is
  size_t logged(const std::string& node, const std::string& words);   // lines of geckod's log, or words in them
  uint64_t counter(const std::string& via, const char* name);      // of its group, in status
  std::string client_address() { return scene_->clients().front().str(); }

  std::vector<pid_t> geckods(const std::string& node);             // both halves, not the lease keeper
  void kill_geckod(const std::string& node);                       // both halves; its applications and its lease keeper live
  void start_geckod(const std::string& node);                      // and waits until all see each other
  // Kills these (both halves if none are named) and starts geckod: its life goes on, or the test fails. False, without a failure: this machine has kept
  // it waiting for a processor for so long that restart_grace was over, and nothing is proven.
  bool restarts_in_time(const std::string& node, std::vector<pid_t> pids = {});
  void restart_application(const std::string& node, const std::string& policy = "none", int descriptors = 0);   // gecko-echo

  // How many connections may have ended by the end of the test; 0 unless it kills what owns them.
  size_t may_be_lost = 0;

  std::unique_ptr<kit::Scene> scene_;
  std::unique_ptr<kit::Swarm> swarm_;
};

}  // namespace gecko::system_test
