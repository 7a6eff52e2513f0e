// The keys of a running group: replaced node by node, and revoked, while clients talk (docs/adr/0031; S14 of docs/threat-model.md).
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <thread>

#include "config/keys.hh"
#include "recovery_scene.hh"

namespace gecko::system_test {
namespace {

using Pointer = nlohmann::json::json_pointer;

class Keys : public RecoveryTest {
 protected:
  // Ping-pongs at every node, protected.
  void serve(const kit::SceneOptions& options) {
    ASSERT_NO_FATAL_FAILURE(set_up(options));
    const auto all = lab().geckods();
    ASSERT_TRUE(eventually([&] { return all_see(Names(all.begin(), all.end())) && std::ranges::all_of(all, [&](const auto& node) { return leases(node); }); },
                           20s)) << membership("n1");
    for (size_t i = 0; i < 4 * scene().nodes().size(); ++i) pings_.push_back(&ping(2ms, true));
    ASSERT_NO_FATAL_FAILURE(connected());
    for (size_t i = 0; i < pings_.size(); ++i) {
      const std::string to = scene().nodes()[i / 4];
      if (owner(local(*pings_[i])) != to) {
        ASSERT_NO_FATAL_FAILURE(move(local(*pings_[i]), to));
      }
    }
    for (const auto& node : scene().nodes()) ASSERT_NO_FATAL_FAILURE(all_protected(node));
  }
  void everybody_goes_on() {
    for (auto* client : pings_) EXPECT_TRUE(progresses(*client)) << local(*client).str();
  }
  double longest_silence_ms() {
    double ms = 0;
    for (auto* client : pings_) ms = std::max(ms, longest_ms(*client));
    return ms;
  }

  std::string authority() { return lab().directory() + "/keys/ca"; }
  std::string keys_of(const std::string& node) { return lab().directory() + "/keys/" + node; }
  std::string serial(const std::string& node) {
    const auto certificate = config::key_show(keys_of(node) + "/node.crt");
    EXPECT_TRUE(certificate) << certificate.error().message;
    return certificate ? certificate->serial : "";
  }
  void new_key(const std::string& node) {
    const auto made = config::key_sign(authority(), node, keys_of(node));
    ASSERT_TRUE(made) << made.error().message;
  }
  void revoke(const std::string& serial) {
    const auto revoked = config::key_revoke(authority(), serial);
    ASSERT_TRUE(revoked) << revoked.error().message;
  }
  void install_list(const std::string& node) {
    std::filesystem::copy_file(authority() + "/revoked.txt", keys_of(node) + "/revoked.txt", std::filesystem::copy_options::overwrite_existing);
  }
  // As `systemctl reload geckod`.
  void reload(const std::string& node) {
    const size_t before = logged(node, ": keys reloaded");
    ASSERT_EQ(::kill(geckod(lab(), node, Half::unprivileged), SIGHUP), 0);
    ASSERT_TRUE(eventually([&] { return logged(node, ": keys reloaded") > before; })) << node;
  }
  void reload_with_list(const std::string& node) {
    install_list(node);
    reload(node);
  }
  bool all_linked() {
    const auto all = lab().geckods();
    return std::ranges::all_of(all, [&](const auto& via) {
      const auto g = group(via);
      return g.contains("nodes") && std::ranges::all_of(g["nodes"], [](const auto& row) { return row["state"] == "ok" || row["state"] == "self"; });
    });
  }
  uint64_t view(const std::string& via) { return membership(via).value(Pointer("/view/epoch"), uint64_t{0}); }
  bool all_see(const Names& wanted) {
    return std::ranges::all_of(wanted, [&](const auto& via) { return members(via) == wanted; });
  }
  // Since then: out of the view of all that are left, and without its lease.
  void is_out_within_a_second(const std::string& node, Time since) {
    const auto all = lab().geckods();
    Names left(all.begin(), all.end());
    left.erase(node);
    EXPECT_TRUE(eventually([&] { return all_see(left) && !leases(node); }, 5s)) << membership(*left.begin()) << membership(node);
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(monotonic_now() - since);
    std::printf("%s is out of the view and without its lease after %lld ms\n", node.c_str(), static_cast<long long>(took.count()));
    EXPECT_LT(took, 1s);
  }
  // Nothing of it is let in by anybody. What was recovered leaves the view once.
  void stays_out(const std::string& node, const std::string& via) {
    const uint64_t before = view(via);
    std::this_thread::sleep_for(2s);   // it asks to join all the time
    EXPECT_LE(view(via), before + 1) << "the view flaps";
    EXPECT_FALSE(members(via).contains(node));
    EXPECT_FALSE(leases(node));
  }
  void comes_back(const std::string& node) {
    ASSERT_NO_FATAL_FAILURE(new_key(node));
    ASSERT_NO_FATAL_FAILURE(reload(node));
    const auto all = lab().geckods();
    EXPECT_TRUE(eventually([&] { return all_see(Names(all.begin(), all.end())) && leases(node); }, 10s)) << membership(node) << membership(all[0]);
  }

