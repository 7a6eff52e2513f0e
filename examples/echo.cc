// gecko-echo: sends back what it gets, hands new clients off by a policy, and hands a connection off again each time it reads an 'H'
// (which is echoed too). Bytes that were read and not yet echoed travel with the connection.
//
// If its node dies, a connection goes on as long as no byte is missing: a checkpoint follows every read, so that what was read and not echoed is known
// elsewhere. In a group with recovery = "replicated" none is ever missing. With "fast" (or --fast) the checkpoint travels beside the connection, so
// what was read in the last milliseconds may be gone, and so may be echoed bytes that the client had not received: then the connection is closed.
#include <getopt.h>

#include <cstring>

#include "event_server.hh"

namespace {

constexpr char kProgram[] = "gecko-echo";
// Stop reading from a client that does not take its echo back.
constexpr size_t kMaxPending = 256 * 1024;

struct Context {};

class EchoConnection {
 public:
  EchoConnection(gecko::Socket socket, Context&) : socket_(std::move(socket)) {}

  bool start(int epoll, uint64_t key) {
    epoll_ = epoll;
    key_ = key;
    if (const auto death = socket_.recovery()) {
      if (!resume(*death)) return false;
    } else {
      unpack(socket_.state());
    }
    socket_.on_yield([this](gecko::Socket& socket) { return socket.set_state(pack()).has_value(); });
    (void)socket_.checkpoint(pack());
    return ready(0);
  }

  bool ready(uint32_t) {
    char buffer[64 * 1024];
    for (;;) {
      if (!flush()) return false;
      if (ended_ && pending_.empty()) return false;
      if (ended_ || pending_.size() >= kMaxPending) break;
      const auto n = socket_.read(buffer, sizeof buffer);
      if (!n && n.error().code == gecko::Errc::again) break;
      if (!n) return false;  // moved, or reset
      ended_ = *n == 0;
      pending_.append(buffer, *n);
      (void)socket_.checkpoint(pack());  // before the echo: whoever has seen it has its bytes in the checkpoint
      if (std::memchr(buffer, 'H', *n) == nullptr) continue;
      if (!flush()) return false;
      (void)socket_.handoff_in_background();  // nobody can take it: it stays
    }
    const bool reading = !ended_ && pending_.size() < kMaxPending;
    const uint32_t wanted = (reading ? EPOLLIN : 0u) | (pending_.empty() ? 0u : EPOLLOUT);
    if (wanted == watched_) return true;
    watched_ = wanted;
    return socket_.watch(epoll_, wanted, key_).has_value();
  }

 private:
  // State: one byte (1: the client has sent its last byte), then what is to be echoed.
  std::vector<uint8_t> pack() const {
    std::vector<uint8_t> state{static_cast<uint8_t>(ended_ ? 1 : 0)};
    state.insert(state.end(), pending_.begin(), pending_.end());
    return state;
  }
  void unpack(const std::vector<uint8_t>& state) {
    if (state.empty()) return;
    ended_ = state[0] == 1;
    pending_.assign(state.begin() + 1, state.end());
  }
  // False: bytes are missing, the client's or ours.
  bool resume(const gecko::Recovery& death) {
    if (death.sent == death.received) return true;  // all that was read has been echoed, and the client has it
    if (!death.checkpoint || death.received != death.checkpoint->input || death.sent < death.checkpoint->output) return false;
    unpack(death.checkpoint->state);
    const uint64_t echoed = death.sent - death.checkpoint->output;  // since the checkpoint
    if (echoed > pending_.size()) return false;
    pending_.erase(0, static_cast<size_t>(echoed));
    return true;
  }
  bool flush() {
    while (!pending_.empty()) {
      const auto n = socket_.write(pending_);
      if (!n) return n.error().code == gecko::Errc::again;
      pending_.erase(0, *n);
    }
    return true;
  }

  gecko::Socket socket_;
  int epoll_ = -1;
  uint64_t key_ = 0;
  uint32_t watched_ = 0;
  bool ended_ = false;
  std::string pending_;
};

void usage(FILE* to) {
  std::fprintf(to,
               "usage: %s -g GROUP [-p PORT] [--policy random|round-robin|least-connections|none] [--no-handoff-on-accept] [--fast]\n"
               "  -g, --group GROUP          the group's file or name\n"
               "  -p, --port PORT            default: the group's first port\n"
               "      --policy NAME          where connections go; default: random\n"
               "      --no-handoff-on-accept only an 'H' in the input moves a connection\n"
               "      --fast                 not replicated, whatever the group file says\n",
               kProgram);
}

}  // namespace

int main(int argc, char** argv) {
  std::string group, policy = "random";
  unsigned long port = 0;
  bool on_accept = true, fast = false;
  const option options[] = {{"group", required_argument, nullptr, 'g'}, {"port", required_argument, nullptr, 'p'},
                            {"policy", required_argument, nullptr, 'P'}, {"no-handoff-on-accept", no_argument, nullptr, 'n'},
                            {"fast", no_argument, nullptr, 'f'},
                            {"help", no_argument, nullptr, 'h'}, {"version", no_argument, nullptr, 'V'}, {}};
  for (int c; (c = getopt_long(argc, argv, "g:p:hV", options, nullptr)) != -1;) {
    switch (c) {
      case 'g': group = optarg; break;
      case 'p': port = std::strtoul(optarg, nullptr, 10); break;
      case 'P': policy = optarg; break;
      case 'n': on_accept = false; break;
      case 'f': fast = true; break;
      case 'h': usage(stdout); return 0;
      case 'V': std::printf("%s %s\n", kProgram, gecko_version()); return 0;
      default: usage(stderr); return 64;
    }
  }
  const auto chosen = example::policy_by_name(policy, on_accept);
  if (group.empty() || optind != argc || port > 65535 || (!chosen && policy != "none")) {
    usage(stderr);
    return 64;
  }
  Context context;
  example::EventServer<EchoConnection, Context> server(kProgram, context);
  server.start(group, static_cast<uint16_t>(port), chosen, fast);
  server.run([] { return -1; });
}
