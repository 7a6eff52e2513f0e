#include "node/events.hh"

#include <gtest/gtest.h>

#include "node/event_json.hh"
#include "node/event_waits.hh"
#include "node/prometheus.hh"

namespace gecko::node {
namespace {

using namespace std::chrono_literals;

constexpr WallTime kNoon{std::chrono::nanoseconds(1'700'000'000'123'456'789)};

std::vector<config::GroupConfig> two_groups() {
  std::vector<config::GroupConfig> groups(2);
  groups[0].name = "web";
  groups[1].name = "mail";
  for (auto& group : groups) {
    group.nodes.resize(3);
    for (size_t i = 0; i < 3; ++i) group.nodes[i].name = "n" + std::to_string(i + 1);
  }
  return groups;
}

Flow flow() { return {*Endpoint::parse("[2001:db8::80]:80"), *Endpoint::parse("[2001:db8:c::7]:51234")}; }

HandoffEnded handoff(HandoffResult result = HandoffResult::moved, Cause cause = Cause::drain) {
  HandoffEnded h;
  h.id = ConnId::random();
  h.flow = flow();
  h.epoch = 2;
  h.to = 1;
  h.origin = {cause, 2};
  h.result = result;
  h.view = 7;
  h.phases.fill(kNever);
  return h;
}

TEST(Events, AreNumberedFromOneAndTheOldestMakeRoom) {
  Events events(1, 3);
  EXPECT_EQ(events.last(), 0u);
  EXPECT_EQ(events.oldest(), 1u);
  EXPECT_EQ(events.find(0), nullptr);
  EXPECT_EQ(events.find(1), nullptr);
  for (uint16_t i = 1; i <= 7; ++i) {
    events.add(0, kNoon, LinkIs{i, true});
    EXPECT_EQ(events.last(), i);
    EXPECT_EQ(events.oldest(), i < 3 ? 1 : i - 2);
    EXPECT_EQ(events.dropped(), i < 3 ? 0 : i - 3);
    for (uint64_t seq = 0; seq <= 8; ++seq) {
      const Event* event = events.find(seq);
      ASSERT_EQ(event != nullptr, seq >= events.oldest() && seq <= events.last() && seq != 0) << seq;
      if (event == nullptr) continue;
      EXPECT_EQ(event->seq, seq);
      EXPECT_EQ(std::get<LinkIs>(event->what).peer, seq) << "another event is in its place";
    }
  }
}

TEST(Events, ALongTextIsCut) {
  Events events(1);
  events.add(0, kNoon, LinkIs{1, false, std::string(100'000, 'x')});
  events.add(0, kNoon, ApplicationIs{ApplicationStep::joined, std::string(100'000, 'y'), 1, 2});
  EXPECT_EQ(std::get<LinkIs>(events.find(1)->what).why.size(), Events::kMaxText);
  EXPECT_EQ(std::get<ApplicationIs>(events.find(2)->what).program.size(), Events::kMaxText);
}

TEST(Events, AreCountedPerGroupEvenWhenTheyAreGone) {
  Events events(2, 2);
  for (int i = 0; i < 5; ++i) events.add(0, kNoon, handoff());
  events.add(0, kNoon, handoff(HandoffResult::stayed));
  events.add(1, kNoon, handoff());
  events.add(0, kNoon, LeaseIs{true, 1});
  events.add(0, kNoon, LeaseIs{false, 1});
  events.add(0, kNoon, ViewIs{});
  events.add(0, kNoon, Recovered{{}, flow(), 1, 1, 0, true, 0, 70});
  events.add(0, kNoon, Recovered{{}, flow(), 1, 1, 2, false, 0, 3'000});
  events.add(0, kNoon, ConnectionLost{{}, flow(), LostIn::handoff});
  events.add(0, kNoon, ConnectionLost{{}, flow(), lost_in(core::LostBy::client_reset)});
  const auto& t = events.tally(0);
  EXPECT_EQ(t.handoffs.at({0, 1, Cause::drain, HandoffResult::moved}), 5u);
  EXPECT_EQ(t.handoffs.at({0, 1, Cause::drain, HandoffResult::stayed}), 1u);
  EXPECT_EQ(events.tally(1).handoffs.at({0, 1, Cause::drain, HandoffResult::moved}), 1u);
  EXPECT_EQ(t.lease_expiries, 1u);
  EXPECT_EQ(t.view_changes, 1u);
  EXPECT_EQ(t.recovered, 1u);
  EXPECT_EQ(t.elsewhere, 1u);
  EXPECT_DOUBLE_EQ(t.recoveries.sum, 0.07);
  EXPECT_EQ(t.lost[static_cast<size_t>(LostIn::handoff)], 1u);
  EXPECT_EQ(t.lost[static_cast<size_t>(lost_in(core::LostBy::client_reset))], 1u);
  EXPECT_EQ(events.dropped(), 12u);
}

TEST(Steps, PhasesLastUntilTheNextStepThatWas) {
  Steps steps;
  const Time start{1h};
  steps.mark(Step::started, start);
  EXPECT_EQ(steps.gap(), kNever);
  Steps refused = steps;
  refused.mark(Step::ended, start + 3ms);
  EXPECT_EQ(refused.phases(), (std::array<uint32_t, kPhases>{3000, kNever, kNever, kNever, kNever, kNever}));
  EXPECT_EQ(refused.gap(), kNever) << "it was never held";
  steps.mark(Step::let_go, start + 1ms);   // its application asked by itself: nobody asked it
  steps.mark(Step::held, start + 2ms);
  steps.mark(Step::held, start + 5ms);     // tried again
  steps.mark(Step::captured, start + 6ms);
  steps.mark(Step::committed, start + 10ms);
  steps.mark(Step::ended, start + 15ms);
  EXPECT_EQ(steps.phases(), (std::array<uint32_t, kPhases>{1000, kNever, 4000, 1000, 4000, 5000}));
  EXPECT_EQ(steps.gap(), 10'000u);
}

TEST(EventJson, SaysWhatHasHappened) {
  Events events(2);
  auto h = handoff(HandoffResult::stayed);
  h.phases = {1500, kNever, 20, kNever, kNever, kNever};
  h.why = "to n2: no application";
  events.add(0, kNoon, h);
  const auto json = event_json(*events.find(1), two_groups(), "n1");
  const nlohmann::ordered_json expected = {
      {"schema", "gecko.event/1"}, {"seq", 1}, {"time", "2023-11-14T22:13:20.123456Z"}, {"node", "n1"}, {"group", "web"}, {"kind", "handoff"},
      {"connection", h.id.str()}, {"client", "[2001:db8:c::7]:51234"}, {"local", "[2001:db8::80]:80"}, {"from", "n1"}, {"to", "n2"}, {"cause", "drain"},
      {"decided_by", "n3"}, {"result", "stayed"}, {"epoch", 2}, {"view", 7}, {"phases_ms", {{"prepare", 1.5}, {"settle", 0.02}}}, {"gap_ms", nullptr},
      {"why", "to n2: no application"}};
  EXPECT_EQ(json, expected) << json.dump();
}

TEST(EventJson, HasEveryKindAndNoNumberInsteadOfAName) {
  const std::vector<std::pair<Happening, const char*>> all = {
      {ViewIs{(uint64_t{3} << 38) + 9, 0b011, 0b010, 0b100, true},
       R"("kind":"view","view":9,"epoch":824633720841,"members":["n1","n2"],"joined":["n2"],"left":["n3"],"member":true)"},
      {ContactIs{2, 5}, R"("kind":"contact","contact":"n3","term":5)"},
      {ContactIs{}, R"("kind":"contact","contact":null,"term":0)"},
      {LeaseIs{false, 4}, R"("kind":"lease","state":"lost","term":4)"},
      {SuspicionIs{1, true}, R"("kind":"suspicion","peer":"n2","state":"begin")"},
      {LinkIs{1, false, "cut"}, R"("kind":"link","peer":"n2","state":"down","why":"cut")"},
      {Expelled{}, R"("kind":"expelled")"},
      {Arrival{{}, flow(), 3, 1, 9},
       R"("kind":"arrival","connection":null,"client":"[2001:db8:c::7]:51234","local":"[2001:db8::80]:80","from":"n2","epoch":3,"view":9)"},
      {Recovered{{}, flow(), 3, 1, 2, false, 9, 120}, R"("from":"n2","owner":"n3","result":"elsewhere","epoch":3,"view":9,"ms":120)"},
      {RecoveryEnded{{1, 0xabc}, 0, 4, 1, {2, 0, 0, 0, 1}, 80},
       R"("life":{"node":"n2","incarnation":"0000000000000abc"},"heir":"n1","recovered":4,"elsewhere":1,"lost":{"nobody_serves":2,"failed":1},"ms":80)"},
      {ConnectionLost{{}, flow(), LostIn::no_application, "gone"}, R"("reason":"no_application","why":"gone")"},
      {DrainIs{1, DrainStep::done, 7, 50}, R"("kind":"drain","of":"n2","state":"done","moved":7,"ms":50)"},
      {DrainIs{1, DrainStep::stop}, R"("kind":"drain","of":"n2","state":"stop")"},
      {ApplicationIs{ApplicationStep::leaving, "gecko-echo", 12, 33}, R"("kind":"application","state":"leaving","program":"gecko-echo","pid":12,"uid":33)"},
      {LinkIs{99, true}, R"("peer":null)"}};
  for (const auto& [what, says] : all) {
    const std::string json = event_json({1, kNoon, 1, what}, two_groups(), "n1").dump();
    EXPECT_NE(json.find(says), std::string::npos) << json << "\nlacks\n" << says;
    EXPECT_NE(json.find(R"("group":"mail")"), std::string::npos);
  }
}

TEST(EventWaits, AreToldOfWhatComesTogetherOrAfterTheirPatience) {
  net::Loop loop;
  Events events(1);
  EventWaits waits(loop, events);
  int told = 0;
  const auto run = [&](Duration at_most, auto until) {
    for (const Time end = monotonic_now() + at_most; monotonic_now() < end && !until();) loop.run_once(1ms);
  };
  loop.run_once(0ms);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(waits.wait(0, 1h, [&] { ++told; }));
  events.add(0, kNoon, Expelled{});
  events.add(0, kNoon, Expelled{});
  EXPECT_EQ(told, 0) << "told from within what happens";
  run(5s, [&] { return told == 3; });
  EXPECT_EQ(told, 3);
  events.add(0, kNoon, Expelled{});   // nobody waits
  ASSERT_TRUE(waits.wait(0, 20ms, [&] { ++told; }));
  run(5s, [&] { return told == 4; });
  EXPECT_EQ(told, 4);
  ASSERT_TRUE(waits.wait(0, 1h, [&] { ++told; }));
  events.add(0, kNoon, Expelled{});
  run(5s, [&] { return told == 5; });
  EXPECT_EQ(told, 5) << "after one whose patience had ended";
}

TEST(EventWaits, AreSoManyAtMost) {
  net::Loop loop;
  Events events(1);
  EventWaits waits(loop, events);
  for (size_t i = 0; i < EventWaits::kMostOfOne; ++i) ASSERT_TRUE(waits.wait(1000, 1h, [] {}));
  const auto more = waits.wait(1000, 1h, [] {});
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code, Errc::busy);
  for (size_t i = EventWaits::kMostOfOne; i < EventWaits::kMost; ++i) ASSERT_TRUE(waits.wait(0, 1h, [] {}));
  EXPECT_FALSE(waits.wait(0, 1h, [] {}));
}

TEST(Prometheus, TextIsAsItsFormatSays) {
  PrometheusText text;
  text.family("gecko_x_total", "counter", "One\nline and a \\.");
  text.sample({}, uint64_t{18446744073709551615u});
  text.sample({{"a", "quote \" back \\ line\n"}, {"b", "plain"}}, 1700000000.125);
  text.family("gecko_empty", "gauge", "Nothing.");
  EXPECT_EQ(text.take(),
            "# HELP gecko_x_total One\\nline and a \\\\.\n# TYPE gecko_x_total counter\ngecko_x_total 18446744073709551615\n"
            "gecko_x_total{a=\"quote \\\" back \\\\ line\\n\",b=\"plain\"} 1700000000.125\n# HELP gecko_empty Nothing.\n# TYPE gecko_empty gauge\n");
}

TEST(Prometheus, AHistogramIsCumulative) {
  Histogram h;
  for (const double s : {0.0001, 0.0002, 0.0003, 0.01, 100.0}) h.add(s);
  PrometheusText text;
  text.family("g", "histogram", "x");
  text.histogram({{"group", "web"}}, h);
  const std::string all = text.take();
  for (const char* line :
       {"g_bucket{group=\"web\",le=\"0.0002\"} 2\n", "g_bucket{group=\"web\",le=\"0.0005\"} 3\n", "g_bucket{group=\"web\",le=\"0.005\"} 3\n",
        "g_bucket{group=\"web\",le=\"0.01\"} 4\n", "g_bucket{group=\"web\",le=\"5\"} 4\n", "g_bucket{group=\"web\",le=\"+Inf\"} 5\n",
        "g_sum{group=\"web\"} 100.0106\n", "g_count{group=\"web\"} 5\n"})
    EXPECT_NE(all.find(line), std::string::npos) << all << "\nlacks " << line;
}

}  // namespace
}  // namespace gecko::node