  std::vector<kit::Client*> pings_;
};

TEST_F(Keys, AllAreReplacedAndTheOldOnesRevokedUnderLoad) {
  ASSERT_NO_FATAL_FAILURE(serve({.name = "key", .recovery = "fast"}));
  std::vector<kit::Client*> downloads;
  for (int i = 0; i < 3; ++i) downloads.push_back(&download(24u << 20, 2'000));
  ASSERT_NO_FATAL_FAILURE(connected());
  const uint64_t before = view("n1");
  std::vector<std::string> old;
  for (const auto& node : lab().nodes()) {
    old.push_back(serial(node));
    ASSERT_NO_FATAL_FAILURE(new_key(node));
    ASSERT_NO_FATAL_FAILURE(reload(node));
    ASSERT_NE(serial(node), old.back());
    EXPECT_TRUE(eventually([&] { return all_linked(); })) << status(node);
    ASSERT_NO_FATAL_FAILURE(move(local(*pings_[0]), owner(local(*pings_[0])) == "n2" ? "n3" : "n2"));   // over the new links
  }
  EXPECT_GE(logged("n1", "to be made again with this node's new key"), 2u) << "INVALID: no link was made with a new key";
  for (const auto& one : old) ASSERT_NO_FATAL_FAILURE(revoke(one));
  std::map<std::string, size_t> ended;
  for (const auto& node : lab().nodes()) ended[node] = logged(node, " is down: ");
  for (const auto& node : lab().nodes()) ASSERT_NO_FATAL_FAILURE(reload_with_list(node));
  everybody_goes_on();
  for (const auto& node : lab().nodes()) {
    EXPECT_EQ(logged(node, "is shut out"), 0u) << node;
    EXPECT_EQ(logged(node, " is down: "), ended[node]) << "a link of " << node << " had an old key";
    EXPECT_EQ(logged(node, "the lease of this node has ended"), 0u) << node;
    EXPECT_EQ(view(node), before) << node << ": somebody has left the view";
  }
  EXPECT_EQ(recovered(lab().nodes()), 0u);
  for (auto* client : downloads) EXPECT_TRUE(eventually([&] { return done(*client); }, 30s)) << local(*client).str();
  std::printf("longest silence of a ping-pong while all keys were replaced and revoked: %.0f ms\n", longest_silence_ms());
}

TEST_F(Keys, WhoIsRevokedIsOutWithinASecondAndItsConnectionsGoOn) {
  ASSERT_NO_FATAL_FAILURE(serve({.name = "key", .recovery = "fast"}));
  ASSERT_NO_FATAL_FAILURE(revoke(serial("n3")));
  for (const char* node : {"n1", "n2"}) install_list(node);
  for (const char* node : {"n1", "n2"}) ASSERT_EQ(::kill(geckod(lab(), node, Half::unprivileged), SIGHUP), 0);
  is_out_within_a_second("n3", monotonic_now());
  everybody_goes_on();
  EXPECT_TRUE(eventually([&] { return recovered({"n1", "n2"}) >= 4; })) << recoveries("n1");
  std::printf("longest silence of a ping-pong: %.0f ms\n", longest_silence_ms());
  EXPECT_GE(logged("n3", "does not take this node's key any more"), 1u);
  stays_out("n3", "n1");
  EXPECT_GE(logged("n1", "a heartbeat with a key that no node here has"), 1u);
  comes_back("n3");
  everybody_goes_on();
}

// The operator reloads one node after the other, and this list names the contact: where nobody has heard of it yet it is not let in again.
TEST_F(Keys, OneReloadedNodeIsEnoughToPutTheContactOut) {
  ASSERT_NO_FATAL_FAILURE(serve({.name = "key", .recovery = "fast"}));
  ASSERT_EQ(contact("n2"), "n1");
  ASSERT_NO_FATAL_FAILURE(revoke(serial("n1")));
  install_list("n3");
  ASSERT_EQ(::kill(geckod(lab(), "n3", Half::unprivileged), SIGHUP), 0);
  is_out_within_a_second("n1", monotonic_now());
  EXPECT_TRUE(eventually([&] { return contact("n2") == contact("n3") && contact("n2") != "n1"; })) << membership("n2");
  everybody_goes_on();
  stays_out("n1", "n2");
  ASSERT_NO_FATAL_FAILURE(reload_with_list("n2"));
  stays_out("n1", "n2");
  comes_back("n1");
  everybody_goes_on();
}

TEST_F(Keys, AListThatNamesTheNodeItselfChangesNothingThere) {
  ASSERT_NO_FATAL_FAILURE(serve({.name = "key", .recovery = "fast"}));
  const uint64_t before = view("n1");
  ASSERT_NO_FATAL_FAILURE(revoke(serial("n2")));
  ASSERT_NO_FATAL_FAILURE(reload_with_list("n2"));
  EXPECT_EQ(logged("n2", "is revoked (serial"), 1u);
  EXPECT_EQ(logged("n2", "sign a new one with 'gecko key sign'"), 1u);
  everybody_goes_on();
  EXPECT_EQ(view("n1"), before);
  EXPECT_TRUE(all_linked());
}

// Its lease keeper lives on, with the keys of before. Not n1: n3's connections are mirrored in that geckod's memory.
TEST_F(Keys, ARestartWithTheListShutsOutLikeAReload) {
  ASSERT_NO_FATAL_FAILURE(serve({.name = "key", .recovery = "fast"}));
  ASSERT_NO_FATAL_FAILURE(revoke(serial("n3")));
  install_list("n2");
  kill_geckod("n2");
  ASSERT_TRUE(faults().start("n2"));
  EXPECT_TRUE(eventually([&] { return all_see({"n1", "n2"}) && !leases("n3"); })) << membership("n2");
  EXPECT_EQ(logged("n2", "goes on with the life of the geckod before"), 1u) << "INVALID: it had no keys any more";
  everybody_goes_on();
  stays_out("n3", "n1");
}

// The witness has not heard of it: it votes for the removal, and lets nobody in.
TEST_F(Keys, BesideAWitnessEitherNodeIsPutOutAndTheWitnessToo) {
  ASSERT_NO_FATAL_FAILURE(serve({.name = "key", .nodes = 2, .witness = true, .recovery = "fast"}));
  ASSERT_NO_FATAL_FAILURE(revoke(serial("n2")));
  install_list("n1");
  ASSERT_EQ(::kill(geckod(lab(), "n1", Half::unprivileged), SIGHUP), 0);
  is_out_within_a_second("n2", monotonic_now());
  everybody_goes_on();
  stays_out("n2", "w");
  comes_back("n2");
  ASSERT_NO_FATAL_FAILURE(revoke(serial("w")));
  for (const char* node : {"n1", "n2"}) ASSERT_NO_FATAL_FAILURE(reload_with_list(node));
  EXPECT_TRUE(eventually([&] { return all_see({"n1", "n2"}); })) << membership("n1");
  stays_out("w", "n1");
  everybody_goes_on();
}

}  // namespace
}  // namespace gecko::system_test
