#include "nfqueue_gate.hh"

#include <netinet/in.h>
// In this order: the kernel headers below know what the first has defined.
#include <linux/netfilter.h>
#include <libnfnetlink/libnfnetlink.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <optional>

namespace gecko::bench {
namespace {

constexpr uint32_t kLongest = 65'536;         // packets that wait: a window full of them
constexpr uint32_t kHeaders = 128;            // of a packet: what a gate must see
constexpr unsigned kSocketBuffer = 8u << 20;
constexpr int kAtOnce = 64;                   // packets for one verdict

}  // namespace

Result<std::unique_ptr<NfqueueGate>> NfqueueGate::start(uint16_t number) {
  std::unique_ptr<NfqueueGate> gate(new NfqueueGate());
  gate->handle_ = ::nfq_open();
  if (gate->handle_ == nullptr) return os_error("open netfilter's queues");
  gate->queue_ = ::nfq_create_queue(gate->handle_, number, &NfqueueGate::on_packet, gate.get());
  if (gate->queue_ == nullptr) return os_error("read netfilter's queue " + std::to_string(number));
  // Segments stay as large as the kernel made them: a gate need not cut them.
  if (::nfq_set_mode(gate->queue_, NFQNL_COPY_PACKET, kHeaders) < 0 || ::nfq_set_queue_maxlen(gate->queue_, kLongest) < 0 ||
      ::nfq_set_queue_flags(gate->queue_, NFQA_CFG_F_GSO, NFQA_CFG_F_GSO) < 0)
    return os_error("set up netfilter's queue " + std::to_string(number));
  (void)::nfnl_rcvbufsiz(::nfq_nfnlh(gate->handle_), kSocketBuffer);
  gate->wake_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!gate->wake_) return os_error("make an eventfd");
  gate->thread_ = std::thread([g = gate.get()] { g->run(); });
  return gate;
}

NfqueueGate::~NfqueueGate() {
  stop_ = true;
  if (thread_.joinable()) {
    (void)::eventfd_write(wake_.get(), 1);
    thread_.join();
  }
  if (queue_ != nullptr) ::nfq_destroy_queue(queue_);
  if (handle_ != nullptr) ::nfq_close(handle_);
}

int NfqueueGate::on_packet(nfq_q_handle*, nfgenmsg*, nfq_data* packet, void* gate) {
  auto& self = *static_cast<NfqueueGate*>(gate);
  if (const auto* header = ::nfq_get_msg_packet_hdr(packet)) self.held_.push_back({monotonic_now() + Duration(self.hold_), ntohl(header->packet_id)});
  return 0;
}

void NfqueueGate::run() {
  while (!stop_) {
    std::array<pollfd, 2> events = {{{::nfq_fd(handle_), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
    timespec rest{};
    if (!held_.empty()) {
      const auto ns = std::chrono::nanoseconds(std::max(Duration{}, held_.front().due - monotonic_now())).count();
      rest = {ns / 1'000'000'000, ns % 1'000'000'000};
    }
    if (::ppoll(events.data(), events.size(), held_.empty() ? nullptr : &rest, nullptr) < 0 && errno != EINTR) return;
    if (events[0].revents != 0) take();
    let_go(monotonic_now());
  }
}

void NfqueueGate::take() {
  std::array<char, 8192> buffer{};
  for (int i = 0; i < kAtOnce; ++i) {
    const ssize_t n = ::recv(::nfq_fd(handle_), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n <= 0) return;   // ENOBUFS: packets that the kernel has dropped, TCP sends them again
    ::nfq_handle_packet(handle_, buffer.data(), static_cast<int>(n));
  }
}

void NfqueueGate::let_go(Time now) {
  std::optional<uint32_t> last;
  for (; !held_.empty() && held_.front().due <= now; held_.pop_front()) last = held_.front().packet;
  if (last) ::nfq_set_verdict_batch(queue_, *last, NF_ACCEPT);
}

}  // namespace gecko::bench
