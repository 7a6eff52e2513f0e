#include "fault_scene.hh"

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace gecko::system_test {

bool eventually(const std::function<bool()>& done, Duration at_most) {
  const Time deadline = monotonic_now() + at_most;
  while (!done()) {
    if (monotonic_now() > deadline) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

std::string read_text(const std::string& file) {
  std::ifstream in(file);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

namespace {

constexpr Duration kRestartGrace = 5s;   // of the lease keeper (docs/adr/0017)

// For how long it has been ready to run and no processor was there. 0 where the kernel does not count it: then nothing is excused.
Duration starved(const std::string& process) {
  std::ifstream file("/proc/" + process + "/schedstat");
  uint64_t ran_ns = 0, waited_ns = 0;
  file >> ran_ns >> waited_ns;
  return std::chrono::nanoseconds(waited_ns);
}

}  // namespace

void kill_process(pid_t pid) { kill_at_once({pid}); }

void kill_at_once(const std::vector<pid_t>& pids) {
  for (const pid_t pid : pids)
    if (pid > 0) (void)::kill(pid, SIGKILL);
  for (const pid_t pid : pids)
    EXPECT_TRUE(pid <= 0 || eventually([&] { return kit::is_gone(pid); })) << "process " << pid << " does not end";
}

void FaultTest::SetUp() { set_up({.name = "flt"}); }

void FaultTest::set_up(const kit::SceneOptions& options) {
  kit::raise_descriptor_limit();
  auto up = kit::Scene::up(options);
  ASSERT_TRUE(up) << up.error().message;
  scene_ = std::move(*up);
  ASSERT_TRUE(begins_with_contact("n1"));
  auto swarm = kit::Swarm::start(scene_->in_client());
  ASSERT_TRUE(swarm) << swarm.error().message;
  swarm_ = std::move(*swarm);
}

// The group's first choice; but a machine that had no time for its nodes while they started may have made another one contact. While they join one after
// the other the role may go round.
bool FaultTest::begins_with_contact(const std::string& node) {
  const auto nodes = lab().geckods();
  const Names all(nodes.begin(), nodes.end());
  return eventually([&] {
    if (std::ranges::all_of(lab().nodes(), [&](const auto& via) { return members(via) == all && contact(via) == node; })) return true;
    if (contact(node) != node) (void)ask().contact(node, node);   // refused before it is a member: asked again
    return false;
  }, 20s);
}

void FaultTest::TearDown() {
  if (swarm_) {
    const auto totals = swarm_->wind_down(5s);
    EXPECT_EQ(totals.wrong, 0u) << totals.first_failure;
    EXPECT_EQ(totals.stuck, 0u) << "a client hangs";
    EXPECT_LE(totals.lost(), may_be_lost) << totals.first_failure;
  }
  if (HasFailure() && scene_) {
    for (const auto& node : lab().geckods())
      for (const char* log : {"geckod", "gecko-echo"}) {
        const std::string text = read_text(lab().directory() + "/" + node + "/" + log + ".log");
        std::fprintf(stderr, "--- %s on %s\n%s", log, node.c_str(), text.substr(text.size() > 3000 ? text.size() - 3000 : 0).c_str());
      }
  }
  swarm_.reset();
  scene_.reset();
}

kit::PingClient& FaultTest::ping(Duration pause, bool keep_timeline) {
  kit::PingOptions options;
  options.server = scene_->echo();
  options.pause = pause;
  options.keep_timeline = keep_timeline;
  return swarm_->add<kit::PingClient>(options);
}

kit::EchoClient& FaultTest::echo(Duration pause) {
  kit::EchoOptions options;
  options.server = scene_->echo();
  options.pause = pause;
  return swarm_->add<kit::EchoClient>(options);
}

void FaultTest::connected() {
  const auto ok = swarm_->wait_connected(5s);
  ASSERT_TRUE(ok) << ok.error().message;
  // The application may not have accepted the last one yet.
  ASSERT_TRUE(eventually([&] {
    size_t known = 0;
    for (const auto& node : scene_->nodes())
      if (const auto rows = ask().ask(node, {{"op", "connections"}})) known += (*rows)["connections"].size();
    return known >= swarm_->open_connections();
  })) << "not all connections are registered at a geckod";
}

Endpoint FaultTest::local(kit::Client& client) {
  Endpoint at;
  swarm_->call([&] { at = client.local(); });
  return at;
}

bool FaultTest::done(kit::Client& client) {
  bool is = false;
  swarm_->call([&] { is = client.done(); });
  return is;
}

bool FaultTest::progresses(kit::Client& client, Duration at_most) {
  uint64_t before = 0;
  swarm_->call([&] { before = client.totals().exchanges; });
  return eventually([&] {
    uint64_t now = 0;
    swarm_->call([&] { now = client.totals().exchanges; });
    return now > before + 1;   // one may have been on its way
  }, at_most);
}

bool FaultTest::is_told(kit::Client& client, Duration at_most) {
  swarm_->call([&] { client.keep_alive(); });
  return eventually([&] { return done(client); }, at_most);
}

size_t FaultTest::all_speak(const std::vector<kit::Client*>& clients, Duration at_most) {
  struct Seen {
    bool done = false;
    uint64_t exchanges = 0;
  };
  const auto look = [&] {
    std::vector<Seen> all;
    swarm_->call([&] {
      for (auto* client : clients) all.push_back({client->done(), client->totals().exchanges});
    });
    return all;
  };
  const auto before = look();
  std::vector<bool> settled(clients.size());
  (void)eventually([&] {
    const auto now = look();
    for (size_t i = 0; i < clients.size(); ++i)
      settled[i] = settled[i] || now[i].done || now[i].exchanges > before[i].exchanges + 1;   // one may have been on its way
    return std::ranges::find(settled, false) == settled.end();
  }, at_most);
  size_t ended = 0;
  for (size_t i = 0; i < clients.size(); ++i) {
    EXPECT_TRUE(settled[i]) << "a connection hangs: " << local(*clients[i]).str() << ", owner '" << owner(local(*clients[i])) << "'";
    ended += done(*clients[i]) ? 1 : 0;
  }
  return ended;
}

std::string FaultTest::owner(const Endpoint& client) {
  for (const auto& node : scene_->nodes()) {
    const auto rows = ask().ask(node, {{"op", "connections"}}, 1s);
    if (!rows) continue;
    for (const auto& row : (*rows)["connections"])
      if (row.value("client", "") == client.str()) return node;
  }
  return {};
}

void FaultTest::move(const Endpoint& client, const std::string& to) {
  const std::string from = owner(client);
  ASSERT_NE(from, "") << "nobody has " << client.str();
  const auto moved = ask().handoff(from, client.str(), to);
  ASSERT_TRUE(moved) << moved.error().message;
  EXPECT_EQ(moved->moved, 1u) << moved->first_refusal;
}

std::string FaultTest::refusal(const std::string& via, const std::string& client, const std::string& to) {
  const auto answer = ask().handoff(via, client, to);
  return answer ? answer->first_refusal : answer.error().message;
}

nlohmann::json FaultTest::status(const std::string& via) {
  auto answer = ask().ask(via, {{"op", "status"}});
  EXPECT_TRUE(answer) << answer.error().message;
  return answer ? *answer : nlohmann::json::object();
}

nlohmann::json FaultTest::group(const std::string& via) {
  const auto answer = ask().ask(via, {{"op", "status"}}, 1s);
  return answer && answer->contains("groups") ? (*answer)["groups"][0] : nlohmann::json::object();
}

nlohmann::json FaultTest::membership(const std::string& via) { return group(via).value("membership", nlohmann::json::object()); }

Names FaultTest::members(const std::string& via) {
  const auto m = membership(via);
  Names out;
  if (m.contains("view") && !m["view"].is_null())
    for (const auto& name : m["view"]["members"]) out.insert(name.get<std::string>());
  return out;
}

bool FaultTest::is_member(const std::string& via) { return membership(via).value("member", false); }

std::string FaultTest::life(const std::string& via) { return membership(via).value("life", ""); }

bool FaultTest::everybody_is_member(Duration at_most) {
  const auto nodes = lab().geckods();
  const Names all(nodes.begin(), nodes.end());
  const auto sees_all = [&](const std::string& node) { return members(node) == all && is_member(node) && leases(node); };
  return eventually([&] { return std::ranges::all_of(all, sees_all); }, at_most);
}

bool FaultTest::leases(const std::string& via) {
  const auto m = membership(via);
  return m.contains("lease") && m["lease"]["holds"].get<bool>();
}

std::string FaultTest::contact(const std::string& via) {
  const auto g = group(via);
  return g.contains("contact") && g["contact"].is_string() ? g["contact"].get<std::string>() : "";
}

size_t FaultTest::logged(const std::string& node, const std::string& words) {
  const std::string text = read_text(lab().log(node));
  size_t count = 0;
  for (size_t at = text.find(words); at != text.npos; at = text.find(words, at + 1)) ++count;
  return count;
}

uint64_t FaultTest::counter(const std::string& via, const char* name) {
  const auto json = status(via);
  return json.contains("groups") ? json["groups"][0].value(name, uint64_t{0}) : 0;
}

std::vector<pid_t> FaultTest::geckods(const std::string& node) { return {geckod(lab(), node, Half::unprivileged), geckod(lab(), node, Half::privileged)}; }

void FaultTest::kill_geckod(const std::string& node) { kill_at_once(geckods(node)); }

void FaultTest::start_geckod(const std::string& node) {
  ASSERT_TRUE(eventually([&] { return geckod(lab(), node, Half::unprivileged) < 0 && geckod(lab(), node, Half::privileged) < 0; }))
      << "a half of the old geckod lives";
  auto ok = const_cast<lab::Lab&>(lab()).start(node);
  ASSERT_TRUE(ok) << ok.error().message;
  ok = lab().wait_ready();
  ASSERT_TRUE(ok) << ok.error().message;
  (void)ask().ask(node, {{"op", "status"}});   // the operator's connection to the old one fails once
}

bool FaultTest::restarts_in_time(const std::string& node, std::vector<pid_t> pids) {
  const std::string before = life(node);
  EXPECT_NE(before, "") << "INVALID: " << node << " has no life";
  const Duration starved_before = starved("thread-self");
  const Time killed = monotonic_now();
  kill_at_once(pids.empty() ? geckods(node) : pids);
  start_geckod(node);
  const Duration took = monotonic_now() - killed;
  if (HasFatalFailure()) return false;
  (void)eventually([&] { return !life(node).empty() && is_member(node); }, 20s);
  if (life(node) == before) return true;
  Duration waited = starved("thread-self") - starved_before;
  for (const pid_t pid : geckods(node)) waited += starved(std::to_string(pid));
  const auto s = [](Duration d) { return std::chrono::duration<double>(d).count(); };
  EXPECT_GT(took, kRestartGrace) << "its life has ended although it was back in time";
  EXPECT_LT(took - waited, kRestartGrace) << "its start takes longer than restart_grace: " << s(took) << " s, of which it waited " << s(waited)
                                          << " s for a processor";
  std::printf("geckod on %s was back after %.1f s, of which it had waited %.1f s for a processor: its connections are the others' by now\n", node.c_str(),
              s(took), s(waited));
  return false;
}

void FaultTest::restart_application(const std::string& node, const std::string& policy, int descriptors) {
  std::error_code error;
  const auto bin = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  lab::SpawnOptions options;
  options.log_file = lab().directory() + "/" + node + "/gecko-echo.log";
  options.daemon = true;
  std::vector<std::string> command{(bin / "gecko-echo").string(), "-g", lab().group_file(), "-p", std::to_string(scene_->echo().port), "--policy", policy};
  if (descriptors != 0) command.insert(command.begin(), {"/bin/sh", "-c", "ulimit -n " + std::to_string(descriptors) + "; exec \"$@\"", "sh"});
  const auto process = lab().run(node, command, options);
  ASSERT_TRUE(process) << process.error().message;
}

}  // namespace gecko::system_test
