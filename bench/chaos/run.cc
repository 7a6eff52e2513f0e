#include "run.hh"

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "crowd.hh"
#include "kit/interrupt.hh"
#include "kit/scene.hh"
#include "planted.hh"
#include "strike.hh"

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;
using Pointer = Json::json_pointer;

constexpr int kLook_ms = 10;           // how exactly it is known when a client ended
constexpr Duration kPeace = 500ms;     // before each strike, at least
constexpr Duration kWindDown = 30s;    // a download that has just begun takes 5 s
constexpr Duration kEmpty = 20s;       // until nobody knows the connections of clients that are gone
constexpr Duration kReplace = 5s;      // beyond the promise: how often clients that ended are replaced
constexpr size_t kApplications = 2;    // of each node

double ms(Duration d) { return kit::us(d) / 1000; }

std::string seconds(Duration d) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", std::chrono::duration<double>(d).count());
  return text;
}

struct Group {
  std::multimap<std::string, int> where;           // "client -> server": node
  std::map<std::string, std::string> unprotected;  // client endpoint: why
  std::map<int, std::string> lives;
  std::vector<int> draining;
  std::string missing;  // until the group is whole; empty: it is
};

class Mover {
 public:
  // `struck`: the strike has begun.
  Mover(const kit::Scene& scene, const Strike& strike, bool recovers, const std::atomic<bool>& struck)
      : scene_(scene), strike_(strike), recovers_(recovers), struck_(struck), ask_(scene.lab()) {}
  // Carries the strike's moves out, from `turn` on.
  void run(Time turn) {
    for (const auto& move : strike_.meanwhile) {
      while (monotonic_now() < turn + move.after && !kit::interrupted()) ::poll(nullptr, 0, 1);
      carry_out(move);
    }
    for (const auto& node : drained_) (void)ask_.ask(via(), {{"op", "drain"}, {"node", node}, {"action", "stop"}, {"force", false}});
  }
  struct Done {
    Crowd::Moved moved;
    Time answered, kept = Time::max();  // kept: what was moved was seen to be protected; before, it may end with its new owner
  };
  std::vector<Done> done;
  uint64_t moved = 0;

 private:
  // The victim may not answer, and that is nobody's fault.
  std::string via() const { return "n" + std::to_string(strike_.victim % static_cast<int>(scene_.nodes().size()) + 1); }
  std::set<int> everybody() const {
    std::set<int> all;
    for (int node = 1; node <= static_cast<int>(scene_.nodes().size()); ++node) all.insert(node);
    return all;
  }
  // A move that is refused or not answered may still have happened in part.
  void carry_out(const Move& move) {
    const std::string node = "n" + std::to_string(move.node);
    Done one;
    Crowd::Moved& what = one.moved;
    what.began = monotonic_now();
    switch (move.what) {
      case Move::What::round:
        for (int to = move.node; !struck_ && !kit::interrupted(); to = to % static_cast<int>(scene_.nodes().size()) + 1) hand_off(move.client, to);
        return;
      case Move::What::handoff:
        hand_off(move.client, move.node);
        if (done.back().moved.surely && !struck_ && (!recovers_ || is_kept(node, move.client))) done.back().kept = monotonic_now();
        return;
      case Move::What::drain:
        what.from = move.node;
        what.to = everybody();
        drained_.push_back(node);
        (void)ask_.ask(via(), {{"op", "drain"}, {"node", node}, {"action", "start"}, {"force", false}});
        break;
      case Move::What::contact: (void)ask_.contact(via(), node); return;
      case Move::What::balance:
        what.to = everybody();
        (void)ask_.ask(via(), {{"op", "balance"}});
        break;
    }
    one.answered = monotonic_now();
    done.push_back(std::move(one));
  }
  void hand_off(size_t client, int to) {
    Done one;
    one.moved.address = client;
    one.moved.to = {to};
    one.moved.began = monotonic_now();
    const auto answer = ask_.handoff(via(), scene_.clients()[client].str(), "n" + std::to_string(to), 5s);
    if (answer) moved += answer->moved;
    one.moved.surely = answer && answer->refused == 0;
    one.answered = monotonic_now();
    done.push_back(std::move(one));
  }
  bool is_kept(const std::string& node, size_t client) {
    const auto rows = ask_.ask(node, {{"op", "connections"}}, 1s);
    if (!rows) return false;
    return std::ranges::all_of(rows->value("connections", Json::array()), [&](const Json& row) {
      const auto endpoint = Endpoint::parse(row.value("client", ""));
      return !endpoint || endpoint->address != scene_.clients()[client] || row.value("protected", false);
    });
  }

