// The application's policy for new clients, with real geckods: the contact hands them off before the application has seen them.
#include <map>

#include "fault_scene.hh"

namespace gecko::system_test {
namespace {

class NewClientPolicy : public FaultTest {
 protected:
  uint64_t handoffs(const char* what) { return status("n1")["groups"][0]["handoffs"].value(what, uint64_t{0}); }
};

TEST_F(NewClientPolicy, SpreadsClientsOverTheNodes) {
  kill_process(process_named(lab(), "n1", "gecko-echo"));
  ASSERT_TRUE(eventually([&] { return status("n1")["groups"][0]["applications"] == 1; }));   // else the dead one may be counted for the new
  restart_application("n1", "round-robin");
  ASSERT_TRUE(eventually([&] { return status("n1")["groups"][0]["applications"] == 2; }));
  constexpr size_t kClients = 9;
  std::vector<kit::PingClient*> clients;
  for (size_t i = 0; i < kClients; ++i) clients.push_back(&ping());
  connected();
  EXPECT_TRUE(eventually([&] { return handoffs("out_ok") >= kClients * 2 / 3; })) << handoffs("out_ok") << " moved";
  std::map<std::string, size_t> at;
  for (auto* client : clients) {
    EXPECT_TRUE(progresses(*client));
    ++at[owner(local(*client))];
  }
  for (const auto& node : scene().nodes()) EXPECT_EQ(at[node], kClients / 3) << node;
  EXPECT_EQ(handoffs("out_failed"), 0u);
}

}  // namespace
}  // namespace gecko::system_test
