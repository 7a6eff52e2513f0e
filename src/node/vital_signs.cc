#include "node/vital_signs.hh"

#include <algorithm>

#include "node/daemon.hh"
#include "node/status.hh"

namespace gecko::node {
namespace {

// Between two looks: until geckod is ready somebody waits for it; afterwards a status on a screen may be as old as that.
constexpr Duration kSoon = std::chrono::milliseconds(50), kNowAndThen = std::chrono::seconds(2);
// Signs of life in the time that the service manager waits for one: two may be late, or lost.
constexpr int kSigns = 3;

// It has found its place, or has waited for the others for long enough: whether it is a member is a question of the others, too.
bool serves(const Group& group) {
  return group.settled() || (group.contact() < group.config().nodes.size() && group.is_member() && group.members().lease().holds);
}

}  // namespace

void VitalSigns::start() {
  if (manager_.listens()) look();
}

void VitalSigns::look() {
  const auto& groups = daemon_.groups();
  if (!ready_ && std::ranges::all_of(groups, [](const auto& g) { return serves(*g); })) {
    ready_ = true;
    manager_.ready(said_ = summary(daemon_));
  } else if (std::string now = summary(daemon_); now != said_) {
    manager_.status(said_ = std::move(now));
  }
  if (manager_.watchdog() != Duration{}) ask();
  const Duration rest = manager_.watchdog() == Duration{} ? kNowAndThen : std::min<Duration>(kNowAndThen, manager_.watchdog() / kSigns);
  daemon_.loop().at(daemon_.loop().now() + (ready_ ? rest : std::min(rest, kSoon)), [this] { look(); });
}

// One question at a time: a half that wakes up has nothing to catch up with.
void VitalSigns::ask() {
  if (std::exchange(asked_, true)) return;
  daemon_.privileged().are_you_there([this](const Status&) {
    asked_ = false;
    manager_.alive();
  });
}

void VitalSigns::reloading() { manager_.reloading(); }

void VitalSigns::reloaded() {
  if (ready_) manager_.ready(said_);
}

void VitalSigns::stopping() { manager_.stopping(); }

}  // namespace gecko::node
