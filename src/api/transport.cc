#include "api/transport.hh"

#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <iterator>

namespace gecko::api {
namespace {

constexpr char kStandardPath[] = "/run/gecko/geckod.sock";
// With descriptors at most this much in one sendmsg, so that the kernel makes one buffer of it and they arrive with the frame they belong
// to: geckod refuses descriptors that nobody announces.
constexpr size_t kDescriptorRegion = 16 * 1024;
// A batch of connections that are let go together; the kernel takes up to 253 (SCM_MAX_FD).
constexpr size_t kFdsAtOnce = 32;
constexpr size_t kReadRoom = 64 * 1024;
// What has been sent is forgotten in pieces of this size, so that a queue that never runs empty does not grow.
constexpr size_t kCompactAt = 1u << 20;
// SCM_MAX_FD of the kernel: more cannot come with one recvmsg.
constexpr size_t kMaxDescriptors = 253;

Error no_daemon(const std::string& path, int err) {
  if (err == EACCES || err == EPERM)
    return make_error(Errc::permission, "connect to geckod at " + path + ": " + std::strerror(err) +
                                            "; this user may not use it: see [rights] in the group file and the permissions of the socket");
  return make_error(Errc::unavailable, "geckod is not running at " + path + " (" + std::strerror(err) +
                                           "); start it with 'systemctl start geckod' or 'geckod -g GROUP.toml', or set GECKO_SOCKET to its socket");
}

}  // namespace

std::string daemon_path() {
  const char* chosen = secure_getenv("GECKO_SOCKET");
  return chosen != nullptr && *chosen != '\0' ? chosen : kStandardPath;
}

Result<Fd> connect_daemon(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return make_error(Errc::invalid, "'" + path + "' is too long for a UNIX socket's path (" + std::to_string(sizeof address.sun_path - 1) + " bytes at most)");
  std::memcpy(address.sun_path, path.c_str(), path.size());
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return os_error("make a socket for geckod");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return no_daemon(path, errno);
  return fd;
}

void Transport::attach(Fd socket) {
  socket_ = std::move(socket);
  parser_ = wire::FrameParser(kMaxIncoming);
  in_fds_.clear();
  crowded_ = false;
}

Fd Transport::detach() {
  out_.clear();
  out_fds_.clear();
  sent_ = 0;
  corked_ = throttled_ = false;
  crowded_ = false;
  return std::move(socket_);
}

Status Transport::flush() {
  corked_ = throttled_ = false;
  while (socket_ && sent_ < out_.size()) {
    // A sendmsg with descriptors begins at or shortly before the first one's frame; the frames of the others begin within it.
    iovec iov{out_.data() + sent_, out_.size() - sent_};
    msghdr message{};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(kFdsAtOnce * sizeof(int))] = {};
    size_t fds = 0;
    if (!out_fds_.empty()) {
      const size_t distance = out_fds_.front().at - sent_;
      if (distance < kDescriptorRegion / 2) iov.iov_len = std::min(iov.iov_len, kDescriptorRegion);
      else iov.iov_len = distance;
      int numbers[kFdsAtOnce];
      while (distance < kDescriptorRegion / 2 && fds < out_fds_.size() && out_fds_[fds].at - sent_ < iov.iov_len) {
        if (fds == kFdsAtOnce) {
          iov.iov_len = out_fds_[fds].at - sent_;
          break;
        }
        numbers[fds] = out_fds_[fds].fd;
        ++fds;
      }
      if (fds != 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(fds * sizeof(int));
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fds * sizeof(int));
        std::memcpy(CMSG_DATA(header), numbers, fds * sizeof(int));
      }
    }
    const ssize_t n = sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
      if (errno == EINTR) continue;
      // ETOOMANYREFS: this user has RLIMIT_NOFILE descriptors under way that geckod has not received yet.
      throttled_ = errno == ENOBUFS || errno == ETOOMANYREFS;
      if (throttled_ || errno == EAGAIN) return {};
      return os_error("send to geckod");
    }
    out_fds_.erase(out_fds_.begin(), out_fds_.begin() + static_cast<ptrdiff_t>(fds));
    sent_ += static_cast<size_t>(n);
    if (sent_ >= kCompactAt) {
      out_.erase(out_.begin(), out_.begin() + static_cast<ptrdiff_t>(sent_));
      for (OutFd& waiting : out_fds_) waiting.at -= sent_;
      sent_ = 0;
    }
  }
  out_.clear();
  sent_ = 0;
  return {};
}

Result<bool> Transport::receive(const Handler& handler) {
  const auto room = parser_.room(kReadRoom);
  iovec iov{room.data(), room.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  // A read would lose the descriptors that this process has no room for, and clients with them; a look leaves everything where it is.
  ssize_t n = 0;
  do n = recvmsg(socket_.get(), &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  crowded_ = false;
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
  if (n < 0) return os_error("receive from geckod");
  if (n == 0) return make_error(Errc::unavailable, "geckod closed the connection");
  std::vector<Fd> came;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      came.emplace_back(fd);
    }
  }
  crowded_ = (message.msg_flags & MSG_CTRUNC) != 0;
  if (crowded_) return false;
  // A look that fills all the room goes on to the next descriptors in the queue, although it has taken no byte that they came with. Whether
  // these bytes brought any the kernel tells by complaining that there is no room for them.
  iov.iov_len = static_cast<size_t>(n);
  message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  const ssize_t taken = recvmsg(socket_.get(), &message, MSG_DONTWAIT);
  if (taken != n) return make_error(Errc::internal, "geckod's socket gave " + std::to_string(taken) + " of " + std::to_string(n) + " bytes that were there");
  const bool brought = (message.msg_flags & MSG_CTRUNC) != 0;
  if (brought && came.empty()) return make_error(Errc::internal, "geckod's socket gave descriptors that were not there");
  if (brought) std::move(came.begin(), came.end(), std::back_inserter(in_fds_));
  parser_.filled(static_cast<size_t>(n));
  for (;;) {
    wire::FrameView frame;
    GECKO_TRY(const bool whole, parser_.next(frame));
    if (!whole) return true;
    if (in_fds_.size() < frame.descriptors)
      return make_error(Errc::invalid, "malformed message from geckod: " + std::to_string(frame.descriptors) + " descriptors announced, " +
                                           std::to_string(in_fds_.size()) + " came");
    std::vector<Fd> fds;
    for (int i = 0; i < frame.descriptors; ++i) {
      fds.push_back(std::move(in_fds_.front()));
      in_fds_.pop_front();
    }
    handler(frame, fds);
  }
}

}  // namespace gecko::api
