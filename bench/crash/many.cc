#include "many.hh"

#include <thread>

#include "fault.hh"
#include "kit/interrupt.hh"
#include "kit/statistics.hh"
#include "silent_many.hh"

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

constexpr Duration kServed = 60s;
// Mirrors, and the contact's hints about whose connection is whose.
constexpr Duration kSettle = 2s;

double ms(Duration d) { return kit::us(d) / 1000; }

}  // namespace

Result<ManyResult> crash_with_many(size_t connections, const std::string& recovery) {
  GECKO_TRY(const auto many, SilentMany::gather(connections, recovery));
  std::this_thread::sleep_for(kSettle);
  ManyResult result;
  result.connections = connections;
  const Time peace = monotonic_now();
  many->speak();
  const auto before = many->wait_answered(peace, kServed);
  if (before.clients < connections) return make_error(Errc::unavailable, "a connection was lost before the fault: " + many->totals().first_failure);
  result.baseline_ms = ms(before.last - peace);
  std::this_thread::sleep_for(kSettle);
  if (kit::interrupted()) return make_error(Errc::closed, "interrupted");

  const Time struck = monotonic_now();
  GECKO_CHECK(strike(many->scene().lab(), Fault::kill, "n1"));
  many->speak();
  const auto after = many->wait_answered(struck, kServed);
  if (kit::interrupted()) return make_error(Errc::closed, "interrupted");
  result.answered = after.clients;
  if (after.clients > 0) result.last_served_ms = ms(after.last - struck);
  result.totals = many->totals();
  result.first_failure = result.totals.first_failure;
  if (result.answered < connections) {
    if (result.first_failure.empty()) result.first_failure = std::to_string(connections - result.answered) + " got no answer in a minute";
    result.first_failure += " (logs: " + many->scene().keep_logs() + ")";
  }
  return result;
}

}  // namespace gecko::bench
