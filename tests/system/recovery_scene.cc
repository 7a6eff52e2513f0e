#include "recovery_scene.hh"

#include <algorithm>
#include <thread>

#include "kit/net_counters.hh"

namespace gecko::system_test {

template <class Options>
Options RecoveryTest::transfer(uint64_t size, size_t bytes_per_ms) {
  Options options;
  options.server = scene().stream();
  options.size = size;
  options.seed = ++seed_;
  options.bytes_per_ms = bytes_per_ms;
  options.keep_timeline = true;
  return options;
}

void RecoveryTest::begin(const kit::SceneOptions& options) {
  ASSERT_NO_FATAL_FAILURE(set_up(options));
  const size_t all = scene().nodes().size();
  for (const auto& node : scene().nodes())
    ASSERT_TRUE(eventually([&] {
      const auto m = status(node).value("/groups/0/membership"_json_pointer, nlohmann::json());
      return m.is_object() && m.value("member", false) && m["view"].is_object() && m["view"]["members"].size() == all && m["lease"]["holds"].get<bool>();
    }, 20s)) << status(node);
}

kit::DownloadClient& RecoveryTest::download(uint64_t size, size_t bytes_per_ms) {
  return swarm_->add<kit::DownloadClient>(transfer<kit::DownloadOptions>(size, bytes_per_ms));
}

kit::UploadClient& RecoveryTest::upload(uint64_t size, size_t bytes_per_ms) {
  auto options = transfer<kit::UploadOptions>(size, bytes_per_ms);
  options.look = 1ms;
  return swarm_->add<kit::UploadClient>(options);
}

kit::Totals RecoveryTest::totals(kit::Client& client) {
  kit::Totals t;
  swarm_->call([&] { t = client.totals(); });
  return t;
}

double RecoveryTest::longest_ms(kit::Client& client) {
  double ms = 0;
  swarm_->call([&] { ms = std::chrono::duration<double, std::milli>(client.timeline().longest_ever()).count(); });
  return ms;
}

void RecoveryTest::all_protected(const std::string& node) {
  ASSERT_TRUE(eventually([&] {
    const auto answer = ask().ask(node, {{"op", "connections"}});
    if (!answer) return false;
    const auto& rows = (*answer)["connections"];
    return std::all_of(rows.begin(), rows.end(), [](const auto& row) { return row.value("protected", false); });
  }, 10s)) << status(node).value("/groups/0/protection"_json_pointer, nlohmann::json());
}

void RecoveryTest::give_all_to(const std::string& node) {
  const auto moved = ask().handoff("n1", client_address(), node);
  ASSERT_TRUE(moved) << moved.error().message;
  ASSERT_EQ(moved->refused, 0u) << moved->first_refusal;
}

std::vector<std::string> RecoveryTest::others(const std::string& dead) {
  auto nodes = scene().nodes();
  std::erase(nodes, dead);
  return nodes;
}

uint64_t RecoveryTest::recovered(const std::vector<std::string>& at, const char* what) {
  uint64_t sum = 0;
  for (const auto& node : at) sum += status(node).value(nlohmann::json::json_pointer(std::string("/groups/0/recoveries/") + what), uint64_t{0});
  return sum;
}

std::string RecoveryTest::recoveries(const std::string& node) { return status(node).value("/groups/0/recoveries"_json_pointer, nlohmann::json()).dump(); }

void RecoveryTest::wakes_silently(const std::string& node) {
  const auto dropped = [&] {
    uint64_t sum = 0;
    for (const char* name : {"Tcp.InErrs", "Tcp.EstabResets", "TcpExt.TCPChallengeACK", "TcpExt.TCPOFOQueue"})
      sum += kit::net_counter(lab(), {"client"}, name).value_or(0);
    return sum;
  };
  std::this_thread::sleep_for(5s);   // the fault's length
  auto& witness = ping(2ms, true);
  ASSERT_TRUE(progresses(witness));
  const uint64_t before = dropped();
  ASSERT_TRUE(faults().resume(node));
  EXPECT_TRUE(eventually([&] { return status(node).value("/groups/0/membership/member"_json_pointer, false); }, 20s)) << status(node);
  EXPECT_EQ(dropped(), before) << "the client was sent packets of the stopped node";
  EXPECT_TRUE(eventually([&] {
    const auto rows = ask().ask(node, {{"op", "connections"}});
    return rows && (*rows)["connections"].empty();
  }));
}

}  // namespace gecko::system_test
