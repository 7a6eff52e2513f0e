#include "sim/engine/kill_points.hh"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string_view>

#include "base/test_figures.hh"

namespace gecko::sim {

std::string KillPoint::name() const {
  return script + ", step " + std::to_string(at) + " (node " + std::to_string(step.node) + ": " + step.what + "), " + harm + where;
}

bool KillPoints::begins(const KillPoint& point) {
  if (done()) return false;
  auto it = std::ranges::find(classes_, point.harm, &Class::harm);
  if (it == classes_.end()) it = classes_.insert(it, {point.harm, 0, 0});
  ++it->there;
  const uint64_t number = there_++;
  const bool is_wanted = traces() ? point.name().find(options_.only) != std::string::npos : number % options_.parts == options_.part - 1;
  if (is_wanted && traces()) std::printf("%s:\n", point.name().c_str());
  it->run += is_wanted;
  run_ += is_wanted;
  return is_wanted;
}

namespace {

int tell(const KillPoints& result, const KillPointOptions& options, KillPointFloors floors) {
  uint64_t steps = 0;
  for (const auto& s : result.scripts()) {
    std::printf("%18" PRIu64 "  steps of \"%s\"\n", s.steps, s.name.c_str());
    steps += s.steps;
  }
  for (const auto& c : result.classes()) std::printf("%7" PRIu64 " of %7" PRIu64 "  %s\n", c.run, c.there, c.harm.c_str());
  std::printf("%7" PRIu64 " of %7" PRIu64 "  points at %" PRIu64 " steps (part %" PRIu64 " of %" PRIu64 "), %" PRIu64 " checks in %.1f s of CPU time\n",
              result.run(), result.there(), steps, options.part, options.parts, result.checks(), double(std::clock()) / CLOCKS_PER_SEC);
  for (size_t i = 0; i < result.failures().size() && i < 20; ++i)
    std::printf("FAILED: %s\n        %s\n", result.failures()[i].point.c_str(), result.failures()[i].violation.c_str());
  if (!result.failures().empty()) {
    std::printf("%zu points failed; see one with --only and its name\n", result.failures().size());
    return 1;
  }
  if (result.traces()) {
    if (result.run() == 0) std::printf("INVALID: no point's name contains \"%s\"\n", options.only.c_str());
    return result.run() == 0 ? 2 : 0;
  }
  const auto idle = std::ranges::find(result.classes(), uint64_t{0}, &KillPoints::Class::run);
  const bool too_few = steps < floors.steps || result.there() < floors.points || result.run() < floors.points / options.parts;
  if (too_few) std::printf("INVALID: fewer than %" PRIu64 " points at %" PRIu64 " steps\n", floors.points, floors.steps);
  if (idle != result.classes().end()) std::printf("INVALID: no point of \"%s\" was run\n", idle->harm.c_str());
  return too_few || idle != result.classes().end() ? 2 : 0;
}

}  // namespace

int kill_points_main(int argc, char** argv, uint64_t parts, KillPointFloors floors, const std::function<KillPoints(const KillPointOptions&)>& campaign) {
  KillPointOptions options;
  options.parts = full_figures() ? 1 : parts;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view arg = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    bool ok = !value.empty();
    if (ok && arg == "--only") {
      options.only = value;
    } else if (ok && arg == "--part") {
      char* rest = nullptr;
      options.part = std::strtoull(argv[i + 1], &rest, 10);
      options.parts = *rest == '/' ? std::strtoull(rest + 1, nullptr, 10) : 0;
      ok = options.part >= 1 && options.part <= options.parts;
    } else {
      ok = false;
    }
    if (!ok) {
      std::fprintf(stderr, "%s takes --only TEXT (part of a point's name) and --part K/N (K of 1 to N)\n", argv[0]);
      return 64;
    }
  }
  return tell(campaign(options), options, floors);
}

}  // namespace gecko::sim
