#include "judge.hh"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace gecko::bench {
namespace {

// If more than half of at least so many of a kind that lost their node end, recovery does not work.
constexpr size_t kFew = 6;
// A twentieth of what 30 clients do on a quiet machine.
constexpr double kExchanges_per_s = 20;
// A machine full of work may take a node for dead that nobody has struck, but not often: in one strike of ten, or twice.
constexpr size_t kStrangersOf = 10, kStrangers = 2;

Part program_of(Kind kind) {
  return kind == Kind::echo || kind == Kind::ping || kind == Kind::idle ? Part::echo : Part::stream;
}

bool any_in(const std::set<int>& some, const std::set<int>& all) {
  return std::any_of(some.begin(), some.end(), [&](int node) { return all.contains(node); });
}

std::string seconds(Duration d) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", std::chrono::duration<double>(d).count());
  return text;
}

Verdict bad(const Seen& seen, const std::string& why) { return {name_of(seen.kind) + " client " + seen.text + ": " + why, {}}; }
Verdict fine(Cause cause) { return {"", cause}; }

}  // namespace

Verdict judge(const Struck& struck, const Seen& seen, const Rules& rules) {
  if (seen.end == End::wrong) return bad(seen, "a wrong byte");
  if (rules.beyond) return seen.end == End::none ? Verdict{} : fine(Cause::beyond_promise);
  if (seen.end == End::stuck || (seen.end == End::none && !seen.spoke))
    return bad(seen, "hangs: not a byte in the " + seconds(kSpeaks) + " after the fault was over, nor an end");

  const Strike& strike = struck.strike;
  const bool here = seen.owners.contains(strike.victim), surely = here && seen.owners.size() == 1;
  const bool program_killed = strike.fault == Fault::kill && strike.part == program_of(seen.kind);
  if (seen.end == End::none) {
    if (program_killed && surely) return bad(seen, "was not told that its program is dead");
    return {};
  }
  // Its moves come before a strike.
  if (seen.ended < struck.began - kLead) return bad(seen, "ended (" + name_of(seen.end) + ") before anything was struck");
  const Duration silent = seen.ended - std::max(struck.began, seen.last);
  if (program_killed && surely && silent > kTold) return bad(seen, "was told after " + seconds(silent) + " that its program is dead");

  const bool all_killed = strike.part == Part::node && (strike.fault == Fault::kill || strike.fault == Fault::full_disk);
  if (seen.end == End::failed) {
    // Between a death and the next contact, or while nobody listens, a new connection may be refused.
    if (seen.kind == Kind::visit && (program_killed || all_killed || !struck.died.empty())) return fine(Cause::no_server);
    return bad(seen, "could not go on, without a reset");
  }
  const bool visit = seen.kind == Kind::visit;  // any node may have had it, without a move
  if (program_killed && here) return fine(surely || visit ? Cause::application_killed : Cause::in_a_move);

  const bool geckod_killed =
      strike.fault == Fault::kill && (strike.part == Part::privileged || strike.part == Part::network || strike.part == Part::geckod);
  const bool died = any_in(seen.owners, struck.died) || (all_killed && here);
  if (seen.owners.size() > 1 && ((died && !visit) || (geckod_killed && here))) return fine(Cause::in_a_move);
  if (!died) return bad(seen, "ended (" + name_of(seen.end) + ") although its node lived");
  if (rules.kept == Kept::nothing) {
    if (all_killed && here) return fine(Cause::owner_killed);
    return bad(seen, "ended although its processes lived, in a group that takes nothing from anybody");
  }
  if (struck.died.size() > 1) return fine(Cause::more_died);
  if (seen.kind == Kind::idle) return bad(seen, "was at rest, its mirror complete, and ended with its node");
  if (rules.kept == Kept::everything) return visit ? fine(Cause::newborn) : bad(seen, "all that it said was kept, and it ended with its node");
  return fine(Cause::beyond_mirror);
}

void Tally::strike(const Struck& struck, const std::vector<Seen>& all) {
  ++strikes_;
  ++by_fault_[name_of(struck.strike.fault) + (struck.strike.fault <= Fault::stop ? " " + name_of(struck.strike.part) : "")];
  bool hit = false;
  for (const auto& seen : all) {
    const bool steady = seen.owners.size() == 1;
    if (seen.owners.contains(struck.strike.victim)) hit = true, touched_ += steady;
    // An upload in a `fast` group has always said something that no mirror has yet.
    const bool may_go_on = rules_.kept == Kept::everything || (rules_.kept == Kept::mirror && seen.kind != Kind::upload);
    if (may_go_on && steady && struck.died.size() == 1 && any_in(seen.owners, struck.died)) {
      auto& orphans = orphans_[seen.kind];
      ++orphans.all;
      orphans.ended += seen.end != End::none;
    }
    const auto verdict = judge(struck, seen, rules_);
    if (!verdict.wrong.empty()) wrong("#" + std::to_string(strikes_) + " (" + name_of(struck.strike) + "): " + verdict.wrong);
    else if (verdict.cause) ++allowed_[*verdict.cause][seen.kind];
  }
  hits_ += hit;
  strangers_ += struck.died.size() - struck.died.count(struck.strike.victim);
}