  const kit::Scene& scene_;
  const Strike& strike_;
  const bool recovers_;
  const std::atomic<bool>& struck_;
  kit::Operator ask_;
  std::vector<std::string> drained_;
};

class Run {
 public:
  explicit Run(const ChaosOptions& options) : options_(options), plan_(make_plan(options.plan)) {
    result_.tally = Tally({.kept = kept_by(options.recovery).value(), .beyond = options.plan.beyond});
    result_.planned = plan_.strikes.size();
  }

  Result<ChaosResult> go() {
    kit::SceneOptions scene;
    scene.name = options_.name;
    scene.ipv4 = options_.ipv4;
    scene.nodes = options_.plan.nodes;
    scene.client_addresses = static_cast<int>(options_.plan.client_addresses);
    scene.policy = "round-robin";  // every node has connections of every kind
    scene.recovery = options_.recovery;
    scene.backups = options_.backups;
    GECKO_TRY(scene_, kit::Scene::up(scene, kit::interrupted));
    disks_ = std::make_unique<Disks>(scene_->lab());
    auto done = play();
    if (!done || !result_.passed()) keep_logs();
    if (!done) return make_error(done.error().code, done.error().message + (result_.logs.empty() ? "" : "; logs are kept in " + result_.logs));
    return std::move(result_);
  }

 private:
  Status play() {
    GECKO_TRY(crowd_, Crowd::gather(*scene_, options_.plan.seed * 1'000'003));
    std::unique_ptr<Planted> planted;
    if (options_.planted) {
      GECKO_TRY(planted, Planted::serve(*scene_));
      crowd_->plant(planted->at());
    }
    start_ = monotonic_now();
    GECKO_CHECK(options_.plan.beyond ? everything_at_once() : one_after_the_other());
    result_.seconds = std::chrono::duration<double>(monotonic_now() - start_).count();
    return end();
  }

  bool recovers() const { return options_.recovery != "none"; }
  static Status still_running() { return kit::interrupted() ? Status(make_error(Errc::closed, "interrupted")) : Status{}; }

  // Looks at the clients until `done`.
  void watch(const std::function<bool()>& done) {
    while (!done() && !kit::interrupted()) {
      crowd_->look();
      ::poll(nullptr, 0, kLook_ms);
    }
  }

  Status one_after_the_other() {
    for (const auto& strike : plan_.strikes) {
      GECKO_CHECK(be_ready());
      if (given_up_) return {};
      const Time peace = monotonic_now();
      const uint64_t said = crowd_->totals().exchanges;
      watch([&] { return monotonic_now() >= std::max(start_ + strike.at, peace + kPeace); });
      result_.peace += monotonic_now() - peace;
      result_.peace_exchanges += crowd_->totals().exchanges - said;
      GECKO_CHECK(still_running());
      if (monotonic_now() > start_ + plan_.options.length) return {};  // the group has taken its time; what was done of the plan is in the result
      GECKO_CHECK(be_struck(strike));
      if (given_up_) return {};
    }
    return be_ready();
  }

  // The group is whole, every client is known at one node, protected, and has spoken: whoever ends from here to the next strike ends in peace.
  Status be_ready() {
    for (int round = 0;; ++round) {
      crowd_->expect_words();
      const bool whole = settle(monotonic_now());
      GECKO_CHECK(still_running());
      if (!whole) give_up("the group is not whole");
      crowd_->remember_places();
      if (given_up_) return {};
      if (crowd_->complete()) {
        if (round > 0 || is_spread()) return {};
        (void)scene_->ask().ask("n1", {{"op", "balance"}});  // a strike at a node that has nothing would show nothing
        continue;
      }
      for (const auto& seen : crowd_->report(start_)) result_.tally.peace(seen);
      if (round == 5) give_up("clients end while nothing is struck");
    }
  }

