#include "protected_scene.hh"

#include <algorithm>
#include <map>

namespace gecko::system_test {

void ProtectedScene::begin(const std::string& recovery, int nodes, bool two_available) {
  RecoveryTest::begin({.name = "pft", .nodes = nodes, .two_available = two_available, .recovery = recovery});
}

void ProtectedScene::serve(const std::string& owner, int talking, int resting) {
  owner_ = owner;
  for (int i = 0; i < talking; ++i) talking_.push_back(&ping(2ms, true));
  for (int i = 0; i < resting; ++i) resting_.push_back(&ping(1h));
  ASSERT_NO_FATAL_FAILURE(connected());
  ASSERT_NO_FATAL_FAILURE(give_all_to(owner));
  ASSERT_NO_FATAL_FAILURE(all_protected(owner));
  life_ = life(owner);
  ASSERT_NE(life_, "");
  ASSERT_NO_FATAL_FAILURE(listen());
  for (auto* client : talking_) ASSERT_TRUE(progresses(*client)) << "INVALID: " << local(*client).str() << " does not talk";
}

size_t ProtectedScene::settle(Duration at_most) {
  std::vector<kit::Client*> all = talking_;
  std::map<kit::Client*, uint64_t> before;
  swarm_->call([&] {
    for (auto* client : resting_) before[client] = client->totals().exchanges, client->speak();
  });
  size_t ended = all_speak(all, at_most);
  for (auto* client : resting_) {
    EXPECT_TRUE(eventually([&] { return done(*client) || totals(*client).exchanges > before[client]; }, at_most))
        << "a connection that rested hangs: " << local(*client).str() << ", owner '" << owner(local(*client)) << "'";
    ended += done(*client) ? 1 : 0;
  }
  may_be_lost = ended;
  return ended;
}

void ProtectedScene::nothing_has_happened() {
  EXPECT_EQ(settle(), 0u) << "its owner has lived all the time";
  may_be_lost = 0;
  EXPECT_EQ(life(owner_), life_) << "it counts as dead";
  EXPECT_EQ(recovered(scene().nodes()), 0u);
  const auto rows = ask().ask(owner_, {{"op", "connections"}});
  ASSERT_TRUE(rows);
  EXPECT_EQ((*rows)["connections"].size(), clients());
}

void ProtectedScene::recovered_elsewhere(Duration at_most) {
  const auto left = others(owner_);
  EXPECT_TRUE(eventually([&] { return recovered(left) >= clients(); }, at_most)) << recoveries(left.front()) << recoveries(left.back());
  const size_t ended = settle(at_most);
  EXPECT_LE(ended, talking_.size() / 3) << "of those that were in the midst of an exchange";
  for (auto* client : resting_) EXPECT_FALSE(done(*client)) << "it was at rest, its mirror complete: " << local(*client).str();
}

void ProtectedScene::whole() {
  ASSERT_TRUE(everybody_is_member(30s)) << membership(owner_);
  std::map<std::string, size_t> owners;
  EXPECT_TRUE(eventually([&] {
    owners.clear();
    size_t guarded = 0;
    for (const auto& node : scene().nodes()) {
      const auto rows = ask().ask(node, {{"op", "connections"}}, 1s);
      if (!rows) return false;
      for (const auto& row : (*rows)["connections"]) ++owners[row.value("client", "")], guarded += row.value("protected", false) ? 1 : 0;
    }
    return owners.size() == swarm_->open_connections() && guarded == owners.size();
  }, 10s)) << owners.size() << " connections are known, of " << swarm_->open_connections() << "; or some are not protected again";
  for (const auto& [client, count] : owners) EXPECT_EQ(count, 1u) << client << " is at " << count << " nodes";
}

void ProtectedScene::say(const std::string& what) {
  double longest = 0;
  for (auto* client : talking_) longest = std::max(longest, longest_ms(*client));
  std::printf("%s: longest silence %.0f ms, %zu of %zu connections ended; its owner's life %s\n", what.c_str(), longest, may_be_lost, clients(),
              life(owner_) == life_ ? "goes on" : "is another one");
}

void ProtectedScene::expelled() {
  const auto left = others(owner_);
  const Names rest(left.begin(), left.end());
  ASSERT_TRUE(eventually([&] { return members(left.front()) == rest && members(left.back()) == rest; })) << membership(left.front());
}

std::vector<nlohmann::json> ProtectedScene::events(const std::string& at, const std::string& kind, uint64_t since) {
  std::vector<nlohmann::json> found;
  for (bool more = true; more;) {
    const auto answer = ask().ask(at, {{"op", "events"}, {"since", since}});
    EXPECT_TRUE(answer) << answer.error().message;
    if (!answer) break;
    for (const auto& event : (*answer)["events"])
      if (event.value("kind", "") == kind) found.push_back(event);
    since = answer->value("seq", since);
    more = answer->value("more", false);
  }
  return found;
}

uint64_t ProtectedScene::last_event(const std::string& at) {
  const auto answer = ask().ask(at, {{"op", "events"}});
  EXPECT_TRUE(answer) << answer.error().message;
  return answer ? answer->value("seq", uint64_t{0}) : 0;
}

bool ProtectedScene::suspected() {
  return std::ranges::any_of(others(owner_), [&](const auto& node) {
    return std::ranges::any_of(events(node, "suspicion"), [&](const auto& event) { return event.value("peer", "") == owner_; });
  });
}

}  // namespace gecko::system_test
