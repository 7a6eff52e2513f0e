#include "plan.hh"

#include <algorithm>
#include <cstdio>
#include <random>
#include <set>

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

struct Card {
  Fault fault;
  Part part;
};
// Drawn without putting back, so that a long run has all of them equally often and a short one few of them twice. Whole nodes come twice.
constexpr Card kDeck[] = {
    {Fault::kill, Part::privileged}, {Fault::kill, Part::network},   {Fault::kill, Part::geckod}, {Fault::kill, Part::keeper},
    {Fault::kill, Part::echo},       {Fault::kill, Part::stream},    {Fault::kill, Part::node},   {Fault::kill, Part::node},
    {Fault::stop, Part::privileged}, {Fault::stop, Part::network},   {Fault::stop, Part::geckod}, {Fault::stop, Part::keeper},
    {Fault::stop, Part::echo},       {Fault::stop, Part::stream},    {Fault::stop, Part::node},   {Fault::stop, Part::node},
    {Fault::cut, Part::node},        {Fault::cut, Part::node},       {Fault::one_way, Part::node}, {Fault::one_way, Part::node},
    {Fault::bad_cable, Part::node},  {Fault::flap, Part::node},      {Fault::full_disk, Part::node},
};

class Dice {
 public:
  explicit Dice(uint64_t seed) : random_(seed) {}
  // Not std::uniform_int_distribution: what that draws is its library's choice.
  uint64_t below(uint64_t n) { return random_() % n; }
  bool one_in(uint64_t n) { return below(n) == 0; }
  milliseconds between(milliseconds least, milliseconds most) {
    return least + milliseconds(below(static_cast<uint64_t>((most - least).count()) + 1));
  }
  // Short ones as often as long ones: each doubling from `least` to `most` equally likely.
  milliseconds scaled(milliseconds least, milliseconds most) {
    uint64_t doublings = 0;
    while (least * (2ll << doublings) <= most) ++doublings;
    const milliseconds base = least * (1ll << below(doublings + 1));
    return std::min(most, base + milliseconds(below(static_cast<uint64_t>(base.count()))));
  }

 private:
  std::mt19937_64 random_;
};

Duration length_of(const Card& card, Dice& dice) {
  switch (card.fault) {
    case Fault::kill:
      if (card.part == Part::keeper) return {};  // geckod makes another one at once
      if (card.part == Part::node) return dice.scaled(200ms, 5000ms);
      return dice.scaled(50ms, 3000ms);  // below restart_grace, with the time of a start
    case Fault::stop:
    case Fault::cut: return dice.scaled(20ms, 5000ms);
    case Fault::one_way: return dice.scaled(200ms, 5000ms);  // making the links takes a part of that
    case Fault::bad_cable: return dice.between(2000ms, 5000ms);
    case Fault::flap:
    case Fault::full_disk: return dice.between(1000ms, 3000ms);
  }
  return {};
}

std::vector<Move> moves_of(const Strike& strike, const PlanOptions& options, Dice& dice) {
  std::vector<Move> moves(2 + dice.below(2));
  const auto whole = std::chrono::duration_cast<milliseconds>(kLead + strike.length + 300ms);
  for (size_t i = 0; i < moves.size(); ++i) {
    Move& move = moves[i];
    const uint64_t draw = dice.below(10);
    move.what = draw < 7 ? Move::What::handoff : draw < 8 ? Move::What::drain : draw < 9 ? Move::What::contact : Move::What::balance;
    move.after = i == 1 ? dice.between(kLead - 8ms, kLead + 8ms) : dice.between(0ms, whole);
    if (i == 0) move.what = Move::What::round, move.after = kLead - kRound;
    move.client = dice.below(options.client_addresses);
    move.node = 1 + static_cast<int>(dice.below(static_cast<uint64_t>(options.nodes)));
  }
  std::stable_sort(moves.begin(), moves.end(), [](const Move& a, const Move& b) { return a.after < b.after; });
  return moves;
}

std::string seconds(Duration d) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f s", std::chrono::duration<double>(d).count());
  return text;
}

std::string percent(uint32_t ppm) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", ppm / 10'000.0);
  return text;
}

}  // namespace