  bool is_spread() const {
    for (int node = 1; node <= options_.plan.nodes; ++node)
      if (crowd_->at(node) * 2 * static_cast<size_t>(options_.plan.nodes) < crowd_->size()) return false;
    return true;
  }

  Status be_struck(const Strike& strike) {
    const auto before = group_.lives;
    const size_t here = crowd_->at(strike.victim);
    const Time turn = monotonic_now();
    std::atomic<bool> begun = false;
    Mover mover(*scene_, strike, recovers(), begun);
    auto moving = std::async(std::launch::async, [&] { mover.run(turn); });
    auto striking = std::async(std::launch::async, [&] { return inflict(*scene_, *disks_, strike, turn + kLead, begun); });
    watch([&] { return striking.wait_for(0s) == std::future_status::ready; });
    const auto inflicted = striking.get();
    // A node serves until its lease ends, also while the others have begun to go on without it: who speaks to it then was not at rest.
    watch([&] { return !inflicted || monotonic_now() >= inflicted->over + kDecided; });
    if (inflicted) crowd_->expect_words();
    watch([&] { return moving.wait_for(0s) == std::future_status::ready; });
    moving.wait();
    if (!inflicted) return make_error(inflicted.error().code, name_of(strike) + ": " + inflicted.error().message);
    GECKO_CHECK(still_running());

    const bool whole = settle(inflicted->over);
    const Time now = monotonic_now();
    GECKO_CHECK(still_running());
    Struck struck{strike, inflicted->began - start_, inflicted->over - start_, {}};
    for (const auto& [node, life] : group_.lives)
      if (const auto was = before.find(node); was == before.end() || was->second != life) struck.died.insert(node);
    crowd_->look();
    for (auto& done : mover.done) {
      done.moved.surely = done.kept < inflicted->began;
      crowd_->moved(done.moved);
    }
    crowd_->give_up_silent();
    const auto causes = causes_now();
    result_.tally.strike(struck, crowd_->report(start_));
    if (!whole) give_up("after '" + name_of(strike) + "' the group is not whole");
    else result_.whole_again_ms.add(ms(now - inflicted->over));
    result_.moved += mover.moved;
    // Drains and the like only ask: what they ask for may come later.
    result_.met += std::any_of(mover.done.begin(), mover.done.end(),
                               [&](const auto& done) {
      return done.moved.address && done.moved.began <= inflicted->began && inflicted->began <= done.answered;
    });
    result_.deaths += struck.died.size();
    tell(struck, here, mover.moved, whole ? "whole again after " + seconds(now - inflicted->over) : "NOT WHOLE AGAIN", causes);
    return {};
  }

  Status everything_at_once() {
    GECKO_CHECK(be_ready());
    if (given_up_) return {};
    start_ = monotonic_now();
    struct Blow {
      const Strike* strike;
      std::unique_ptr<std::atomic<bool>> begun = std::make_unique<std::atomic<bool>>(false);
      std::unique_ptr<Mover> mover;
      std::future<void> moving;
      std::future<Result<Inflicted>> striking;
    };
    std::vector<Blow> blows;
    Time next = start_ + kReplace;
    const auto replace = [&] {
      for (const auto& seen : crowd_->report(start_))
        if (seen.end != End::none) result_.tally.peace(seen);
    };
    for (const auto& strike : plan_.strikes) {
      watch([&] { return monotonic_now() >= start_ + strike.at || monotonic_now() >= next; });
      if (monotonic_now() >= next) replace(), next = monotonic_now() + kReplace;
      watch([&] { return monotonic_now() >= start_ + strike.at; });
      GECKO_CHECK(still_running());
      Blow& blow = blows.emplace_back();
      blow.strike = &strike;
      blow.mover = std::make_unique<Mover>(*scene_, strike, recovers(), *blow.begun);
      const Time turn = monotonic_now();
      blow.moving = std::async(std::launch::async, [mover = blow.mover.get(), turn] { mover->run(turn); });
      blow.striking = std::async(std::launch::async, [this, &strike, turn, begun = blow.begun.get()] {
        return inflict(*scene_, *disks_, strike, turn + kLead, *begun);
      });
      if (options_.progress) options_.progress("[" + seconds(turn - start_) + "] " + name_of(strike));
    }
    for (auto& blow : blows) {
      watch([&] { return blow.striking.wait_for(0s) == std::future_status::ready && blow.moving.wait_for(0s) == std::future_status::ready; });
      const auto inflicted = blow.striking.get();
      blow.moving.wait();
      if (!inflicted) return make_error(inflicted.error().code, name_of(*blow.strike) + ": " + inflicted.error().message);
      result_.tally.strike({*blow.strike, inflicted->began - start_, inflicted->over - start_, {}}, {});
      result_.moved += blow.mover->moved;
    }
    replace();
    crowd_->expect_words();
    // Only two owners are a fault here; they are found where the group does not come to rest.
    if (!settle(monotonic_now()) && group_.missing.find("two nodes'") != std::string::npos) result_.tally.wrong(group_.missing);
    crowd_->give_up_silent();
    replace();
    return still_running();
  }

