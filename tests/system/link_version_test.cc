// Nodes of different versions: what a node says to one that speaks link version 3 or 2, with two real geckods and a man in the middle who
// changes their hellos (link_between.hh). And what a contact forgets while it is not contact.
#include <cstring>
#include <filesystem>
#include <fstream>

#include "bpf/steer_shared.h"
#include "fault_scene.hh"
#include "kernel_maps.hh"
#include "lab/daemon.hh"
#include "link_between.hh"

namespace gecko::system_test {
namespace {

using wire::LinkType;

class LinkVersion : public FaultTest {
 protected:
  static constexpr uint16_t kBetween = 7479;

  // n1 dials the man in the middle; n2 does not notice.
  void SetUp() override {
    kit::SceneOptions options;
    options.name = "lnk";
    options.nodes = 2;
    options.policy = "locality";   // has messages that only some nodes send
    ASSERT_NO_FATAL_FAILURE(set_up(options));
    // A group that knows no views: nodes of before had none, and heartbeats are sealed with keys of a session that no man is in the middle of.
    for (const char* node : {"n1", "n2"}) {
      auto all = geckods(node);
      all.push_back(lease_keeper(lab(), node));
      kill_at_once(all);
      std::filesystem::remove_all(lab().directory() + "/" + node + "/state");
    }
    ASSERT_TRUE(const_cast<lab::Lab&>(lab()).start("n2"));
    ASSERT_TRUE(eventually([&] { return ask().ask("n2", {{"op", "status"}}).has_value(); }, 30s));
  }
  void begin(uint16_t version, uint16_t version_min) {
    auto between = LinkBetween::start(lab(), "n1", "n2", kBetween);
    ASSERT_TRUE(between) << between.error().message;
    between_ = std::move(*between);
    between_->speak(version, version_min);
    std::string text = read_text(lab().group_file());
    const std::string before = "name = \"n2\"\n";
    ASSERT_NE(text.find(before), text.npos);
    text.insert(text.find(before) + before.size(), "port = " + std::to_string(kBetween) + "\n");
    const std::string file = lab().directory() + "/n1/group.toml";
    std::ofstream(file) << text;
    const auto program = lab::find_program("geckod");
    ASSERT_TRUE(program) << program.error().message;
    lab::SpawnOptions options;
    options.log_file = lab().log("n1");
    options.daemon = true;
    const std::vector<std::string> argv{*program, "--node", "n1", "--runtime-dir", lab().directory() + "/n1", "--state-dir", lab().directory() + "/n1/state",
                                           "--keys", lab().directory() + "/keys/n1", file};
    const auto started = lab().run("n1", argv, options);
    ASSERT_TRUE(started) << started.error().message;
    ASSERT_TRUE(eventually([&] { return ask().ask("n1", {{"op", "status"}}).has_value(); }, 30s));
  }
  void TearDown() override {
    FaultTest::TearDown();
    between_.reset();
  }
  // The row of the other node in a node's status.
  nlohmann::json row(const std::string& of) {
    const auto all = status(of);
    return all.contains("groups") ? all["groups"][0]["nodes"][of == "n1" ? 1 : 0] : nlohmann::json::object();
  }
  bool linked() {
    const auto whole = [](const nlohmann::json& row) { return row.value("state", "") == "ok" && row.value("applications", 0) == 2; };
    return whole(row("n1")) && whole(row("n2"));
  }
  size_t measured(const std::string& node) { return status(node)["groups"][0].value("measured_networks", nlohmann::json::array()).size(); }
  size_t newest() {   // messages of version 4
    size_t all = 0;
    for (uint16_t type = 57; type < 70; ++type)
      for (const bool first : {true, false}) all += between_->seen(static_cast<LinkType>(type), first);
    return all;
  }
  std::unique_ptr<LinkBetween> between_;
};

TEST_F(LinkVersion, ANodeTalksToOneOfTheVersionBefore) {
  ASSERT_NO_FATAL_FAILURE(begin(3, 2));
  ASSERT_TRUE(eventually([&] { return linked(); }, 30s)) << row("n1") << row("n2");
  const nlohmann::json ports{7007, 8080};
  EXPECT_TRUE(eventually([&] { return row("n1")["ports"] == ports && row("n2")["ports"] == ports; })) << row("n1") << row("n2");
  // Whoever serves other ports than before would say so.
  kill_process(process_named(lab(), "n2", "gecko-echo"));
  ASSERT_TRUE(eventually([&] { return row("n1").value("applications", 9) == 1; }));
  restart_application("n2");
  ASSERT_TRUE(eventually([&] { return linked(); }));
  // Connections move both ways, by command and by drain.
  auto& client = ping();
  auto& other = echo();
  connected();
  for (auto* moved : {static_cast<kit::Client*>(&client), static_cast<kit::Client*>(&other)}) {
    const Endpoint at = local(*moved);
    const std::string from = owner(at), to = from == "n1" ? "n2" : "n1";
    move(at, to);
    EXPECT_EQ(owner(at), to);
    EXPECT_TRUE(progresses(*moved));
    move(at, from);
    EXPECT_EQ(owner(at), from);
    EXPECT_TRUE(progresses(*moved));
  }
  for (const bool first : {true, false}) {
    EXPECT_GE(between_->seen(LinkType::commit, first), 2u) << "INVALID: nothing moved " << (first ? "from n1" : "to n1");
    EXPECT_GE(between_->seen(LinkType::active, first), 2u);
  }
  for (const std::string node : {"n1", "n2"}) {
    ASSERT_TRUE(ask().ask(node, {{"op", "drain"}, {"node", node}, {"action", "start"}}));
    EXPECT_TRUE(eventually([&] { return status(node)["groups"][0].value("connections", 9) == 0; })) << node;
    ASSERT_TRUE(ask().ask(node, {{"op", "drain"}, {"node", node}, {"action", "stop"}}));
    ASSERT_TRUE(eventually([&] { return !row("n1").value("draining", true) && !row("n2").value("draining", true); }));
    EXPECT_TRUE(progresses(client));
    EXPECT_TRUE(progresses(other));
  }
  // Each has measured how far its clients are (of connections that stay for a second), and kept it for itself.
  move(local(client), owner(local(client)) == "n1" ? "n2" : "n1");
  ASSERT_NE(owner(local(client)), owner(local(other)));
  ASSERT_TRUE(eventually([&] { return measured("n1") == 1 && measured("n2") == 1; })) << "INVALID: nothing that could have been told";
  EXPECT_TRUE(eventually([&] { return between_->seen(LinkType::paths, true) > 0 && between_->seen(LinkType::paths, false) > 0; }));
  EXPECT_EQ(newest(), 0u) << "a message of version 4 was sent to a node that speaks 3";
  // The same two, upgraded: now there is a view to be made, or to be gone on with.
  between_->speak(4, 3);
  ASSERT_TRUE(eventually([&] { return linked(); }, 30s));
  EXPECT_TRUE(eventually([&] { return between_->seen(LinkType::heartbeat_key, true) > 0 && between_->seen(LinkType::view_ask, false) > 0; }));
  EXPECT_TRUE(progresses(client));
}

TEST_F(LinkVersion, AnOlderOneIsRefusedAndBothSidesSayWhatToDo) {
  ASSERT_NO_FATAL_FAILURE(begin(1, 1));
  const std::string why = "the peer speaks link versions 1..1, this node 3..5; upgrade the peer first, one version at a time";
  for (const std::string node : {"n1", "n2"})
    EXPECT_TRUE(eventually([&] { return row(node).value("error", "").find(why) != std::string::npos; }, 30s)) << row(node);
  EXPECT_NE(row("n1").value("state", ""), "ok");
  for (const auto type : {LinkType::ping, LinkType::contact, LinkType::hints, LinkType::drain_wish, LinkType::serves, LinkType::paths})
    for (const bool first : {true, false}) EXPECT_EQ(between_->seen(type, first), 0u) << static_cast<int>(type);
  // One that is newer by one is the other's to refuse: it knows both versions.
  between_->speak(6, 5);
  EXPECT_TRUE(eventually([&] { return linked(); }, 30s)) << row("n1") << row("n2");
  between_->speak(7, 6);
  const std::string newer = "the peer speaks link versions 6..7, this node 3..5; upgrade the node first, one version at a time";
  for (const std::string node : {"n1", "n2"})
    EXPECT_TRUE(eventually([&] { return row(node).value("error", "").find(newer) != std::string::npos; }, 30s)) << row(node);
}

// What geckod on this node has told its steering program about a client network; false: nothing.
bool steers_by_distance(pid_t geckod, const Address& network) {
  bool found = false;
  for_each_key<gecko_near_key>(map_of(geckod, "gecko_nears"), [&](const gecko_near_key& key) {
    found = std::memcmp(key.prefix, network.bytes.data(), sizeof key.prefix) == 0;
    return !found;
  });
  return found;
}

// A node that is not contact forgets as well: what its steering program learned in an earlier time as contact must not steer in the next.
TEST_F(LinkVersion, WhatIsNotKnownAnyMoreIsForgottenInEveryRole) {
  ASSERT_NO_FATAL_FAILURE(begin(3, 2));   // without views: the contact is where it is told to be
  ASSERT_TRUE(eventually([&] { return linked(); }, 30s)) << row("n1") << row("n2");
  const auto contact = [&](const std::string& node) {
    ASSERT_TRUE(ask().ask("n1", {{"op", "contact"}, {"node", node}}));
    ASSERT_TRUE(eventually([&] { return status("n1")["groups"][0].value("contact", "") == node && status("n2")["groups"][0].value("contact", "") == node; }));
  };
  ASSERT_NO_FATAL_FAILURE(contact("n1"));
  const Address network = *Address::parse("2001:db8:77::");
  const pid_t steers = geckod(lab(), "n1", Half::privileged);
  ASSERT_GT(steers, 0);
  ASSERT_FALSE(steers_by_distance(steers, network));
  between_->say_to_first(LinkType::paths, wire::Paths{{{network, 900}}});
  ASSERT_TRUE(eventually([&] { return steers_by_distance(steers, network); }));
  ASSERT_NO_FATAL_FAILURE(contact("n2"));
  // More networks than are remembered: this one is displaced.
  wire::Paths others;
  for (uint32_t i = 0; i < 9 * wire::kMaxPaths; ++i) {
    others.paths.push_back({Address::from_v4(0x0a000000 + (i << 8)), 900});
    if (others.paths.size() == wire::kMaxPaths) between_->say_to_first(LinkType::paths, std::exchange(others, {}));
  }
  EXPECT_TRUE(eventually([&] { return !steers_by_distance(steers, network); })) << "its steering program keeps what nobody knows any more";
  ASSERT_NO_FATAL_FAILURE(contact("n1"));
  EXPECT_TRUE(eventually([&] { return steers_by_distance(steers, *Address::parse("10.35.0.0")); })) << "INVALID: what is known was not told";
  EXPECT_FALSE(steers_by_distance(steers, network));
}

}  // namespace
}  // namespace gecko::system_test
