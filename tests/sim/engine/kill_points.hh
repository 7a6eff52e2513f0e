// What campaigns of harm at every single point of a script have in common (docs/design: "kill at every message index"): which points are run, what is
// counted, how it is told. A point is named by script, step and harm; nothing about it is random, so its name is enough to see it again.
//
// A campaign has scripts, each with a `name`, and a class whose objects are single runs of one:
//   Run(script)      without harm; what a run with harm needs is the campaign's
//   run()
//   steps(), steps_at_end()   of them the first ones, which are the script's: harm is done there
//   checks()         how often its promises were looked at
//   wrong()          what was broken, "" if nothing
//   falls_short()    without harm: why the script is not what it says, "" if it is
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace gecko::sim {

struct KillStep {
  uint16_t node;
  std::string what;
  bool operator==(const KillStep&) const = default;
};

struct KillPoint {
  std::string script;
  size_t at;                           // harm is done just before this step, ...
  KillStep step;                       // ... which without harm is this one
  std::string harm, where;

  std::string name() const;
  // The run up to there was the same as without harm: else the point is not the one it claims to be.
  bool is_reached_by(const std::vector<KillStep>& steps) const { return steps.size() > at && steps[at] == step; }
};

struct KillPointOptions {
  std::string only;                    // just the points whose name contains it, with a trace of each
  uint64_t part = 1, parts = 1;        // of all points every parts-th, from the part-th on
  bool stop_at_first_failure = false;
};

class KillPoints {
 public:
  struct Script {
    std::string name;
    uint64_t steps;
  };
  struct Class {
    std::string harm;
    uint64_t there = 0, run = 0;
  };
  struct Failure {
    std::string point, violation;
  };

  explicit KillPoints(KillPointOptions options) : options_(std::move(options)) {}

  // Each script without harm; then `points(script, that run, step)` for every step of it.
  template <class Run, class Scripts, class Points>
  void at_every_step(const Scripts& scripts, const Points& points) {
    for (const auto& script : scripts) {
      if (done()) return;
      Run base(script);
      base.run();
      const std::string why = base.wrong().empty() ? base.falls_short() : base.wrong();
      if (!why.empty()) {
        fails(std::string(script.name) + ": without harm", why);
        continue;
      }
      scripts_.push_back({script.name, base.steps_at_end()});
      for (size_t k = 0; k < base.steps_at_end() && !done(); ++k) points(script, base, k);
    }
  }
  // The next point. False: not in this run of the campaign.
  bool begins(const KillPoint& point);
  // It was run: what does that show by itself? `also`: what else is wrong, in the campaign's eyes.
  template <class Run>
  void ends(const KillPoint& point, const Run& run, const std::string& also = "") {
    checks_ += run.checks();
    if (!point.is_reached_by(run.steps())) fails(point.name(), "the simulation is not repeatable");
    else if (const std::string why = run.wrong().empty() ? also : run.wrong(); !why.empty()) fails(point.name(), why);
  }
  void fails(std::string point, std::string violation) { failures_.push_back({std::move(point), std::move(violation)}); }

  bool done() const { return options_.stop_at_first_failure && !failures_.empty(); }
  bool traces() const { return !options_.only.empty(); }
  const std::vector<Script>& scripts() const { return scripts_; }
  const std::vector<Class>& classes() const { return classes_; }
  const std::vector<Failure>& failures() const { return failures_; }
  uint64_t there() const { return there_; }
  uint64_t run() const { return run_; }
  uint64_t checks() const { return checks_; }

 private:
  KillPointOptions options_;
  std::vector<Script> scripts_;
  std::vector<Class> classes_;
  std::vector<Failure> failures_;
  uint64_t there_ = 0, run_ = 0, checks_ = 0;
};

// Under these a campaign proves nothing.
struct KillPointFloors {
  uint64_t steps, points;
};

// A campaign as a program: [--only TEXT] [--part K/N]. Without options part 1 of `parts`, or all with GECKO_FULL=1 in the environment.
// Exit code: 0 all well, 1 a promise broken, 2 under the floors (INVALID), 64 wrong options.
int kill_points_main(int argc, char** argv, uint64_t parts, KillPointFloors floors, const std::function<KillPoints(const KillPointOptions&)>& campaign);

}  // namespace gecko::sim
