// What geckod will be to the gate, pretended: takes connections over at their birth, and calls bytes stable `delay` after our kernel has
// received them. Stops in its destructor.
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
  };
  // Connections are protected in GateLab::kTerm.
  static Result<std::unique_ptr<Backup>> start(GateLab& lab, const Options& options);
  ~Backup();
  size_t born() const { return born_; }

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