Plan make_plan(const PlanOptions& options) {
  Plan plan{options, {}};
  Dice dice(options.seed);
  std::vector<Card> deck;
  std::vector<Duration> free_at(static_cast<size_t>(options.nodes) + 1);  // by node: when its last strike is over
  Duration at = 1s;
  for (;;) {
    if (deck.empty()) {
      deck.assign(std::begin(kDeck), std::end(kDeck));
      for (size_t i = deck.size(); i > 1; --i) std::swap(deck[i - 1], deck[dice.below(i)]);
    }
    const Card card = deck.back();
    deck.pop_back();
    Strike strike;
    strike.fault = card.fault;
    strike.part = card.part;
    strike.victim = 1 + static_cast<int>(dice.below(static_cast<uint64_t>(options.nodes)));
    strike.length = length_of(card, dice);
    strike.outward = card.fault == Fault::one_way && dice.one_in(2);
    if (card.fault == Fault::bad_cable) {
      strike.loss_ppm = static_cast<uint32_t>(10'000 + dice.below(40'001));  // 1 to 5 %
      strike.reorder_ppm = static_cast<uint32_t>(dice.below(30'001));
    }
    if (card.fault == Fault::flap) strike.period = dice.scaled(20ms, 400ms);
    strike.meanwhile = moves_of(strike, options, dice);
    auto& over = free_at[static_cast<size_t>(strike.victim)];
    strike.at = options.beyond ? std::max(at, over) : at;  // whoever is struck is left alone until that is over
    if (strike.at + strike.length > options.length) break;
    over = strike.at + kLead + strike.length;
    if (!options.beyond) at = over + kProtectedAgain + dice.between(0ms, 1500ms);
    else at += dice.one_in(4) ? dice.between(0ms, 10ms) : dice.between(10ms, 2500ms);
    plan.strikes.push_back(std::move(strike));
  }
  std::stable_sort(plan.strikes.begin(), plan.strikes.end(), [](const Strike& a, const Strike& b) { return a.at < b.at; });
  return plan;
}

size_t most_at_once(const Plan& plan, Duration again) {
  size_t most = 0;
  for (const auto& one : plan.strikes) {
    std::set<int> nodes;
    const Duration now = one.at + kLead;
    for (const auto& other : plan.strikes)
      if (other.at + kLead <= now && now < other.at + kLead + other.length + again) nodes.insert(other.victim);
    most = std::max(most, nodes.size());
  }
  return most;
}

bool is_promised(const Plan& plan) {
  for (size_t i = 1; i < plan.strikes.size(); ++i)
    if (plan.strikes[i].at < plan.strikes[i - 1].at + kLead + plan.strikes[i - 1].length + kProtectedAgain) return false;
  return most_at_once(plan) <= 1;
}

std::string name_of(Fault fault) {
  switch (fault) {
    case Fault::kill: return "kill";
    case Fault::stop: return "stop";
    case Fault::cut: return "cut";
    case Fault::one_way: return "one-way loss";
    case Fault::bad_cable: return "bad cable";
    case Fault::flap: return "flap";
    case Fault::full_disk: return "full disk";
  }
  return "?";
}

std::string name_of(Part part) {
  switch (part) {
    case Part::privileged: return "privileged half";
    case Part::network: return "network half";
    case Part::geckod: return "both halves";
    case Part::keeper: return "lease keeper";
    case Part::echo: return "gecko-echo";
    case Part::stream: return "gecko-stream";
    case Part::node: return "everything";
  }
  return "?";
}

std::string name_of(const Strike& s) {
  const std::string node = "n" + std::to_string(s.victim);
  switch (s.fault) {
    case Fault::kill: return "kill " + name_of(s.part) + " of " + node + (s.part == Part::keeper ? "" : ", back after " + seconds(s.length));
    case Fault::stop: return "stop " + name_of(s.part) + " of " + node + " for " + seconds(s.length);
    case Fault::cut: return "cut " + node + " off for " + seconds(s.length);
    case Fault::one_way: return std::string(s.outward ? "nothing from " : "nothing to ") + node + " for " + seconds(s.length);
    case Fault::bad_cable:
      return "cable of " + node + " loses " + percent(s.loss_ppm) + " and reorders " + percent(s.reorder_ppm) + " for " + seconds(s.length);
    case Fault::flap: return "cable of " + node + " flaps every " + seconds(s.period) + " for " + seconds(s.length);
    case Fault::full_disk: return "kill everything of " + node + ", back at once with a disk that is full for " + seconds(s.length);
  }
  return "?";
}

std::string text_of(const Plan& plan) {
  std::string text;
  for (size_t i = 0; i < plan.strikes.size(); ++i) {
    const Strike& s = plan.strikes[i];
    text += "#" + std::to_string(i + 1) + " at " + seconds(s.at) + ": " + name_of(s);
    for (const auto& move : s.meanwhile) {
      const std::string node = "n" + std::to_string(move.node);
      text += "; " + seconds(move.after - kLead) + " ";
      switch (move.what) {
        case Move::What::round: text += "client " + std::to_string(move.client) + " round from " + node; break;
        case Move::What::handoff: text += "client " + std::to_string(move.client) + " to " + node; break;
        case Move::What::drain: text += "drain " + node; break;
        case Move::What::contact: text += "contact " + node; break;
        case Move::What::balance: text += "balance"; break;
      }
    }
    text += "\n";
  }
  return text;
}

}  // namespace gecko::bench
