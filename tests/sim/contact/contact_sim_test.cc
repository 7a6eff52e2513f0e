// Who is contact, in whole groups under faults: whatever is cut, stopped or killed, and whoever appoints whom on which side, when the
// group is whole again its nodes agree on one contact, and on the appointment with the highest term that anybody alive has heard.
#include <gtest/gtest.h>

#include <memory>

#include "core/contact.hh"
#include "sim/engine/faults.hh"
#include "sim/engine/network.hh"

namespace gecko::sim {
namespace {

using namespace std::chrono_literals;
using core::ContactChoice;

class Group final : public Victim {
 public:
  explicit Group(uint64_t seed)
      : random_(seed),
        nodes_(static_cast<uint16_t>(2 + random_.below(4))),
        machines_(queue_, nodes_),
        network_(queue_, machines_, random_.fork(), {}),
        faults_(queue_, random_.fork(), *this, nodes_, 200ms, 3s) {
    for (uint16_t n = 0; n < nodes_; ++n) order_.insert(order_.begin() + static_cast<ptrdiff_t>(random_.below(order_.size() + 1)), n);
    if (nodes_ > 2 && random_.chance(0.3)) order_.pop_back();   // one that may not be contact
    choices_.resize(nodes_);
    for (uint16_t n = 0; n < nodes_; ++n) begin(n);
    network_.on_up = [this](uint16_t n, uint16_t peer) {
      choices_[n]->up(peer);
      if (const auto known = choices_[n]->appointment()) tell(n, peer, *known);
    };
    network_.on_down = [this](uint16_t n, uint16_t peer) { choices_[n]->down(peer); };
    network_.start();
  }

  void run() {
    queue_.run_until(queue_.now() + 1s);
    agreed();   // the quiet start
    appoint();
    look();
    faults_.start();
    queue_.run_until(queue_.now() + 120s);
    on_ = false;
    faults_.stop();
    // The last words: every operator's own, at once, on every side of what is cut now.
    for (uint16_t n = 0; n < nodes_; ++n)
      if (machines_.running(n, Part::daemon)) appoint_at(n);
    for (uint16_t n = 0; n < nodes_; ++n) {
      resume(n, Part::kernel);
      resume(n, Part::daemon);
      start_machine(n);
      start_daemon(n);
      for (uint16_t m = 0; m < n; ++m) heal(m, n);
    }
    queue_.run_until(queue_.now() + 10s);
    agreed();
  }

  uint64_t split_moments() const { return split_moments_; }
  uint64_t appointments() const { return appointments_; }
  uint64_t faults() const { return faults_.counts().all; }

 private:
  void begin(uint16_t n) { choices_[n] = std::make_unique<ContactChoice>(n, order_); }
  void tell(uint16_t from, uint16_t to, const wire::Contact& word) {
    network_.send(from, to, "contact", [this, from, to, word] {
      if (!choices_[to]->hear(word)) return;
      for (uint16_t n = 0; n < nodes_; ++n)
        if (n != to && n != from && network_.link_up(to, n)) tell(to, n, word);
    });
  }
  // Operators on any side of any partition.
  void appoint() {
    if (!on_) return;
    const auto at = static_cast<uint16_t>(random_.below(nodes_));
    if (machines_.running(at, Part::daemon)) {
      appoint_at(at);
      faults_.operation_begins(1ms);   // while the word is on its way
    }
    queue_.at(queue_.now() + random_.between(500ms, 10s), [this] { appoint(); });
  }
  void appoint_at(uint16_t at) {
    const auto word = choices_[at]->appoint(order_[random_.below(order_.size())]);
    ASSERT_TRUE(word);
    ++appointments_;
    for (uint16_t n = 0; n < nodes_; ++n)
      if (n != at && network_.link_up(at, n)) tell(at, n, *word);
  }
  void look() {
    if (!on_) return;
    size_t contacts = 0;
    for (uint16_t n = 0; n < nodes_; ++n)
      if (machines_.up(n, Part::daemon)) contacts += choices_[n]->is_self();
    split_moments_ += contacts > 1;
    queue_.at(queue_.now() + 100ms, [this] { look(); });
  }
  void agreed() {
    std::optional<wire::Contact> highest;
    for (const auto& c : choices_)
      if (const auto a = c->appointment(); a && (!highest || std::tie(a->term, a->node) > std::tie(highest->term, highest->node))) highest = a;
    size_t contacts = 0;
    for (uint16_t n = 0; n < nodes_; ++n) {
      const auto& c = *choices_[n];
      EXPECT_EQ(c.contact(), highest ? highest->node : order_.front()) << "node " << n;
      EXPECT_EQ(c.appointment().has_value(), highest.has_value()) << "node " << n;
      if (highest && c.appointment()) {
        EXPECT_EQ(c.appointment()->term, highest->term) << "node " << n;
      }
      contacts += c.is_self();
    }
    EXPECT_EQ(contacts, 1u);
  }

  void kill_machine(uint16_t n) override {
    machines_.kill(n, Part::kernel);
    network_.daemon_died(n, true);
  }
  void start_machine(uint16_t n) override {
    if (machines_.up(n, Part::kernel)) return;
    machines_.start(n, Part::kernel);
    start_daemon(n);
  }
  void kill_daemon(uint16_t n) override {
    if (!machines_.up(n, Part::daemon)) return;
    machines_.kill(n, Part::daemon);
    network_.daemon_died(n, false);
  }
  void start_daemon(uint16_t n) override {
    if (machines_.up(n, Part::daemon) || !machines_.up(n, Part::kernel)) return;
    machines_.start(n, Part::daemon);
    begin(n);   // it has forgotten every appointment and learns them from its links
    network_.daemon_started(n);
  }
  void stop(uint16_t n, Part part) override {
    if (machines_.up(n, part)) machines_.stop(n, part);
  }
  void resume(uint16_t n, Part part) override { machines_.resume(n, part); }
  void cut(uint16_t a, uint16_t b) override { network_.cut(a, b); }
  void heal(uint16_t a, uint16_t b) override { network_.heal(a, b); }
  void reset_link(uint16_t a, uint16_t b) override { network_.reset(a, b); }
  bool up(uint16_t n) const override { return machines_.up(n, Part::kernel); }
  size_t in_flight() const override { return 0; }
  bool takes_part(uint16_t) const override { return false; }

  Random random_;
  const uint16_t nodes_;
  EventQueue queue_;
  Machines machines_;
  Network network_;
  Faults faults_;
  std::vector<uint16_t> order_;
  std::vector<std::unique_ptr<ContactChoice>> choices_;
  bool on_ = true;
  uint64_t split_moments_ = 0, appointments_ = 0;
};

TEST(ContactSim, ConvergesToOneContact) {
  uint64_t split = 0, appointments = 0, faults = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Group group(seed);
    group.run();
    split += group.split_moments();
    appointments += group.appointments();
    faults += group.faults();
    if (HasFailure()) break;
  }
  // Else it was too peaceful to prove anything.
  EXPECT_GT(split, 1000u);
  EXPECT_GT(appointments, 3000u);
  EXPECT_GT(faults, 3000u);
}

}  // namespace
}  // namespace gecko::sim
