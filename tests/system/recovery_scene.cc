#include "recovery_scene.hh"

#include <algorithm>
#include <thread>
#include <utility>

namespace gecko::system_test {
namespace {

// Behind the gate: a processor may be taken away between its look at the clock and the wire.
constexpr Duration kOnTheWire = 10ms;

}  // namespace

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
    return !rows.empty() && std::all_of(rows.begin(), rows.end(), [](const auto& row) { return row.value("protected", false); });
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

void RecoveryTest::TearDown() {
  judge_speakers();
  FaultTest::TearDown();
}

void RecoveryTest::listen() {
  judge_speakers();
  const auto lease_ms = status(scene().nodes().back()).value("/groups/0/membership/view/lease_ms"_json_pointer, 0.0);
  ASSERT_GT(lease_ms, 0.0);
  lease_ = std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(lease_ms));
  auto speakers = Speakers::listen(lab());
  ASSERT_TRUE(speakers) << speakers.error().message;
  speakers_ = std::move(*speakers);
}

void RecoveryTest::must_be_silent(const std::string& node, BootTime out, BootTime until) { silences_.push_back({node, out, until}); }

void RecoveryTest::judge_speakers() {
  const auto speakers = std::exchange(speakers_, nullptr);
  const auto silences = std::exchange(silences_, {});
  if (!speakers) return;
  const auto heard = speakers->stop();
  EXPECT_TRUE(heard) << "INVALID: " << heard.error().message;
  EXPECT_EQ(speakers->taken_back(), "") << "two nodes speak for one connection";
  for (const auto& [node, out, until] : silences) {
    EXPECT_LE(until, BootClock::now()) << "INVALID: it was not listened to for so long";
    const size_t before = speakers->said(node, out - 1s, out);
    EXPECT_GT(before, 0u) << "INVALID: " << node << " had nothing to say";
    std::string first;
    const size_t late = speakers->said_of_former(node, out, out + lease_ + kOnTheWire, until, &first);
    EXPECT_EQ(late, 0u) << "left " << node << " without a lease: " << first << " than its end";
    std::printf("%s: %zu packets in its last second with a lease, %zu of the same connections in the %.1f s after\n", node.c_str(), before, late,
                std::chrono::duration<double>(until - out - lease_).count());
  }
}

void RecoveryTest::stop_all_of(const std::string& node) {
  ASSERT_TRUE(faults().pause(node));
  stopped_ = BootClock::now();
}

void RecoveryTest::wakes_silently(const std::string& node) {
  ASSERT_TRUE(speakers_ && stopped_ != BootTime{}) << "INVALID: nobody listens";
  std::this_thread::sleep_for(5s);   // the fault's length
  const BootTime woken = BootClock::now();
  ASSERT_TRUE(faults().resume(node));
  EXPECT_TRUE(eventually([&] { return status(node).value("/groups/0/membership/member"_json_pointer, false); }, 20s)) << status(node);
  EXPECT_TRUE(eventually([&] {
    const auto rows = ask().ask(node, {{"op", "connections"}});
    return rows && (*rows)["connections"].empty();
  }));
  std::this_thread::sleep_for(woken + 1s - BootClock::now());   // what is proven lasts so long
  must_be_silent(node, stopped_, woken + 1s);
}

void RecoveryTest::kill_in_mid_recovery(const std::string& dead, const std::string& heir, size_t all) {
  const auto pids = scene().processes(heir);
  kit::Operator look(lab());
  ASSERT_TRUE(look.ask(heir, {{"op", "status"}}));   // connected
  ASSERT_TRUE(faults().kill(dead));
  uint64_t under_way = 0, done = 0;
  ASSERT_TRUE(eventually([&] {
    const auto answer = look.ask(heir, {{"op", "status"}});
    if (!answer) return false;
    under_way = answer->value("/groups/0/recoveries/under_way"_json_pointer, uint64_t{0});
    done = answer->value("/groups/0/recoveries/recovered"_json_pointer, uint64_t{0});
    return done > 0 || under_way > 0;
  }, 10s)) << "the heir of " << dead << " recovers nothing";
  kill_at_once(pids);
  std::printf("%s killed while it recovered %zu connections of %s: %llu done, %llu under way\n", heir.c_str(), all, dead.c_str(),
              static_cast<unsigned long long>(done), static_cast<unsigned long long>(under_way));
  ASSERT_GT(under_way, 0u) << "INVALID: it was done before anybody could look";
  ASSERT_LT(done, all);
}

}  // namespace gecko::system_test
