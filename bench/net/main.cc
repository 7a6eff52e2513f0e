// What the channels cost: a message with one descriptor over a UNIX channel (a handoff to an application), and a small message over a
// TLS link (a handoff step between nodes), each against the plainest way to do it. Both ends run in this process, on one thread, so
// that the figures are CPU per message of both sides together; runs alternate, the median of 7 is printed.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <functional>

#include "net/channel.hh"
#include "net/tls_link.hh"
#include "net/tls_test_keys.hh"

namespace {

using namespace gecko;
using namespace gecko::net;

struct Blob {
  wire::Bytes data;
  GECKO_FIELDS(wire::limited<64u << 20>(data))
};

constexpr int kRuns = 7;
constexpr size_t kStateBytes = 300;  // a captured idle connection and its application's blob

double cpu_seconds() {
  timespec ts{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
  return static_cast<double>(ts.tv_sec) + static_cast<double>(ts.tv_nsec) / 1e9;
}

void compare(const char* what, int per_run, const std::function<void(int)>& plain, const std::function<void(int)>& ours) {
  std::vector<double> a, b;
  const auto timed = [&](const std::function<void(int)>& run) {
    const double start = cpu_seconds();
    run(per_run);
    return (cpu_seconds() - start) / per_run * 1e6;
  };
  for (int i = 0; i < kRuns; ++i) {
    a.push_back(timed(plain));
    b.push_back(timed(ours));
  }
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  std::printf("%-52s %8.2f us plain %8.2f us gecko   ratio %.2f\n", what, a[kRuns / 2], b[kRuns / 2], b[kRuns / 2] / a[kRuns / 2]);
}

std::pair<Fd, Fd> pair_of(int domain) {
  int fds[2] = {-1, -1};
  GECKO_ASSERT(socketpair(domain, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  return {Fd(fds[0]), Fd(fds[1])};
}

Fd some_descriptor() { return Fd(dup(STDERR_FILENO)); }

// One sendmsg and one recvmsg per message and descriptor.
void plain_descriptors(const Fd& from, const Fd& to, int count) {
  std::vector<uint8_t> data(kStateBytes), received(kStateBytes);
  for (int i = 0; i < count; ++i) {
    const Fd fd = some_descriptor();
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    iovec iov{data.data(), data.size()};
    msghdr message{};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int number = fd.get();
    std::memcpy(CMSG_DATA(header), &number, sizeof number);
    GECKO_ASSERT(sendmsg(from.get(), &message, 0) == static_cast<ssize_t>(kStateBytes));
    iov = {received.data(), received.size()};
    message.msg_controllen = sizeof control;
    GECKO_ASSERT(recvmsg(to.get(), &message, MSG_CMSG_CLOEXEC) == static_cast<ssize_t>(kStateBytes));
    int got = -1;
    std::memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof got);
    close(got);
  }
}

void bench_channel(int batch) {
  Loop loop;
  auto [a, b] = pair_of(AF_UNIX);
  int received = 0;
  Channel from(loop, std::move(a), [](const wire::FrameView&, std::vector<Fd>&) {}, [](const Error& e) { std::fprintf(stderr, "%s\n", e.message.c_str()); });
  Channel to(
      loop, std::move(b), [&](const wire::FrameView&, std::vector<Fd>&) { ++received; },
      [](const Error& e) { std::fprintf(stderr, "%s\n", e.message.c_str()); });
  auto [c, d] = pair_of(AF_UNIX);
  const Blob blob{wire::Bytes(kStateBytes - 12)};
  const std::string what = "UNIX channel, 300 B and a descriptor, batches of " + std::to_string(batch);
  compare(what.c_str(), 20'000, [&, &x = c, &y = d](int n) { plain_descriptors(x, y, n); },
          [&](int n) {
            received = 0;
            for (int sent = 0; sent < n; sent += batch) {
              for (int i = 0; i < batch; ++i) {
                std::vector<Fd> fds;
                fds.push_back(some_descriptor());
                from.send(1, blob, std::move(fds));
              }
              while (received < std::min(n, sent + batch)) loop.run_once(std::chrono::seconds(1));
            }
          });
}

void bench_link() {
  namespace keys = testing_keys;
  Loop loop;
  const auto ca = keys::make_ca("web");
  const auto n1 = *TlsContext::make("web", "n1", keys::material(ca, keys::make_node("web", "n1", ca)));
  const auto n2 = *TlsContext::make("web", "n2", keys::material(ca, keys::make_node("web", "n2", ca)));
  std::unique_ptr<TlsLink> server;
  int answers = 0;
  size_t bytes = 0;
  bool echo = true;
  Blob small{wire::Bytes(64)};
  auto listener = *TlsListener::listen(loop, *Endpoint::parse("[::1]:0"), [&](const std::string&, std::unique_ptr<TlsLink> link) {
    server = std::move(link);
    TlsLink::Events events;
    events.frame = [&](const wire::FrameView& frame) {
      bytes += frame.body.size();
      if (echo) server->send(1, small);
    };
    server->set_events(std::move(events));
  });
  listener->add_group(n1);
  TlsLink::Events events;
  events.frame = [&](const wire::FrameView&) { ++answers; };
  const auto client = TlsLink::dial(loop, n2, {}, listener->local(), "n1", std::move(events));
  while (!client->is_up() || !server) loop.run_once(std::chrono::seconds(1));

  // Plain TCP over loopback, the same way.
  const Fd listening(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address{};
  socklen_t size = Endpoint::parse("[::1]:0")->to_sockaddr(address);
  GECKO_ASSERT(bind(listening.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(listening.get(), 1) == 0);
  size = sizeof address;
  getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &size);
  const Fd near(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  GECKO_ASSERT(connect(near.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  const Fd far(accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const int on = 1;
  for (const Fd* fd : {&near, &far}) setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  compare("TLS link, 64 B there and back", 10'000,
          [&](int n) {
            char data[76] = {};
            for (int i = 0; i < n; ++i)
              for (const auto& [x, y] : {std::pair(&near, &far), std::pair(&far, &near)})
                GECKO_ASSERT(send(x->get(), data, sizeof data, 0) == sizeof data && recv(y->get(), data, sizeof data, MSG_WAITALL) == sizeof data);
          },
          [&](int n) {
            answers = 0;
            for (int i = 0; i < n; ++i) {
              client->send(1, small);
              while (answers <= i) loop.run_once(std::chrono::seconds(1));
            }
          });
  echo = false;
  const Blob large{wire::Bytes(1u << 20)};
  std::vector<char> sink(1u << 20);
  compare("TLS link, 1 MiB one way", 300,
          [&](int n) {
            for (int i = 0; i < n; ++i)
              for (size_t sent = 0; sent < sink.size();) {
                const ssize_t out = send(near.get(), large.data.data() + sent, std::min<size_t>(sink.size() - sent, 256 * 1024), 0);
                GECKO_ASSERT(out > 0 && recv(far.get(), sink.data(), static_cast<size_t>(out), MSG_WAITALL) == out);
                sent += static_cast<size_t>(out);
              }
          },
          [&](int n) {
            bytes = 0;
            for (int i = 0; i < n; ++i) {
              client->send(1, large);
              while (client->queued_bytes() > (4u << 20)) loop.run_once(std::chrono::seconds(1));
            }
            while (bytes < static_cast<size_t>(n) * ((1u << 20) + 4)) loop.run_once(std::chrono::seconds(1));
          });
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view only = argc > 1 ? argv[1] : "";
  if (only.empty() || only == "channel")
    for (const int batch : {1, 16, 64}) bench_channel(batch);
  if (only.empty() || only == "link") bench_link();
}