  Status end() {
    if (!given_up_) (void)crowd_->wind_down(kWindDown);
    for (const auto& seen : crowd_->report(start_)) result_.tally.peace(seen);
    result_.clients = crowd_->totals();
    crowd_.reset();
    if (given_up_ || options_.plan.beyond) return {};
    const Time deadline = monotonic_now() + kEmpty;
    for (look_at_group(); !group_.where.empty() && monotonic_now() < deadline && !kit::interrupted(); look_at_group()) ::poll(nullptr, 0, 50);
    if (!group_.where.empty())
      result_.tally.wrong(std::to_string(group_.where.size()) + " connections are known to nodes after all have ended; n" +
                          std::to_string(group_.where.begin()->second) + " has " + group_.where.begin()->first);
    if (auto well = scene_->still_well(); !well) result_.tally.wrong(well.error().message);
    return still_running();
  }

  // Until the group is whole and every client has spoken; false: it is not whole in time. Clients have their own time, which is shorter.
  bool settle(Time over) {
    while (!kit::interrupted()) {
      crowd_->look();
      look_at_group();
      const bool whole = group_.missing.empty() && crowd_->place(group_.where, group_.unprotected, group_.missing);
      const bool spoke = crowd_->all_spoke();
      const Time now = monotonic_now();
      if (whole && (spoke || now > over + kSpeaks)) return true;
      if (now > over + kSurelyProtected) return false;
      ::poll(nullptr, 0, kLook_ms);
    }
    return false;
  }

  void look_at_group() {
    group_.where.clear();
    group_.unprotected.clear();
    group_.missing.clear();
    for (int node = 1; node <= options_.plan.nodes; ++node) {
      auto why = look_at_node(node);
      if (!why.empty()) group_.missing = "n" + std::to_string(node) + ": " + why;
    }
  }

  std::string look_at_node(int number) {
    const std::string node = "n" + std::to_string(number);
    const auto status = scene_->ask().ask(node, {{"op", "status"}}, 1s);
    const auto rows = status ? scene_->ask().ask(node, {{"op", "connections"}}, 1s) : status;
    if (!rows) return rows.error().message;
    for (const auto& row : rows->value("connections", Json::array())) {
      const std::string client = row.value("client", "") + " -> " + row.value("local", "");
      group_.where.emplace(client, number);
      if (row.value("state", "") != "live" || row.contains("leaves_for")) group_.missing = client + " is on its way";
      if (recovers() && !row.value("protected", false)) group_.unprotected[client] = row.value("not_protected", "?");
    }
    const Json group = status->value(Pointer("/groups/0"), Json::object());
    const Json membership = group.value("membership", Json::object());
    if (const auto life = membership.value("life", ""); !life.empty()) group_.lives[number] = life;
    if (!membership.value("member", false)) return "is no member";
    if (membership.value(Pointer("/view/members"), Json::array()).size() != static_cast<size_t>(options_.plan.nodes)) return "its view is not of all";
    if (!membership.value(Pointer("/lease/holds"), false)) return "has no lease";
    for (const auto& row : group.value("nodes", Json::array())) {
      const std::string of = row.value("name", "?");
      if (row.value("applications", size_t{0}) != kApplications) return "sees " + row.value("applications", Json(0)).dump() + " applications on " + of;
      if (row.value("draining", false)) {
        (void)scene_->ask().ask(node, {{"op", "drain"}, {"node", of}, {"action", "stop"}, {"force", false}}, 1s);
        return "sees " + of + " being drained";
      }
    }
    if (!recovers()) return "";
    // The view lists a dead life until the next change of members, recovered or not: the heir knows.
    if (group.value(Pointer("/recoveries/under_way"), 0) != 0) return "recovers connections of a dead node";
    const Json backups = group.value(Pointer("/protection/backups"), Json::array());
    if (backups.size() < options_.backups) return "has " + std::to_string(backups.size()) + " backups";
    for (const auto& backup : backups)
      if (!backup.value("complete", false)) return "its backup has not everything";
    return "";
  }

