// A group that recovers, clients at one of its nodes that talk all the time and some that rest, and who says what on every cable: what faults are done to
// in protected_faults_test and its neighbours. A test ends with the group whole again, no byte wrong, nobody hanging, and never two owners heard.
#pragma once

#include "recovery_scene.hh"

namespace gecko::system_test {

class ProtectedScene : public RecoveryTest {
 protected:
  void begin(const std::string& recovery = "fast", int nodes = 3, bool two_available = false);
  // All at `owner`, protected, and in the midst of talking.
  void serve(const std::string& owner, int talking = 6, int resting = 4);
  size_t clients() const { return talking_.size() + resting_.size(); }

  // Everybody speaks or has been told, those that rested too; how many have ended. Nobody hangs.
  size_t settle(Duration at_most = 10s);
  // The owner has lived all the time: nobody has ended, nothing has changed hands.
  void nothing_has_happened();
  // The owner has died: the others have all of its connections. Only what was in the midst of an exchange may have ended, and little of it.
  void recovered_elsewhere(Duration at_most = 10s);
  // All are members, and each connection that is left is at exactly one node, and protected.
  void whole();
  void say(const std::string& what);   // and the silence that the talking ones have seen

  // Waits until the others' view is without the owner, which also ends its lease.
  void expelled();
  // What a node tells of one kind of event (docs/protocol/events.md), after number `since`.
  std::vector<nlohmann::json> events(const std::string& at, const std::string& kind, uint64_t since = 0);
  uint64_t last_event(const std::string& at);
  bool suspected();   // the owner, by another node

  std::string owner_, life_;
  std::vector<kit::Client*> talking_;
  std::vector<kit::PingClient*> resting_;
};

}  // namespace gecko::system_test
