// recovery = "replicated" (docs/adr/0026): nothing that a client was told is lost, whatever dies, and its program goes on as if nothing had happened.
#include <algorithm>
#include <thread>

#include "base/test_figures.hh"
#include "bpf/steer_shared.h"
#include "kernel_maps.hh"
#include "recovery_scene.hh"

namespace gecko::system_test {
namespace {

constexpr uint64_t kMiB = 1u << 20;

// Clients of each kind, all at one node.
struct Crowd {
  std::vector<kit::Client*> talking;     // requests without a pause for the answer: some are always under way
  std::vector<kit::PingClient*> idle;
  std::vector<kit::Client*> downloads, uploads;
  size_t size() const { return talking.size() + idle.size() + downloads.size() + uploads.size(); }
};

class Replicated : public RecoveryTest {
 protected:
  void begin(int nodes = 3, uint32_t backups = 1, bool fast_echo = false) {
    RecoveryTest::begin({.name = "rpl", .nodes = nodes, .recovery = "replicated", .backups = backups, .fast_echo = fast_echo});
  }

  kit::EchoClient& talk() {
    kit::EchoOptions options;
    options.server = scene().echo();
    options.largest_write = 4096;
    options.window = 64 * 1024;
    options.pause = 1ms;
    options.seed = ++seed_;
    options.keep_timeline = true;
    return swarm_->add<kit::EchoClient>(options);
  }

