#include "lab/wire.hh"

#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <map>
#include <memory>

#include "lab/link_rules.hh"
#include "net/channel.hh"
#include "net/interface.hh"

namespace gecko::lab {
namespace {

constexpr size_t kLargestFrame_bytes = ETH_HLEN + 65'535;
constexpr int kBatch = 64;                         // packets read before others have a turn
constexpr uint32_t kDeviceQueue_packets = 10'000;  // packets that wait to be read; the kernel drops what is over
// What may wait in the queue of a shaped port (`lab up --mbit`): that queue is to drop, not the socket before it. 50 ms at 1 Gbit/s are 6 MB,
// and the kernel counts each packet with its overhead.
constexpr int kSendBuffer_bytes = 64 << 20;

// A TAP device that exists as long as its descriptor.
Result<Fd> make_device(net::Rtnetlink& links, const std::string& name) {
  const std::string doing = "make the device '" + name + "' of a link";
  Fd device(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  ifreq request{};
  name.copy(request.ifr_name, sizeof request.ifr_name - 1);
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL);
  if (!device || ::ioctl(device.get(), TUNSETIFF, &request) != 0) return os_error(doing);
  // Before it is up: it carries what hosts say to each other and has nothing to say itself.
  if (auto silent = net::write_sysctl("net/ipv6/conf/" + name + "/disable_ipv6", "1"); !silent) return std::move(silent.error());
  GECKO_TRY(const net::Interface interface, links.by_name(name));
  GECKO_CHECK(links.set_queue_length(interface.index, kDeviceQueue_packets));
  GECKO_CHECK(links.set_up(interface.index, true));
  return device;
}

class Wire {
 public:
  explicit Wire(std::string socket) : socket_(std::move(socket)) {}
  Status open();
  void run() { loop_.run(); }

 private:
  struct Carried {
    Fd device;
    int port = 0;  // index of the interface it goes out at
    Line line;
    net::Loop::TimerId timer = 0;
  };
  void accept();
  void answer(net::Channel& caller, const wire::FrameView& frame);
  Status set(const Direction& direction, const LinkFaults& faults);
  void clear(const Direction& direction);
  bool read_some(Carried& carried);
  void deliver(Carried& carried, Time now);
  void carry(Carried& carried);
  std::vector<LinkReport> report() const;

  const std::string socket_;
  net::Loop loop_;
  std::optional<net::Rtnetlink> links_;
  Fd listener_, out_;
  std::map<net::Channel*, std::unique_ptr<net::Channel>> callers_;
  std::map<Direction, Carried> directions_;
  wire::Bytes buffer_ = wire::Bytes(kLargestFrame_bytes);
};

Status Wire::open() {
  GECKO_TRY(links_, net::Rtnetlink::open());
  out_ = Fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));  // receives nothing: no protocol
  if (!out_ || ::setsockopt(out_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &kSendBuffer_bytes, sizeof kSendBuffer_bytes) != 0)
    return os_error("open a packet socket for a lab's links");
  (void)::setpriority(PRIO_PROCESS, 0, -20);       // a cable does not wait for a processor
  ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);  // the kernel's own 50 us would be added to every delay
  GECKO_TRY(listener_, net::unix_listen(socket_, 0600));
  return loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { accept(); });
}

void Wire::accept() {
  Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) return;
  const auto self = std::make_shared<net::Channel*>(nullptr);
  auto channel = std::make_unique<net::Channel>(
      loop_, std::move(socket), [this, self](const wire::FrameView& frame, std::vector<Fd>&) { answer(**self, frame); },
      [this, self](const Error&) { callers_.erase(*self); });
  *self = channel.get();
  callers_.emplace(channel.get(), std::move(channel));
}

