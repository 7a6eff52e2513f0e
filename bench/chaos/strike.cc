#include "strike.hh"

#include <poll.h>
#include <signal.h>
#include <sys/mount.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "kit/interrupt.hh"
#include "kit/node_processes.hh"
#include "kit/operator.hh"

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

constexpr const char* kDisk = "gecko-chaos";
constexpr Duration kEnds = 10s, kAnswers = 30s;  // a killed process; a started geckod. Both are there in a tenth of that on a machine with time

// False: the run was interrupted. The length of a fault is a time; nothing is waited for.
bool endure(Time until) {
  for (;;) {
    if (kit::interrupted()) return false;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - monotonic_now()).count();
    if (left <= 0) break;
    ::poll(nullptr, 0, static_cast<int>(std::min<int64_t>(left, 50)));
  }
  while (monotonic_now() < until) {}  // less than a millisecond
  return true;
}

bool wait(Duration at_most, const std::function<bool()>& done) {
  for (const Time deadline = monotonic_now() + at_most; !done();) {
    if (monotonic_now() > deadline || kit::interrupted()) return false;
    ::poll(nullptr, 0, 2);  // another's child: nobody tells us
  }
  return true;
}

class Blow {
 public:
  Blow(kit::Scene& scene, Disks& disks, const Strike& strike, std::unique_ptr<lab::Lab> lab)
      : scene_(scene), disks_(disks), strike_(strike), lab_(std::move(lab)), node_("n" + std::to_string(strike.victim)) {}

  Result<Inflicted> run(Time when, std::atomic<bool>& struck) {
    // A strike just before may have ended it: what ends by itself comes back by itself.
    std::vector<pid_t> pids;
    const auto run = [&] {
      pids = processes();
      return std::ranges::all_of(pids, [](pid_t pid) { return pid > 0; });
    };
    if (!wait(kAnswers, run)) return make_error(Errc::not_found, name_of(strike_.part) + " of " + node_ + " does not run");
    (void)endure(when);
    if (std::ranges::any_of(pids, kit::is_gone)) (void)wait(kAnswers, run);
    Inflicted times{monotonic_now(), {}};
    auto ok = strike(pids);
    struck = true;
    if (ok) {
      if (strike_.fault == Fault::flap) ok = flap(times.began + strike_.length);
      else (void)endure(times.began + strike_.length);
    }
    auto mended = mend(pids);
    times.over = monotonic_now();
    GECKO_CHECK(ok);
    GECKO_CHECK(mended);
    return times;
  }

 private:
  std::vector<pid_t> processes() const {
    switch (strike_.part) {
      case Part::privileged: return {kit::geckod(*lab_, node_, kit::Half::privileged)};
      case Part::network: return {kit::geckod(*lab_, node_, kit::Half::unprivileged)};
      case Part::geckod: return {kit::geckod(*lab_, node_, kit::Half::privileged), kit::geckod(*lab_, node_, kit::Half::unprivileged)};
      case Part::keeper: return {kit::lease_keeper(*lab_, node_)};
      case Part::echo: return {kit::process_named(*lab_, node_, "gecko-echo")};
      case Part::stream: return {kit::process_named(*lab_, node_, "gecko-stream")};
      case Part::node: return {};
    }
    return {};
  }

  Status signal(const std::vector<pid_t>& pids, int number) const {
    for (const pid_t pid : pids)
      if (pid <= 0 || ::kill(pid, number) != 0) return make_error(Errc::not_found, name_of(strike_.part) + " of " + node_ + " does not run");
    return {};
  }

  Status strike(const std::vector<pid_t>& pids) {
    const bool whole = strike_.part == Part::node;
    switch (strike_.fault) {
      case Fault::kill: return whole ? lab_->kill(node_) : signal(pids, SIGKILL);
      case Fault::stop: return whole ? lab_->pause(node_) : signal(pids, SIGSTOP);
      case Fault::cut:
      case Fault::flap: return lab_->cut(node_);
      case Fault::one_way: return links({.loss_ppm = lab::kMillion}, true);
      case Fault::bad_cable: return links({.jitter_us = 500, .loss_ppm = strike_.loss_ppm, .reorder_ppm = strike_.reorder_ppm}, false);
      case Fault::full_disk:
        GECKO_CHECK(lab_->kill(node_));
        GECKO_CHECK(disks_.replace_by_full(node_));
        return start_node();
    }
    return {};
  }

