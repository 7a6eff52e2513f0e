// Named UNIX sockets: where they are, who may connect, who did (S11).
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "net/channel.hh"

namespace gecko::net {
namespace {

constexpr int kBacklog = 512;
// How long a connect may wait while the listener's backlog is full.
constexpr timeval kConnectPatience{2, 0};

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.find('\0') != std::string::npos) return make_error(Errc::invalid, "a socket path is empty or contains a zero byte");
  if (path.size() >= sizeof address.sun_path)
    return make_error(Errc::limit, path + ": a socket path has at most " + std::to_string(sizeof address.sun_path - 1) + " bytes; use a shorter directory");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<Fd> unix_socket(int flags) {
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd) return os_error("create a UNIX socket");
  return fd;
}

// Removes what a listener that died has left at `path`; nothing there is fine.
Status remove_dead_socket(const std::string& path, const sockaddr_un& address) {
  struct stat info{};
  if (lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return {};
    return os_error(path);
  }
  if (!S_ISSOCK(info.st_mode)) return make_error(Errc::exists, path + " exists and is not a socket; move it away");
  GECKO_TRY(const Fd probe, unix_socket(SOCK_NONBLOCK));
  const int rc = connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  if (rc == 0 || errno == EAGAIN) return make_error(Errc::exists, path + ": another process is listening there already");
  if (errno != ECONNREFUSED && errno != ENOENT) return os_error("probe " + path);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return os_error("remove the dead socket " + path);
  return {};
}

}  // namespace

Result<PeerCred> peer_credentials(int fd) {
  ucred cred{};
  socklen_t size = sizeof cred;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) != 0) return os_error("read the peer's credentials");
  return PeerCred{static_cast<uint32_t>(cred.pid), cred.uid, cred.gid};
}

Result<Fd> unix_listen(const std::string& path, unsigned mode) {
  GECKO_TRY(const sockaddr_un address, unix_address(path));
  GECKO_CHECK(remove_dead_socket(path, address));
  GECKO_TRY(Fd fd, unix_socket(SOCK_NONBLOCK));
  // The name appears with no more than `mode` (bind takes the socket's own mode, less the umask), then gets exactly that.
  if (fchmod(fd.get(), mode) != 0) return os_error("set the mode of " + path);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return os_error("bind " + path);
  const auto undo = [&](Error error) {
    unlink(path.c_str());
    return error;
  };
  if (fchmodat(AT_FDCWD, path.c_str(), mode, AT_SYMLINK_NOFOLLOW) != 0) return undo(os_error("set the mode of " + path));
  if (listen(fd.get(), kBacklog) != 0) return undo(os_error("listen on " + path));
  return fd;
}

Result<Fd> unix_connect(const std::string& path) {
  GECKO_TRY(const sockaddr_un address, unix_address(path));
  GECKO_TRY(Fd fd, unix_socket(0));
  // A blocking connect returns at once unless the backlog is full; SO_SNDTIMEO bounds that wait.
  if (setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kConnectPatience, sizeof kConnectPatience) != 0) return os_error("prepare a UNIX socket");
  int rc = 0;
  do rc = connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  while (rc != 0 && errno == EINTR);
  if (rc != 0) {
    if (errno == EAGAIN) return make_error(Errc::timeout, "connect to " + path + ": the program there does not accept connections; is it stopped?");
    if (errno == ENOENT || errno == ECONNREFUSED)
      return make_error(Errc::unavailable, "connect to " + path + ": " + std::strerror(errno) + "; is the program that listens there running?");
    return os_error("connect to " + path);
  }
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) return os_error("make a UNIX socket non-blocking");
  return fd;
}

}  // namespace gecko::net