  // The owner's answers take 3 ms, requests follow each other in 1 ms: at any moment it owes some.
  void gather(const std::string& owner, uint64_t size = 16 * kMiB, int idle = 4) {
    for (int i = 0; i < 3; ++i) crowd_.talking.push_back(&talk());
    crowd_.talking.push_back(&ping(1ms, true));
    for (int i = 0; i < idle; ++i) crowd_.idle.push_back(&ping(1h));
    for (int i = 0; i < 2; ++i) crowd_.downloads.push_back(&download(size, 3'000));
    for (int i = 0; i < 2; ++i) crowd_.uploads.push_back(&upload(size, 3'000));
    ASSERT_NO_FATAL_FAILURE(connected());
    ASSERT_NO_FATAL_FAILURE(all_to(owner));
    const auto linked = lab().link(owner, "client", {.delay_us = 3'000}, true);
    ASSERT_TRUE(linked) << linked.error().message;
    ASSERT_NO_FATAL_FAILURE(in_midst(owner));
  }
  void all_to(const std::string& node) {   // a stream may keep one of them for a moment
    std::string refused;
    ASSERT_TRUE(eventually([&] {
      const auto moved = ask().handoff("n1", client_address(), node);
      refused = moved ? moved->first_refusal : moved.error().message;
      return refused.empty();
    })) << refused;
  }
  // All are replicated, and have something under way.
  void in_midst(const std::string& owner) {
    ASSERT_NO_FATAL_FAILURE(all_replicated(owner));
    for (auto* client : crowd_.talking) ASSERT_TRUE(progresses(*client)) << local(*client).str();
    for (auto* client : crowd_.downloads) ASSERT_TRUE(moves_on(*client)) << "INVALID: a download is over or stands still";
    for (auto* client : crowd_.uploads) ASSERT_TRUE(moves_on(*client)) << "INVALID: an upload is over or stands still";
  }
  bool moves_on(kit::Client& client) {
    const auto bytes = [&] {
      const auto t = totals(client);
      return t.bytes_received + t.bytes_sent;
    };
    const uint64_t before = bytes();
    return eventually([&] { return bytes() > before + 256 * 1024; }) && !done(client);
  }

  nlohmann::json row(const std::string& node, const char* list, kit::Client& client) {
    const auto answer = ask().ask(node, {{"op", list}});
    if (answer)
      for (const auto& r : (*answer)[list])
        if (r["client"] == local(client).str()) return r;
    return {};
  }
  // The backups have all that the programs had read when this was asked.
  void all_replicated(const std::string& node) {
    nlohmann::json rows;
    ASSERT_TRUE(eventually([&] {
      const auto answer = ask().ask(node, {{"op", "connections"}});
      rows = answer ? (*answer)["connections"] : nlohmann::json::array();
      return !rows.empty() && std::ranges::all_of(rows, [](const auto& r) { return r.value("protected", false) && r.value("replicated", false); });
    }, 10s)) << rows;
  }
  bool stands_still(kit::Client& client) {   // for a second
    uint64_t bytes = 0;
    Time since = monotonic_now();
    return eventually([&] {
      if (const uint64_t now = totals(client).bytes_received; std::exchange(bytes, now) != now) since = monotonic_now();
      return monotonic_now() - since > 1s;
    }, 15s);
  }
  uint64_t acknowledged(kit::Client& client) {
    uint64_t bytes = 0;
    swarm_->call([&] { bytes = client.totals().bytes_sent - client.unacknowledged(); });
    return bytes;
  }

  void go_on(Duration at_most = 5s) {
    for (auto* client : crowd_.talking) EXPECT_TRUE(progresses(*client, at_most)) << "talking " << local(*client).str() << totals(*client).first_failure;
  }
  // Everything ends as it should, and what was idle speaks.
  void finish() {
    for (auto* client : crowd_.downloads) EXPECT_TRUE(eventually([&] { return done(*client); }, 30s)) << "download " << local(*client).str();
    for (auto* client : crowd_.uploads) EXPECT_TRUE(eventually([&] { return done(*client); }, 30s)) << "upload " << local(*client).str();
    for (auto* client : crowd_.idle) {
      const uint64_t before = totals(*client).exchanges;
      swarm_->call([&] { client->speak(); });
      EXPECT_TRUE(eventually([&] { return totals(*client).exchanges > before; })) << "idle " << local(*client).str();
    }
  }
  void expect_none_lost(const std::vector<std::string>& at, size_t at_least) {
    EXPECT_TRUE(eventually([&] { return recovered(at) >= at_least; })) << recoveries(at.front());
    for (const auto& node : at) {
      const auto lost = status(node).value("/groups/0/recoveries/lost"_json_pointer, nlohmann::json::object());
      for (const auto& [reason, count] : lost.items()) EXPECT_EQ(count, 0) << reason << " at " << node;
    }
  }
  double longest_of(const std::vector<kit::Client*>& clients) {
    double ms = 0;
    for (auto* client : clients) ms = std::max(ms, longest_ms(*client));
    return ms;
  }
  void say_gaps(const char* what) {
    std::printf("%s: longest silence in ms: talking %.0f, downloads %.0f, uploads %.0f\n", what, longest_of(crowd_.talking), longest_of(crowd_.downloads),
                longest_of(crowd_.uploads));
  }

  void survive(const std::string& owner, const std::function<void()>& fault) {
    ASSERT_NO_FATAL_FAILURE(gather(owner));
    ASSERT_NO_FATAL_FAILURE(listen());
    for (auto* client : crowd_.talking) ASSERT_TRUE(progresses(*client)) << local(*client).str();
    uint64_t owed = 0;
    swarm_->call([&] {
      for (auto* client : crowd_.talking) owed += client->totals().bytes_sent - client->totals().bytes_received;
    });
    EXPECT_GT(owed, 0u) << "INVALID: nobody is in the middle of an exchange";
    fault();
    go_on();
    finish();
    expect_none_lost(others(owner), crowd_.size());
    say_gaps("owner lost");
    EXPECT_LT(longest_of(crowd_.talking), 1000);
  }

  // The TCP link of two nodes, both ways; heartbeats go on, so that both stay members.
  void cut_link(const std::string& one, const std::string& other) {
    for (const auto& [at, from] : {std::pair(one, other), std::pair(other, one)}) {
      const auto out = lab().output(at, {"nft", "table ip6 cut { chain in { type filter hook input priority 0; ip6 saddr " + lab().find(from)->address.str() +
                                                    " meta l4proto tcp drop; }; }"});
      ASSERT_TRUE(out) << out.error().message;
      ASSERT_EQ(out->code, 0) << out->err;
    }
  }
  void heal_link(const std::string& one, const std::string& other) {
    for (const auto& at : {one, other}) {
      const auto out = lab().output(at, {"nft", "delete table ip6 cut"});
      ASSERT_TRUE(out && out->code == 0) << (out ? out->err : out.error().message);
    }
  }
  // Cuts n2, the owner, off from n3, its backup. The client's kernel repeats what nobody acknowledges; nothing of it may be acknowledged but what n3 has.
  void upload_without_backup(kit::UploadClient& client) {
    ASSERT_NO_FATAL_FAILURE(connected());
    ASSERT_NO_FATAL_FAILURE(all_to("n2"));
    ASSERT_NO_FATAL_FAILURE(all_replicated("n2"));
    ASSERT_TRUE(eventually([&] { return acknowledged(client) > kMiB; }));
    ASSERT_NO_FATAL_FAILURE(cut_link("n2", "n3"));
    const uint64_t repeated = totals(client).retransmits;
    EXPECT_TRUE(eventually([&] { return totals(client).retransmits >= repeated + 3; }, 10s)) << "INVALID: all of it is acknowledged, or nothing is sent";
    uint64_t unacknowledged = 0;
    swarm_->call([&] { unacknowledged = client.unacknowledged(); });
    EXPECT_GT(unacknowledged, 0u);
    const auto held = row("n3", "mirrors", client);
    ASSERT_TRUE(held.contains("input")) << held;
    EXPECT_LE(acknowledged(client), held["input"]["end"].get<uint64_t>());
  }

  Crowd crowd_;
  uint64_t seed_ = 500;
};

TEST_F(Replicated, OwnerKilled) {
  begin();
  survive("n2", [&] { ASSERT_TRUE(faults().kill("n2")); });
}

TEST_F(Replicated, OwnerCutOff) {
  begin();
  survive("n3", [&] { ASSERT_TRUE(faults().cut("n3")); });
}

TEST_F(Replicated, OwnerThatIsTheContactKilled) {
  begin(4);
  survive("n1", [&] { ASSERT_TRUE(faults().kill("n1")); });
}

// The owner has heard that its life is over and owns nothing any more, the contact has not. Nobody is told then that his connection is nobody's, whatever
// the contact has to ask.
TEST_F(Replicated, AContactThatKnowsNothingWaitsForTheHeir) {
  RecoveryTest::begin({.name = "rpl", .recovery = "replicated", .lease_ms = 200});   // on slow cables
  ASSERT_NO_FATAL_FAILURE(gather("n3"));
  ASSERT_TRUE(begins_with_contact("n2"));
  ASSERT_TRUE(faults().link("n1", "n2", {.delay_us = 15'000}, true));   // the view
  ASSERT_TRUE(faults().link("n2", "n3", {.delay_us = 30'000}, true));   // a question
  ASSERT_TRUE(everybody_is_member());
  ASSERT_NO_FATAL_FAILURE(in_midst("n3"));
  const Fd flows = map_of(geckod(lab(), "n2", Half::privileged), "gecko_flows");
  ASSERT_TRUE(flows) << "INVALID: the contact's flow table is not to be had";
  const uint64_t before = counter("n2", "unknown_flows");
  kill_process(lease_keeper(lab(), "n3"));
  for (const Time end = monotonic_now() + 300ms; monotonic_now() < end; std::this_thread::sleep_for(1ms))   // the fault's length
    for_each_key<gecko_flow_key>(flows, [&](const gecko_flow_key& key) {
      gecko_flow entry{};
      if (bpf_map_lookup_elem(flows.get(), &key, &entry) == 0 && entry.state == GECKO_FLOW_FORWARD) (void)bpf_map_delete_elem(flows.get(), &key);
      return true;
    });
  ASSERT_TRUE(faults().unlink_all());
  go_on();
  finish();
  EXPECT_GT(counter("n2", "unknown_flows"), before + crowd_.talking.size()) << "INVALID: the contact knew them all";
  expect_none_lost({"n1"}, crowd_.size());
  say_gaps("lease keeper killed, contact without a memory");
}

TEST_F(Replicated, OwnerStoppedForFiveSecondsSaysNothingMoreAndComesBack) {
  begin();
  survive("n2", [&] { stop_all_of("n2"); });
  wakes_silently("n2");
}

TEST_F(Replicated, UploadsSurvive) {
  begin();
  std::vector<kit::Client*> uploads;
  for (int i = 0; i < 6; ++i) uploads.push_back(i < 3 ? &upload(32 * kMiB, 4'000) : &upload(128 * kMiB));   // three as fast as it goes
  ASSERT_NO_FATAL_FAILURE(connected());
  ASSERT_NO_FATAL_FAILURE(all_to("n2"));
  ASSERT_NO_FATAL_FAILURE(all_replicated("n2"));
  for (auto* client : uploads) ASSERT_TRUE(eventually([&] { return acknowledged(*client) > 2 * kMiB || done(*client); }));
  size_t under_way = 0;
  for (auto* client : uploads) under_way += done(*client) ? 0 : 1;
  ASSERT_GE(under_way, 3u) << "INVALID: they are over";
  ASSERT_TRUE(faults().kill("n2"));
  for (auto* client : uploads) EXPECT_TRUE(eventually([&] { return done(*client); }, 30s)) << "upload " << local(*client).str();
  expect_none_lost({"n1", "n3"}, under_way);
  std::printf("owner of %zu uploads killed: longest time without an acknowledgement %.0f ms\n", under_way, longest_of(uploads));
}

// The second heir has it from the first, which had it from the dead.
TEST_F(Replicated, TwoDeathsInARow) {
  begin(4);
  ASSERT_NO_FATAL_FAILURE(gather("n2", 32 * kMiB));
  ASSERT_TRUE(faults().kill("n2"));
  go_on();
  std::string heir;
  ASSERT_TRUE(eventually([&] { return !(heir = owner(local(*crowd_.talking[0]))).empty(); }));
  ASSERT_NE(heir, "n2");
  auto left = others("n2");
  EXPECT_TRUE(eventually([&] { return recovered({heir}) >= crowd_.size(); })) << recoveries(heir);
  ASSERT_NO_FATAL_FAILURE(in_midst(heir));
  ASSERT_TRUE(faults().kill(heir));
  go_on();
  finish();
  std::erase(left, heir);
  expect_none_lost(left, crowd_.size());
  say_gaps("two deaths in a row");
}

// Of five nodes the three that are left are a majority.
TEST_F(Replicated, TwoDeathsAtOnceWithTwoBackups) {
  begin(5, 2);
  ASSERT_NO_FATAL_FAILURE(gather("n2"));
  std::vector<pid_t> both = scene().processes("n2");
  const auto backups = scene().processes("n3");
  both.insert(both.end(), backups.begin(), backups.end());
  kill_at_once(both);
  go_on();
  finish();
  expect_none_lost({"n1", "n4", "n5"}, crowd_.size());
  say_gaps("owner and first backup killed");
}

// Some of them are its own by then, others still the dead one's: the second backup has both, and of five nodes three are left.
TEST_F(Replicated, HeirDiesInMidRecovery) {
  begin(5, 2);
  ASSERT_NO_FATAL_FAILURE(gather("n2", 32 * kMiB, 500));
  ASSERT_NO_FATAL_FAILURE(listen());
  ASSERT_NO_FATAL_FAILURE(kill_in_mid_recovery("n2", "n3", crowd_.size()));
  go_on(10s);
  finish();
  expect_none_lost({"n1", "n4", "n5"}, crowd_.size());
  say_gaps("heir killed while it recovered");
}

// Its own backups have just been told, or not yet: the second backup of the first owner still has them.
TEST_F(Replicated, HeirDiesWhenItHasRecovered) {
  begin(5, 2);
  ASSERT_NO_FATAL_FAILURE(gather("n2", 32 * kMiB, 100));
  ASSERT_NO_FATAL_FAILURE(listen());
  const auto heir = scene().processes("n3");
  ASSERT_TRUE(faults().kill("n2"));
  ASSERT_TRUE(eventually([&] { return recovered({"n3"}) >= crowd_.size(); })) << recoveries("n3");
  kill_at_once(heir);
  go_on(10s);
  finish();
  expect_none_lost({"n1", "n4", "n5"}, crowd_.size());
  say_gaps("heir killed when it had recovered");
}

// A fifth of them at least are owed an answer when it dies: answers take 200 ms, thinking 500. More of them with GECKO_FULL. Every byte of each is compared.
TEST_F(Replicated, EverybodyInConversationWithADeadNodeGoesOn) {
  const size_t many = full_figures() ? 2000 : 300;
  begin(4);
  for (size_t i = 0; i < many; ++i) crowd_.talking.push_back(&ping(500ms));
  ASSERT_TRUE(swarm_->wait_connected(30s));
  const auto all_are_at = [&](const char* node) {
    const auto rows = ask().ask(node, {{"op", "connections"}});
    return rows && (*rows)["connections"].size() == many;
  };
  ASSERT_TRUE(eventually([&] { return all_are_at("n1"); }, 30s)) << "not all are accepted";
  ASSERT_NO_FATAL_FAILURE(all_to("n2"));
  ASSERT_TRUE(all_are_at("n2"));
  ASSERT_NO_FATAL_FAILURE(all_replicated("n2"));
  const auto slow = lab().link("n2", "client", {.delay_us = 200'000}, true);
  ASSERT_TRUE(slow) << slow.error().message;
  EXPECT_EQ(all_speak(crowd_.talking, 30s), 0u);
  size_t owed = 0;
  ASSERT_TRUE(eventually([&] {   // they speak nearly at once
    owed = 0;
    swarm_->call([&] {
      for (const auto* client : crowd_.talking) owed += client->totals().bytes_sent > client->totals().bytes_received;
    });
    return owed >= many / 5;
  })) << "INVALID: most of them rest";
  const Time death = monotonic_now();
  ASSERT_TRUE(faults().kill("n2"));
  const auto left = others("n2");
  EXPECT_TRUE(eventually([&] { return recovered(left) >= many; }, 30s)) << recoveries("n3");
  const double took = std::chrono::duration<double, std::milli>(monotonic_now() - death).count();
  EXPECT_EQ(all_speak(crowd_.talking, 30s), 0u);
  expect_none_lost(left, many);
  std::printf("owner of %zu conversations killed, %zu of them owed an answer: the last one lives after %.0f ms\n", many, owed, took);
}

TEST_F(Replicated, MovesThenDies) {
  begin(4);
  ASSERT_NO_FATAL_FAILURE(gather("n1", 32 * kMiB));
  for (const char* node : {"n2", "n3", "n4", "n2", "n3", "n1", "n4", "n3"}) ASSERT_NO_FATAL_FAILURE(all_to(node));
  ASSERT_NO_FATAL_FAILURE(in_midst("n3"));
  ASSERT_TRUE(faults().kill("n3"));
  go_on();
  finish();
  expect_none_lost(others("n3"), crowd_.size());
}

// The socket stays the same, and so does its place in the mirrors; the program's side of it is another one.
TEST_F(Replicated, HandedOffToItsOwnNodeThenDies) {
  begin();
  ASSERT_NO_FATAL_FAILURE(gather("n2", 32 * kMiB));
  for (int i = 0; i < 3; ++i)
    for (auto* client : crowd_.talking) ASSERT_NO_FATAL_FAILURE(move(local(*client), "n2"));
  for (auto* client : crowd_.idle) ASSERT_NO_FATAL_FAILURE(move(local(*client), "n2"));
  for (auto* client : crowd_.uploads) ASSERT_NO_FATAL_FAILURE(move(local(*client), "n2"));
  ASSERT_NO_FATAL_FAILURE(in_midst("n2"));
  ASSERT_TRUE(faults().kill("n2"));
  go_on();
  finish();
  expect_none_lost(others("n2"), crowd_.size());
}

TEST_F(Replicated, BackupDies) {
  begin(4);
  ASSERT_NO_FATAL_FAILURE(gather("n2", 32 * kMiB));
  ASSERT_TRUE(faults().kill("n3"));
  go_on();
  EXPECT_LT(longest_of(crowd_.talking), 1000);
  EXPECT_LT(longest_of(crowd_.uploads), 1000);
  EXPECT_EQ(recovered({"n1", "n2", "n4"}), 0u);
  say_gaps("backup killed");
  // The new one has everything.
  ASSERT_NO_FATAL_FAILURE(in_midst("n2"));
  ASSERT_TRUE(faults().kill("n2"));
  go_on();
  finish();
  expect_none_lost({"n1", "n4"}, crowd_.size());
}

TEST_F(Replicated, GeckodRestarts) {
  begin();
  ASSERT_NO_FATAL_FAILURE(gather("n2", 32 * kMiB));
  if (!restarts_in_time("n2")) {
    may_be_lost = crowd_.size();
    GTEST_SKIP() << "no processor for geckod: its connections are the others' by now";
  }
  go_on();
  say_gaps("geckod killed and started");
  ASSERT_NO_FATAL_FAILURE(in_midst("n2"));
  ASSERT_TRUE(faults().kill("n2"));
  go_on();
  finish();
  expect_none_lost({"n1", "n3"}, crowd_.size());
}

TEST_F(Replicated, FarAway) {
  begin();
  for (const auto& node : scene().nodes()) ASSERT_TRUE(faults().link("client", node, {.delay_us = 30'000}));
  std::vector<kit::Client*> streams;
  for (int i = 0; i < 4; ++i) streams.push_back(&download(16 * kMiB));
  for (int i = 0; i < 4; ++i) streams.push_back(&upload(16 * kMiB));
  ASSERT_NO_FATAL_FAILURE(connected());
  ASSERT_NO_FATAL_FAILURE(all_to("n3"));
  ASSERT_NO_FATAL_FAILURE(all_replicated("n3"));
  for (auto* client : streams) ASSERT_TRUE(moves_on(*client)) << "INVALID: it is over or stands still";
  ASSERT_TRUE(faults().kill("n3"));
  for (auto* client : streams) EXPECT_TRUE(eventually([&] { return done(*client); }, 30s)) << local(*client).str();
  expect_none_lost({"n1", "n2"}, streams.size());
  ASSERT_TRUE(faults().unlink_all());
}

TEST_F(Replicated, NothingIsAcknowledgedThatTheBackupDoesNotHave) {
  begin();
  auto& client = upload(16 * kMiB, 4'000);
  ASSERT_NO_FATAL_FAILURE(upload_without_backup(client));
  ASSERT_NO_FATAL_FAILURE(heal_link("n2", "n3"));
  EXPECT_TRUE(eventually([&] { return done(client); }, 30s)) << row("n2", "connections", client);
}

// What geckod says to the client so that it goes on after a freeze is no way around the backup either.
TEST_F(Replicated, NothingIsAcknowledgedByAMoveThatTheBackupDoesNotHave) {
  begin();
  auto& client = upload(16 * kMiB, 4'000);
  ASSERT_NO_FATAL_FAILURE(upload_without_backup(client));
  const uint64_t before = acknowledged(client);
  for (int i = 0; i < 20; ++i) ASSERT_NO_FATAL_FAILURE(move(local(client), "n2"));
  EXPECT_LE(acknowledged(client), row("n3", "mirrors", client)["input"]["end"].get<uint64_t>()) << "before: " << before;
  ASSERT_TRUE(faults().kill("n2"));
  EXPECT_TRUE(eventually([&] { return done(client); }, 30s)) << row("n3", "connections", client);
  expect_none_lost({"n1", "n3"}, 1);
}

TEST_F(Replicated, AnOwnerDiesThatItsBackupHasNotHeardForAWhile) {
  begin();
  auto& client = upload(16 * kMiB, 4'000);
  ASSERT_NO_FATAL_FAILURE(upload_without_backup(client));
  ASSERT_TRUE(faults().kill("n2"));
  EXPECT_TRUE(eventually([&] { return done(client); }, 30s)) << row("n3", "connections", client);
  expect_none_lost({"n1", "n3"}, 1);
}

// gecko-stream makes one for each MiB; what it then writes waits, although nothing has been read.
TEST_F(Replicated, NothingIsSentAfterACheckpointThatTheBackupDoesNotHave) {
  begin();
  auto& client = download(32 * kMiB, 4'000);
  ASSERT_NO_FATAL_FAILURE(connected());
  ASSERT_NO_FATAL_FAILURE(all_to("n2"));
  ASSERT_NO_FATAL_FAILURE(all_replicated("n2"));
  ASSERT_TRUE(moves_on(client)) << "INVALID: the download is over or stands still";
  ASSERT_NO_FATAL_FAILURE(cut_link("n2", "n3"));
  const auto held = row("n3", "mirrors", client);
  ASSERT_TRUE(held.contains("checkpoint")) << held;
  ASSERT_TRUE(stands_still(client));
  constexpr uint64_t kLastWrite = 64 * 1024;
  EXPECT_LE(totals(client).bytes_received, held["checkpoint"]["output"].get<uint64_t>() + kMiB + kLastWrite);
  ASSERT_FALSE(done(client));
  ASSERT_TRUE(faults().kill("n2"));
  EXPECT_TRUE(eventually([&] { return done(client); }, 30s)) << row("n3", "connections", client);
  expect_none_lost({"n1", "n3"}, 1);
}

// Beside replicated ones, on the same node.
TEST_F(Replicated, AProgramMayDoWithout) {
  begin(3, 1, true);
  kit::Client& echo = talk();
  auto& client = upload(16 * kMiB, 4'000);
  ASSERT_NO_FATAL_FAILURE(connected());
  ASSERT_NO_FATAL_FAILURE(all_to("n2"));
  ASSERT_TRUE(eventually([&] { return row("n2", "connections", client).value("replicated", false); }));
  const auto fast = row("n2", "connections", echo);
  EXPECT_TRUE(fast.contains("replicated") && !fast["replicated"].get<bool>()) << fast;
  ASSERT_NO_FATAL_FAILURE(cut_link("n2", "n3"));
  const uint64_t repeated = totals(client).retransmits;
  ASSERT_TRUE(eventually([&] { return totals(client).retransmits >= repeated + 3; }, 10s)) << "INVALID: the backup is not missed";
  EXPECT_TRUE(progresses(echo));
  ASSERT_NO_FATAL_FAILURE(heal_link("n2", "n3"));
  EXPECT_TRUE(eventually([&] { return done(client); }, 30s));
  EXPECT_LT(longest_ms(echo), 1000);
}

}  // namespace
}  // namespace gecko::system_test