  Status mend(const std::vector<pid_t>& pids) {
    switch (strike_.fault) {
      case Fault::kill:
        if (strike_.part == Part::keeper) return {};
        if (strike_.part == Part::node) return start_node();
        if (strike_.part == Part::echo || strike_.part == Part::stream) return scene_.start_application(node_, name_of(strike_.part));
        return start_geckod();
      case Fault::stop:
        if (strike_.part == Part::node) return lab_->resume(node_);
        for (const pid_t pid : pids)
          if (pid > 0) (void)::kill(pid, SIGCONT);  // one that its group has ended meanwhile is gone: the group says what it makes of that
        return {};
      case Fault::cut:
      case Fault::flap: return lab_->heal(node_);
      case Fault::one_way:
      case Fault::bad_cable: return no_links();
      case Fault::full_disk: return disks_.make_room(node_);
    }
    return {};
  }

  Status flap(Time until) {
    for (bool out = true; monotonic_now() < until;) {
      if (!endure(std::min(until, monotonic_now() + strike_.period))) break;
      GECKO_CHECK(out ? lab_->heal(node_) : lab_->cut(node_));
      out = !out;
    }
    return {};
  }

  std::vector<std::string> others() const {
    auto all = lab_->nodes();
    std::erase(all, node_);
    all.push_back("client");
    return all;
  }
  Status links(lab::LinkFaults faults, bool one_way) const {
    faults.seed = static_cast<uint64_t>(strike_.at.count());
    for (const auto& other : others())
      GECKO_CHECK(one_way && !strike_.outward ? lab_->link(other, node_, faults, true) : lab_->link(node_, other, faults, one_way));
    return {};
  }
  Status no_links() const {
    Status first;
    for (const auto& other : others())
      if (auto done = lab_->unlink(node_, other); !done && first) first = std::move(done);
    return first;
  }

  // A service manager's part: what a half leaves behind ends by itself.
  Status start_geckod() const {
    const auto gone = [&] { return kit::geckod(*lab_, node_, kit::Half::privileged) < 0 && kit::geckod(*lab_, node_, kit::Half::unprivileged) < 0; };
    if (!wait(kEnds, gone)) return make_error(Errc::timeout, "a half of geckod on " + node_ + " goes on without the other");
    return lab_->start(node_);
  }
  Status start_node() const {
    GECKO_CHECK(lab_->start(node_));
    kit::Operator ask(*lab_);
    if (!wait(kAnswers, [&] { return ask.ask(node_, {{"op", "status"}}, 1s).has_value(); }))
      return make_error(Errc::timeout, "geckod on " + node_ + " was started and does not answer");
    for (const char* name : {"gecko-echo", "gecko-stream"}) GECKO_CHECK(scene_.start_application(node_, name));
    return {};
  }

  kit::Scene& scene_;
  Disks& disks_;
  const Strike& strike_;
  std::unique_ptr<lab::Lab> lab_;
  const std::string node_;
};

}  // namespace

Disks::~Disks() {
  for (const auto& node : ours_) (void)::umount2(directory(node).c_str(), MNT_DETACH);
}

// One page: what a node must have on its disk before it votes finds no room.
Status Disks::replace_by_full(const std::string& node) {
  const std::lock_guard lock(mutex_);
  const std::string where = directory(node);
  if (ours_.contains(node) && ::umount2(where.c_str(), MNT_DETACH) != 0) return os_error("unmount " + where);
  ours_.erase(node);
  if (::mount(kDisk, where.c_str(), "tmpfs", 0, "size=4k") != 0) return os_error("mount a small disk at " + where);
  ours_.insert(node);
  return {};
}

Status Disks::make_room(const std::string& node) {
  const std::string where = directory(node);
  return ::mount(kDisk, where.c_str(), "tmpfs", MS_REMOUNT, "size=1m") == 0 ? Status{} : os_error("give room to the disk at " + where);
}

Result<Inflicted> inflict(kit::Scene& scene, Disks& disks, const Strike& strike, Time when, std::atomic<bool>& struck) {
  auto done = [&]() -> Result<Inflicted> {
    GECKO_TRY(auto lab, lab::Lab::open(scene.lab().options().name));
    return Blow(scene, disks, strike, std::move(lab)).run(when, struck);
  }();
  struck = true;  // or will never be
  return done;
}

}  // namespace gecko::bench
