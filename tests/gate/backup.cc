#include "backup.hh"

#include <deque>
#include <map>

#include "base/clock.hh"

namespace gecko::lab_test {

using bpf::BootClock;
using bpf::BootTime;

Result<std::unique_ptr<Backup>> Backup::start(GateLab& lab, const Options& options) {
  GECKO_TRY(const Fd ring, lab.gate().dup_birth_ring());
  GECKO_TRY(bpf::BirthReader births, bpf::BirthReader::open(ring));
  Result<bpf::GateSender> sender = make_error(Errc::internal, "");
  NetLab::in(lab.node(), [&] { sender = bpf::GateSender::open(lab.nic()); });
  if (!sender) return sender.error();
  // Descriptors of its own, as geckod's other half has them: the lab may load the gate anew meanwhile.
  GECKO_TRY(Fd table, lab.gate().dup_table_map());
  GECKO_TRY(Fd setter, lab.gate().dup_table_setter());
  std::unique_ptr<Backup> backup(new Backup({std::move(table), std::move(setter)}, std::move(births), std::move(*sender), options));
  backup->thread_ = std::thread([b = backup.get()] { b->run(); });
  return backup;
}

Backup::~Backup() {
  stop_ = true;
  thread_.join();
}

Status Backup::await_born(size_t connections) const {
  const Time end = monotonic_now() + std::chrono::seconds(5);
  while (born_ < connections) {
    if (monotonic_now() > end) return make_error(Errc::timeout, "the pretended backup has not heard of a connection");
    std::this_thread::sleep_for(options_.round);
  }
  return {};
}

void Backup::run() {
  struct Pending {
    BootTime due;
    uint32_t ack;
  };
  struct Connection {
    std::deque<Pending> pending;
    uint32_t seen = 0;
  };
  std::map<Flow, Connection> connections;
  while (!stop_) {
    const BootTime now = BootClock::now();
    (void)births_.read([&](const bpf::Birth& birth) {
      bpf::Protection protection = birth.protection(GateLab::kTerm);
      protection.clamp = options_.clamp;
      if (connections.contains(birth.flow) || !table_.protect(birth.flow, protection)) return;
      connections[birth.flow].seen = protection.watermark;
      ++born_;
    });
    for (auto it = connections.begin(); it != connections.end();) {
      auto& [flow, c] = *it;
      Result<bpf::GateView> view = table_.view(flow);
      if (!view) {
        it = connections.erase(it);  // the test has ended it
        continue;
      }
      if (view->kernel_ack != c.seen) c.pending.push_back({now + options_.delay, c.seen = view->kernel_ack});
      bool moved = false;
      for (; !c.pending.empty() && c.pending.front().due <= now; c.pending.pop_front(), moved = true)
        view = table_.advance(flow, c.pending.front().ack);
      if (moved && view && view->owes() && options_.nudge) (void)sender_.nudge(flow);
      ++it;
    }
    if (options_.round.count() != 0) std::this_thread::sleep_for(options_.round);
  }
}

}  // namespace gecko::lab_test
