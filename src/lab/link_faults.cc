#include "lab/link_faults.hh"

#include <charconv>
#include <cmath>
#include <initializer_list>
#include <utility>

namespace gecko::lab {
namespace {

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.10g", value);
  return text;
}

// A number and one of these units, scaled by the unit and rounded. `what` and `example` are for the message.
Result<uint32_t> scaled(std::string_view text, const char* what, const char* example,
                        std::initializer_list<std::pair<std::string_view, double>> units, double most, const std::string& most_text) {
  const Error nonsense = make_error(Errc::invalid, "'" + std::string(text) + "' is no " + what + ": a number and its unit, for example " + example);
  if (text.empty() || text.front() < '0' || text.front() > '9') return nonsense;  // from_chars knows -1, inf and nan too
  double number = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (ec != std::errc{}) return nonsense;
  const std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  for (const auto& [name, factor] : units) {
    if (unit != name) continue;
    if (number * factor > most) return make_error(Errc::limit, "'" + std::string(text) + "' is too much for a " + what + ": at most " + most_text);
    return static_cast<uint32_t>(std::lround(number * factor));
  }
  if (unit.empty()) return make_error(Errc::invalid, "'" + std::string(text) + "' has no unit: a " + what + " is written " + example);
  return nonsense;
}

}  // namespace

Status check_faults(const LinkFaults& faults) {
  for (const auto& [name, us] : {std::pair("delay", faults.delay_us), std::pair("jitter", faults.jitter_us)})
    if (us > kMaxLinkTime_us)
      return make_error(Errc::limit, std::string("a link's ") + name + " of " + time_text(us) + ": at most " + time_text(kMaxLinkTime_us));
  for (const auto& [name, ppm] : {std::pair("loss", faults.loss_ppm), std::pair("duplicate", faults.duplicate_ppm),
                                  std::pair("reorder", faults.reorder_ppm), std::pair("corrupt", faults.corrupt_ppm)})
    if (ppm > kMillion) return make_error(Errc::limit, std::string("a link's ") + name + " of " + share_text(ppm) + ": at most 100%");
  return {};
}

Result<uint32_t> parse_link_time(std::string_view text) {
  return scaled(text, "time", "20ms (or us, s)", {{"us", 1.0}, {"ms", 1e3}, {"s", 1e6}}, kMaxLinkTime_us, "10s");
}

Result<uint32_t> parse_share(std::string_view text) { return scaled(text, "share", "1%", {{"%", 1e4}}, kMillion, "100%"); }

std::string time_text(uint32_t us) { return us != 0 && us < 1000 ? std::to_string(us) + "us" : number_text(us / 1e3) + "ms"; }

std::string share_text(uint32_t ppm) { return number_text(ppm / 1e4) + "%"; }

std::string text_of(const LinkFaults& faults) {
  std::string text = time_text(faults.delay_us);
  if (faults.jitter_us != 0) text += ", jitter " + time_text(faults.jitter_us);
  for (const auto& [name, ppm] : {std::pair("loss", faults.loss_ppm), std::pair("duplicate", faults.duplicate_ppm),
                                  std::pair("reorder", faults.reorder_ppm), std::pair("corrupt", faults.corrupt_ppm)})
    if (ppm != 0) text += std::string(", ") + name + " " + share_text(ppm);
  return text + ", seed " + std::to_string(faults.seed);
}

}  // namespace gecko::lab
