// The servers' end of bench gate, run on a lab's node, with libgecko or without: takes uploads, or answers.
//
//   gecko-bench-server group FILE PORT [fast]     a server of the group; fast: without replication
//   gecko-bench-server plain ADDRESS PORT         the same over the kernel's sockets alone
//
// A client's first byte says what it wants: 'u', its bytes are read until it ends; 'p', each 64 bytes are sent back. A thread per client.
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

#include <gecko/gecko.hh>

#include "base/address.hh"
#include "base/fd.hh"

namespace {

constexpr size_t kPiece = 256 << 10, kPing = 64;
constexpr uint64_t kBetweenCheckpoints = 1u << 20;

// A connection with read, write and checkpoint.
template <class Connection>
void serve(Connection& client) {
  std::array<uint8_t, kPiece> piece;
  uint8_t wish = 0;
  if (client.read(&wish, 1) != 1) return;
  uint64_t all = 0, saved = 0;
  for (;;) {
    const size_t n = client.read(piece.data(), wish == 'p' ? kPing : piece.size());
    if (n == 0) return;
    all += n;
    if (wish == 'p' && !client.write(piece.data(), n)) return;
    if (all - saved >= kBetweenCheckpoints) client.checkpoint(saved = all);
  }
}

struct Grouped {
  gecko::Socket socket;
  size_t read(void* into, size_t size) {
    const auto n = socket.read(into, size);
    return n ? *n : 0;
  }
  bool write(const void* from, size_t size) { return socket.write(from, size).has_value(); }
  void checkpoint(uint64_t at) {
    std::array<uint8_t, sizeof at> state;
    std::memcpy(state.data(), &at, sizeof at);
    (void)socket.checkpoint(state);
  }
};

struct Plain {
  gecko::Fd socket;
  size_t read(void* into, size_t size) {
    const ssize_t n = ::read(socket.get(), into, size);
    return n > 0 ? static_cast<size_t>(n) : 0;
  }
  bool write(const void* from, size_t size) { return ::write(socket.get(), from, size) == static_cast<ssize_t>(size); }
  void checkpoint(uint64_t) {}
};

int fail(const std::string& why) {
  std::fprintf(stderr, "gecko-bench-server: %s\n", why.c_str());
  return 1;
}

int serve_group(const std::string& group, uint16_t port, bool fast) {
  auto framework = gecko::Framework::open(group);
  if (!framework) return fail(framework.error().message);
  if (const auto joined = framework->join(); !joined) return fail(joined.error().message);
  if (fast)
    if (const auto said = framework->set_replicated(port, false); !said) return fail(said.error().message);
  auto server = gecko::ServerSocket::listen(*framework, port);
  if (!server) return fail(server.error().message);
  while (auto client = server->accept())
    std::thread([c = Grouped{std::move(*client)}]() mutable {
      (void)c.socket.checkpoint({});
      serve(c);
    }).detach();
  return fail("accepts no more");
}

int serve_plain(const std::string& address, uint16_t port) {
  const auto at = gecko::Address::parse(address);
  if (!at) return fail(at.error().message);
  const gecko::Fd listener(::socket(at->family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage name{};
  const socklen_t size = gecko::Endpoint{*at, port}.to_sockaddr(name);
  if (!listener || ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&name), size) != 0 || ::listen(listener.get(), 16) != 0)
    return fail("cannot listen at " + address);
  for (;;) {
    gecko::Fd client(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client) std::thread([c = Plain{std::move(client)}]() mutable { serve(c); }).detach();
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string how = argc > 1 ? argv[1] : "";
  if (argc < 4 || (how != "group" && how != "plain")) return fail("usage: group FILE PORT [fast] | plain ADDRESS PORT");
  const auto port = static_cast<uint16_t>(std::stoul(argv[3]));
  return how == "group" ? serve_group(argv[2], port, argc > 4) : serve_plain(argv[2], port);
}
