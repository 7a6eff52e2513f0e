// What geckod is to the gate, pretended: names connections at their birth, and calls bytes stable `delay` after our kernel has received
// them. Stops in its destructor.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

#include "bpf/birth_reader.hh"
#include "bpf/gate_sender.hh"
#include "gate_lab.hh"

namespace gecko::lab_test {

class Backup {
 public:
  struct Options {
    std::chrono::microseconds delay{0};
    std::chrono::microseconds round{100};  // how often it looks
    bool nudge = true;                     // tell the client at once; false: leave it to the replies
    bool clamp = true;                     // acknowledge what is stable only
  };
  // Connections are protected in GateLab::kTerm.
  static Result<std::unique_ptr<Backup>> start(GateLab& lab, const Options& options);
  ~Backup();
  size_t born() const { return born_; }
  // Until it has named so many; what a connection does before is not clamped.
  Status await_born(size_t connections) const;

 private:
  Backup(bpf::GateTable table, bpf::BirthReader births, bpf::GateSender sender, const Options& options)
      : table_(std::move(table)), births_(std::move(births)), sender_(std::move(sender)), options_(options) {}
  void run();
  bpf::GateTable table_;
  bpf::BirthReader births_;
  bpf::GateSender sender_;
  Options options_;
  std::atomic<bool> stop_ = false;
  std::atomic<size_t> born_ = 0;
  std::thread thread_;
};

}  // namespace gecko::lab_test
