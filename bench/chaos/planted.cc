#include "planted.hh"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>

namespace gecko::bench {
namespace {
constexpr uint64_t kDropped = 100'000;  // the number of the byte: the client has been served well for a while
}

Result<std::unique_ptr<Planted>> Planted::serve(const kit::Scene& scene) {
  std::unique_ptr<Planted> planted(new Planted());
  planted->stop_ = Fd(::eventfd(0, EFD_CLOEXEC));
  if (!planted->stop_) return os_error("eventfd");
  GECKO_CHECK(scene.lab().inside("client", [&]() -> Status {
    planted->listener_ = Fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage name{};
    socklen_t size = Endpoint{*Address::parse("::1"), 0}.to_sockaddr(name);
    if (!planted->listener_ || ::bind(planted->listener_.get(), reinterpret_cast<sockaddr*>(&name), size) != 0 ||
        ::listen(planted->listener_.get(), 1) != 0)
      return os_error("listen at ::1");
    size = sizeof name;
    if (::getsockname(planted->listener_.get(), reinterpret_cast<sockaddr*>(&name), &size) != 0) return os_error("getsockname");
    GECKO_TRY(planted->at_, Endpoint::from_sockaddr(name));
    return {};
  }));
  planted->thread_ = std::thread([p = planted.get()] { p->run(); });
  return planted;
}

Planted::~Planted() {
  (void)::eventfd_write(stop_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

void Planted::run() {
  std::array<char, 16 * 1024> buffer;
  Fd client;
  for (uint64_t passed = 0;;) {
    std::array<pollfd, 2> ready{pollfd{stop_.get(), POLLIN, 0}, pollfd{client ? client.get() : listener_.get(), POLLIN, 0}};
    if (::poll(ready.data(), ready.size(), -1) < 0 && errno != EINTR) return;
    if (ready[0].revents != 0) return;
    if (ready[1].revents == 0) continue;
    if (!client) {
      client = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      passed = 0;
      continue;
    }
    const ssize_t n = ::recv(client.get(), buffer.data(), buffer.size(), 0);
    if (n <= 0) {
      client.reset();
      continue;
    }
    auto size = static_cast<size_t>(n);
    if (passed <= kDropped && kDropped < passed + size) {
      const auto at = buffer.begin() + static_cast<std::ptrdiff_t>(kDropped - passed);
      std::copy(at + 1, buffer.begin() + n, at);
      --size;
    }
    passed += static_cast<uint64_t>(n);
    for (size_t sent = 0; sent < size;) {
      const ssize_t gone = ::send(client.get(), buffer.data() + sent, size - sent, MSG_NOSIGNAL);
      if (gone <= 0) break;
      sent += static_cast<size_t>(gone);
    }
  }
}

}  // namespace gecko::bench