void Wire::answer(net::Channel& caller, const wire::FrameView& frame) {
  WireAnswer answer;
  const auto note = [&](const Status& status) {
    if (!status && answer.error.empty()) answer.error = status.error().message.substr(0, 1024);
  };
  bool ending = false;
  if (const auto question = wire::decode<WireQuestion>(frame.body)) {
    for (const auto& direction : question->clear) clear(direction);
    for (const auto& direction : question->set) note(set(direction, question->faults));
    ending = directions_.empty() && !(question->clear.empty() && question->set.empty());
  } else {
    note(question.error());
  }
  answer.links = report();
  if (ending) ::unlink(socket_.c_str());  // before the answer: who asks next starts another wire
  caller.send(static_cast<uint16_t>(WireType::answer), answer);
  if (!ending) return;
  caller.flush();
  loop_.stop();
}

Status Wire::set(const Direction& direction, const LinkFaults& faults) {
  GECKO_CHECK(check_faults(faults));
  auto at = directions_.find(direction);
  if (at == directions_.end()) {
    if (directions_.size() >= kMaxDirections)
      return make_error(Errc::limit,
                        "a lab has at most " + std::to_string(kMaxDirections) + " directions with a link; 'gecko lab link --clear' removes all");
    Carried carried;
    GECKO_TRY(const net::Interface port, links_->by_name(port_of(direction.to)));
    carried.port = port.index;
    GECKO_TRY(carried.device, make_device(*links_, device_of(direction)));
    at = directions_.emplace(direction, std::move(carried)).first;
    Carried* const there = &at->second;
    if (auto watched = loop_.watch(there->device.get(), EPOLLIN, [this, there](uint32_t) { carry(*there); }); !watched) {
      directions_.erase(at);
      return watched;
    }
  }
  at->second.line.set(faults, stream_of(faults.seed, direction.from, direction.to));
  return {};
}

// By now the rules put no more packets into the device. Those it still has, and those under way, come out at once.
void Wire::clear(const Direction& direction) {
  const auto at = directions_.find(direction);
  if (at == directions_.end()) return;
  while (read_some(at->second)) {
  }
  deliver(at->second, Time::max());
  loop_.cancel(at->second.timer);
  loop_.unwatch(at->second.device.get());
  directions_.erase(at);
}

// False: nothing is left to read.
bool Wire::read_some(Carried& carried) {
  for (int i = 0; i < kBatch; ++i) {
    const ssize_t got = ::read(carried.device.get(), buffer_.data(), buffer_.size());
    if (got <= 0) return got < 0 && errno == EINTR;
    carried.line.arrive(monotonic_now(), wire::ByteView(buffer_).first(static_cast<size_t>(got)));
  }
  return true;
}

void Wire::deliver(Carried& carried, Time now) {
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = carried.port;
  while (const auto packet = carried.line.take(now)) {
    // Of the kind the packet says: behind its two addresses.
    if (packet->size() >= ETH_HLEN) std::memcpy(&to.sll_protocol, packet->data() + 2 * ETH_ALEN, sizeof to.sll_protocol);
    const ssize_t sent = ::sendto(out_.get(), packet->data(), packet->size(), MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&to), sizeof to);
    if (sent < 0) carried.line.not_delivered();
  }
}

void Wire::carry(Carried& carried) {
  (void)read_some(carried);  // what is left wakes us again
  deliver(carried, monotonic_now());
  loop_.cancel(carried.timer);
  carried.timer = 0;
  if (const auto due = carried.line.due()) carried.timer = loop_.at(*due, [this, &carried] { carry(carried); });
}

std::vector<LinkReport> Wire::report() const {
  std::vector<LinkReport> reports;
  for (const auto& [direction, carried] : directions_) reports.push_back({direction, carried.line.faults(), carried.line.counters()});
  return reports;
}

}  // namespace

std::string wire_socket(const Lab& lab) { return lab.directory() + "/wire.sock"; }

Status run_wire(const Lab& lab) {
  Wire wire(wire_socket(lab));
  GECKO_CHECK(wire.open());
  wire.run();
  return {};
}

}  // namespace gecko::lab