  void give_up(const std::string& why) {
    given_up_ = true;
    result_.tally.wrong(why + " in " + seconds(kSurelyProtected) + ": " + group_.missing);
  }

  std::map<Cause, size_t> causes_now() const {
    std::map<Cause, size_t> all;
    for (size_t i = 0; i < kCauses; ++i) all[static_cast<Cause>(i)] = result_.tally.allowed(static_cast<Cause>(i));
    return all;
  }

  void tell(const Struck& struck, size_t here, uint64_t moved, const std::string& whole, const std::map<Cause, size_t>& before) const {
    if (!options_.progress) return;
    std::string line = "[" + seconds(struck.began) + "] #" + std::to_string(result_.tally.strikes()) + " " + name_of(struck.strike) + ": had " +
                       std::to_string(here) + " connections";
    if (moved > 0) line += ", " + std::to_string(moved) + " moved meanwhile";
    for (const int node : struck.died) line += ", n" + std::to_string(node) + " died";
    line += "; over after " + seconds(struck.over - struck.began) + ", " + whole;
    for (const auto& [cause, count] : causes_now())
      if (const size_t more = count - before.at(cause); more > 0) line += ", " + std::to_string(more) + " ended: " + name_of(cause);
    options_.progress(line);
  }

  // Logs, and what the nodes say now.
  void keep_logs() {
    result_.logs = scene_->keep_logs();
    for (const auto& node : scene_->nodes())
      for (const auto& [op, question] : {std::pair<const char*, Json>("status", {{"op", "status"}}), {"connections", {{"op", "connections"}}},
                                         {"mirrors", {{"op", "mirrors"}}}, {"events", {{"op", "events"}, {"since", 0}}}})
        if (const auto answer = scene_->ask().ask(node, question, 2s)) std::ofstream(result_.logs + "/" + node + "/" + op + ".json") << answer->dump(1) << "\n";
    std::ofstream file(result_.logs + "/plan.txt");
    file << "seed " << options_.plan.seed << ", " << options_.plan.nodes << " nodes, recovery " << options_.recovery << ", backups " << options_.backups
         << (options_.plan.beyond ? ", beyond" : "")
         << "\n" << text_of(plan_);
    for (const auto& fault : result_.tally.faults()) file << "FAILED: " << fault << "\n";
  }

  const ChaosOptions& options_;
  const Plan plan_;
  ChaosResult result_;
  std::unique_ptr<kit::Scene> scene_;
  std::unique_ptr<Disks> disks_;  // gone before the lab is
  std::unique_ptr<Crowd> crowd_;
  Group group_;
  Time start_{};
  bool given_up_ = false;  // what follows would be more than the group promises to survive
};

}  // namespace

Result<ChaosResult> chaos(const ChaosOptions& options) { return Run(options).go(); }

nlohmann::json ChaosResult::json() const {
  auto json = tally.json();
  json["planned"] = planned;
  json["deaths"] = deaths;
  json["strikes_that_met_a_handoff"] = met;
  json["exchanges_per_s_in_peace"] = exchanges_per_s();
  json["connections_moved"] = moved;
  json["seconds"] = seconds;
  json["whole_again_ms"] = {{"p50", whole_again_ms.median()}, {"max", whole_again_ms.max()}};
  json["bytes_verified"] = clients.bytes_sent + clients.bytes_received;
  json["connections"] = clients.connections;
  json["exchanges"] = clients.exchanges;
  json["longest_stall_ms"] = ms(clients.longest_stall);
  json["invalid"] = invalid();
  json["passed"] = passed();
  return json;
}

}  // namespace gecko::bench
