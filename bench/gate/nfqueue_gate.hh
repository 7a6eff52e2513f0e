// The gate that user space can have, for comparison: what a server sends waits in an NFQUEUE until this program lets it go, as long later as a backup's
// word would take. Nothing is copied to a backup and nobody is asked: less than such a gate must do, so its cost is a floor.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <thread>

#include "base/clock.hh"
#include "base/fd.hh"
#include "base/result.hh"

struct nfq_handle;
struct nfq_q_handle;
struct nfq_data;
struct nfgenmsg;

namespace gecko::bench {

class NfqueueGate {
 public:
  // Of the network namespace of the thread that calls. Packets come once a rule there sends them to queue `number`.
  // Errors: the kernel has no such queue, or somebody else reads it.
  static Result<std::unique_ptr<NfqueueGate>> start(uint16_t number);
  ~NfqueueGate();
  NfqueueGate(const NfqueueGate&) = delete;
  NfqueueGate& operator=(const NfqueueGate&) = delete;

  void hold(Duration each) { hold_ = each.count(); }

 private:
  struct Held {
    Time due;
    uint32_t packet;
  };
  NfqueueGate() = default;
  static int on_packet(nfq_q_handle*, nfgenmsg*, nfq_data* packet, void* gate);
  void run();
  void take();            // what the kernel has for it, a bounded number
  void let_go(Time now);  // what has waited for long enough: they leave in the order in which they came

  nfq_handle* handle_ = nullptr;
  nfq_q_handle* queue_ = nullptr;
  Fd wake_;
  std::atomic<Duration::rep> hold_ = 0;
  std::atomic<bool> stop_ = false;
  std::deque<Held> held_;
  std::thread thread_;
};

}  // namespace gecko::bench
