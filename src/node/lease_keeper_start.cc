#include "node/lease_keeper_start.hh"

#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <cstring>
#include <functional>
#include <set>

#include "node/confine.hh"
#include "node/lease_keeper.hh"

namespace gecko::node {
namespace {

// One above the ordinary: whatever else the administrator runs in real time goes first.
constexpr int kPriority = 1;
constexpr size_t kHeap = 2u << 20;

Result<Fd> heartbeat_socket(const Endpoint& at) {
  Fd fd(::socket(at.address.family(), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return os_error("make a socket for heartbeats");
  sockaddr_storage address{};
  const socklen_t size = at.to_sockaddr(address);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0)
    return os_error("bind UDP " + at.str() + " for heartbeats (the node's address and 'port'); 'ss -lunp' tells who has it");
  return fd;
}

Result<LeaseKeeper::Sockets> make_sockets(const Options& options) {
  LeaseKeeper::Sockets sockets;
  sockets.owner = ::geteuid();
  GECKO_TRY(sockets.listener, net::unix_listen(keeper_socket(options), 0600));
  for (const auto& group : options.groups) {
    const auto* self = group.find(options.node);
    const Endpoint at{self->address, self->link_port};
    if (sockets.heartbeats.contains(at)) continue;
    GECKO_TRY(sockets.heartbeats[at], heartbeat_socket(at));
  }
  return sockets;
}

// What this process does not use it must not keep open: the journal's lock, frozen connections, the other half's channel.
void close_all_but(const LeaseKeeper::Sockets& sockets) {
  std::set<int> kept{STDERR_FILENO, sockets.listener.get()};
  for (const auto& [at, socket] : sockets.heartbeats) kept.insert(socket.get());
  unsigned from = 0;
  for (const int fd : kept) {
    if (static_cast<unsigned>(fd) > from) (void)::close_range(from, static_cast<unsigned>(fd) - 1, 0);
    from = static_cast<unsigned>(fd) + 1;
  }
  (void)::close_range(from, ~0u, 0);
}

// Neither is an error: without them a busy machine makes this node late, and the others take it for dead sooner.
void make_prompt() {
  // Room for what it will ever allocate is there before it is locked: what comes later could not be, once the right is given up.
  ::malloc_trim(0);
  ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 64 << 20);
  volatile char* room = static_cast<char*>(::malloc(kHeap));
  for (size_t i = 0; room != nullptr && i < kHeap; i += 4096) room[i] = 0;
  ::free(const_cast<char*>(room));
  if (::mlockall(MCL_CURRENT) != 0)
    log_info("cannot keep itself in memory (" + std::string(std::strerror(errno)) + "): a machine that swaps may lose its leases");
  sched_param parameter{};
  parameter.sched_priority = kPriority;
  if (::sched_setscheduler(0, SCHED_FIFO, &parameter) != 0)
    log_info("no real-time priority (" + std::string(std::strerror(errno)) + "): a busy machine may lose its leases");
}

[[noreturn]] void be_the_keeper(const Options& options, LeaseKeeper::Sockets sockets) {
  ::prctl(PR_SET_NAME, kLeaseProcess);
  ::prctl(PR_SET_TIMERSLACK, 1UL);
  set_log_name("geckod[" + options.node + "] lease");
  close_all_but(sockets);
  make_prompt();
  // OpenSSL reads its configuration when it is used first.
  (void)wire::seal({}, 0, {});
  if (auto ok = confine_keeper(); !ok) {
    log_error(ok.error().message);
    ::_exit(1);
  }
  log_info("keeps the leases of this node");
  const int code = LeaseKeeper(options, std::move(sockets)).run();
  ::_exit(code);
}

}  // namespace

std::string keeper_socket(const Options& options) { return options.runtime_dir + "/lease.sock"; }

Result<Fd> connect_keeper(const Options& options, int lease_map, const std::function<void()>& forked) {
  auto connection = net::unix_connect(keeper_socket(options));
  if (!connection && connection.error().code == Errc::unavailable) {
    GECKO_TRY(auto sockets, make_sockets(options));
    // It is nobody's child to wait for.
    ::signal(SIGCHLD, SIG_IGN);
    const pid_t child = ::fork();
    if (child < 0) return os_error("fork the lease keeper");
    if (child == 0) {
      forked();
      be_the_keeper(options, std::move(sockets));
    }
    connection = net::unix_connect(keeper_socket(options));
  }
  if (!connection) return connection;
  if (lease_map >= 0) {
    net::Loop loop;
    std::vector<Fd> fds;
    fds.emplace_back(::fcntl(lease_map, F_DUPFD_CLOEXEC, 0));
    if (!fds.front()) return os_error("duplicate the lease map");
    Fd own(::fcntl(connection->get(), F_DUPFD_CLOEXEC, 0));
    net::Channel channel(loop, std::move(own), [](const wire::FrameView&, std::vector<Fd>&) {}, [](const Error&) {});
    channel.send(static_cast<uint16_t>(wire::KeeperType::lease_map), wire::KeeperLives{}, std::move(fds));
    channel.flush();
  }
  return connection;
}

}  // namespace gecko::node