std::vector<std::string> Tally::faults() const {
  auto all = faults_;
  if (more_faults_ > 0) all.push_back("and " + std::to_string(more_faults_) + " more");
  for (const auto& [kind, orphans] : orphans_)
    if (orphans.all >= kFew && orphans.ended * 2 > orphans.all)
      all.push_back(std::to_string(orphans.ended) + " of " + std::to_string(orphans.all) + " " + name_of(kind) +
                    " clients ended with their node: recovery does not work");
  if (!rules_.beyond && strangers_ > std::max(kStrangers, strikes_ / kStrangersOf))
    all.push_back(std::to_string(strangers_) + " nodes were put out that nobody had struck, in " + std::to_string(strikes_) + " strikes");
  return all;
}

void Tally::peace(const Seen& seen) {
  if (seen.end == End::none) return;
  if (rules_.beyond && seen.end != End::wrong) ++allowed_[Cause::beyond_promise][seen.kind];
  else wrong(name_of(seen.kind) + " client " + seen.text + ": ended (" + name_of(seen.end) + ") at " + seconds(seen.ended) + ", while nothing was struck");
}

void Tally::wrong(std::string what) {
  if (faults_.size() < kMostFaults) faults_.push_back(std::move(what));
  else ++more_faults_;
}

std::vector<std::string> Tally::invalid(const Effort& effort) const {
  std::vector<std::string> why;
  const std::string of = "only " + std::to_string(strikes_) + " of " + std::to_string(effort.planned);
  if (strikes_ == 0 || strikes_ * 2 < effort.planned) why.push_back(of + " planned strikes were done in time");
  if (!rules_.beyond && hits_ * 2 < strikes_)
    why.push_back("only " + std::to_string(hits_) + " of " + std::to_string(strikes_) + " strikes hit a node that had connections");
  if (!rules_.beyond && touched_ < strikes_)
    why.push_back("only " + std::to_string(touched_) + " connections rested at the node that was struck, in " + std::to_string(strikes_) + " strikes");
  if (effort.met * 2 < strikes_ && !rules_.beyond)
    why.push_back("only " + std::to_string(effort.met) + " of " + std::to_string(strikes_) + " strikes met a handoff");
  if (effort.exchanges_per_s < kExchanges_per_s && !rules_.beyond)
    why.push_back("clients had only " + std::to_string(effort.exchanges_per_s) + " exchanges a second while nothing was struck");
  return why;
}

size_t Tally::allowed(Cause cause) const {
  size_t sum = 0;
  if (const auto at = allowed_.find(cause); at != allowed_.end())
    for (const auto& [kind, count] : at->second) sum += count;
  return sum;
}

size_t Tally::allowed() const {
  size_t sum = 0;
  for (size_t i = 0; i < kCauses; ++i) sum += allowed(static_cast<Cause>(i));
  return sum;
}

nlohmann::json Tally::json() const {
  nlohmann::json ends = nlohmann::json::object();
  for (const auto& [cause, kinds] : allowed_)
    for (const auto& [kind, count] : kinds) ends[name_of(cause)][name_of(kind)] = count;
  nlohmann::json orphans = nlohmann::json::object();
  for (const auto& [kind, of] : orphans_) orphans[name_of(kind)] = {{"all", of.all}, {"ended", of.ended}};
  return {{"strikes", strikes_},  {"strikes_by_fault", by_fault_}, {"connections_struck", touched_}, {"nodes_put_out_unstruck", strangers_},
          {"allowed_ends", ends}, {"faults", faults()},            {"lost_their_node", orphans}};
}

std::optional<Kept> kept_by(const std::string& recovery) {
  if (recovery == "none") return Kept::nothing;
  if (recovery == "fast") return Kept::mirror;
  if (recovery == "replicated") return Kept::everything;
  return {};
}

std::string name_of(Kind kind) {
  switch (kind) {
    case Kind::echo: return "echo";
    case Kind::ping: return "ping";
    case Kind::idle: return "idle";
    case Kind::download: return "download";
    case Kind::upload: return "upload";
    case Kind::visit: return "visit";
  }
  return "?";
}

std::string name_of(End end) {
  switch (end) {
    case End::none: return "goes on";
    case End::reset: return "reset";
    case End::closed: return "closed";
    case End::wrong: return "wrong byte";
    case End::failed: return "failed";
    case End::stuck: return "stuck";
  }
  return "?";
}

std::string name_of(Cause cause) {
  switch (cause) {
    case Cause::application_killed: return "application killed";
    case Cause::beyond_mirror: return "beyond the mirror";
    case Cause::newborn: return "newborn";
    case Cause::owner_killed: return "owner killed";
    case Cause::in_a_move: return "in a move";
    case Cause::no_server: return "no server";
    case Cause::more_died: return "more died than struck";
    case Cause::beyond_promise: return "beyond the promise";
  }
  return "?";
}

}  // namespace gecko::bench
