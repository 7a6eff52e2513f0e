// The clients of a chaos run: who they are, which node has each, how and when each ended. A client that ended is counted once and replaced by another
// of its kind, so that the load stays.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "judge.hh"
#include "kit/scene.hh"
#include "kit/swarm.hh"

namespace gecko::bench {

class Crowd {
 public:
  static Result<std::unique_ptr<Crowd>> gather(const kit::Scene& scene, uint64_t seed);
  void plant(const Endpoint& server);  // one more, an echo client of a server that is no node's

  // Notes who has ended since, and when. Cheap; often, so that times are right.
  void look();
  // From now on everybody is expected to speak: those that rest are made to, and those that only wait ask whether their connection still is.
  void expect_words();
  bool all_spoke();  // or ended
  // What the nodes say of connections, by "client -> server": at which they are, and which are not protected, with the reason. True if every steady one
  // that lives is at exactly one, and protected; else `missing` says what is not.
  bool place(const std::multimap<std::string, int>& where, const std::map<std::string, std::string>& unprotected, std::string& missing);
  void remember_places();  // as place() found them last: what moved() changes and report() tells
  // What a move may have changed: the connections of this address, of this node, or (neither given) all may be at one of `to`.
  struct Moved {
    std::optional<size_t> address;
    std::optional<int> from;
    std::set<int> to;
    Time began;           // who had ended before is not meant
    bool surely = false;  // all of them are there now
  };
  void moved(const Moved& move);
  void give_up_silent();  // who has not spoken since expect_words(): stuck
  // Everybody as seen now; who has ended is told of once and replaced. `start`: of the run, for times.
  std::vector<Seen> report(Time start);
  size_t at(int node) const;
  bool complete();  // nobody has ended since the last report
  kit::Totals wind_down(Duration at_most) { return swarm_->wind_down(at_most); }
  kit::Totals totals() { return swarm_->totals(); }
  size_t size() const { return members_.size(); }

 private:
  struct Member {
    Kind kind;
    size_t address;
    kit::Client* client;
    bool planted = false;
    std::set<int> at = {};      // as place() found it
    std::set<int> owners = {};  // as remembered, and moved since
    uint64_t served = 0;  // exchanges, when words were expected
    End end = End::none;
    Time ended{};
    std::string text = {};
  };
  Crowd(const kit::Scene& scene, uint64_t seed) : scene_(scene), seed_(seed) {}
  kit::Client* make(Kind kind, size_t address);
  bool spoke(const Member& member) const;  // on the swarm's thread

  const kit::Scene& scene_;
  std::unique_ptr<kit::Swarm> swarm_;
  std::vector<Member> members_;
  uint64_t seed_;
  Time expected_{};
};

}  // namespace gecko::bench
