#include "net/channel.hh"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

namespace gecko::net {
namespace {

// A sendmsg that carries descriptors carries at most this much data: the kernel makes one buffer of it (it splits at 32 KiB and more),
// so data and descriptors arrive together or not at all, and the receiver can tell a descriptor that nobody announced.
constexpr size_t kDescriptorRegion = 16 * 1024;
// Without descriptors: as much as a socket buffer takes (208 KiB by default) and then some.
constexpr size_t kWriteChunk = 1u << 20;
constexpr size_t kReadRoom = 64 * 1024;
// Read per wake-up before others get their turn; the rest stays ready (level-triggered).
constexpr size_t kReadBatch = 4u << 20;
// An output buffer larger than this is given back when it has drained.
constexpr size_t kKeepBuffer = 1u << 20;

// Descriptors waiting to be sent are bounded by this process's own limit on descriptors.

}  // namespace

Channel::Channel(Loop& loop, Fd socket, FrameHandler on_frame, CloseHandler on_close, size_t max_queued_bytes)
    : loop_(loop), socket_(std::move(socket)), max_queued_bytes_(max_queued_bytes), in_(std::make_shared<Inbound>()) {
  in_->on_frame = std::move(on_frame);
  in_->on_close = std::move(on_close);
  const int flags = fcntl(socket_.get(), F_GETFL);
  if (flags < 0 || fcntl(socket_.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    die(os_error("make a channel's socket non-blocking"));
  else if (auto watched = loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t events) { ready(events); }); !watched)
    die(watched.error());
}

Channel::~Channel() {
  if (!dead_) {
    (void)send_some();
    loop_.unwatch(socket_.get());
  }
  in_->alive = false;
  in_->on_close = nullptr;
}

// --- sending -----------------------------------------------------------------------------------------------------------

void Channel::queued(size_t at, std::vector<Fd> fds) {
  if (!fds.empty()) out_fds_.push_back({out_base_ + at, std::move(fds)});
  if (queued_bytes() > max_queued_bytes_)
    return die(make_error(Errc::limit, "the peer does not read: " + std::to_string(queued_bytes()) + " bytes are queued, the limit is " +
                                           std::to_string(max_queued_bytes_)));
  if (flush_pending_ || want_write_) return;
  flush_pending_ = true;
  auto leave = [this, in = in_] {
    if (in->alive) flush();
  };
  if (first_) loop_.defer_first(std::move(leave));
  else loop_.defer(std::move(leave));
}

void Channel::flush() {
  flush_pending_ = false;
  if (dead_) return;
  const bool blocked = !send_some();
  if (dead_ || blocked == want_write_) return;
  want_write_ = blocked;
  if (auto changed = loop_.change(socket_.get(), want_write_ ? EPOLLIN | EPOLLOUT : EPOLLIN); !changed) die(changed.error());
}

// Sends until everything is out (true) or the socket is full (false).
bool Channel::send_some() {
  while (!peer_gone_ && queued_bytes() != 0) {
    const uint64_t position = out_base_ + out_sent_;
    // Descriptors go with the first byte of a sendmsg. Frames that start within its region share it; what does not fit ends it.
    size_t groups = 0, count = 0;
    size_t length = std::min(queued_bytes(), kWriteChunk);
    if (!out_fds_.empty() && out_fds_.front().at - position >= kDescriptorRegion)
      length = std::min<size_t>(length, out_fds_.front().at - position);
    else if (!out_fds_.empty())
      length = std::min(length, kDescriptorRegion);
    int numbers[kMaxFrameDescriptors];
    for (; groups < out_fds_.size(); ++groups) {
      const OutFds& group = out_fds_[groups];
      if (group.at - position >= length) break;
      if (count + group.fds.size() > kMaxFrameDescriptors) {
        length = group.at - position;
        break;
      }
      for (const Fd& fd : group.fds) numbers[count++] = fd.get();
    }
    iovec iov{out_.data() + out_sent_, length};
    msghdr message{};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof numbers)];
    if (count != 0) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(count * sizeof(int));
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(count * sizeof(int));
      std::memcpy(CMSG_DATA(header), numbers, count * sizeof(int));
    }
    const ssize_t sent = sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
      if (errno == EPIPE || errno == ECONNRESET) {
        // Gone, but its last messages may still wait in our receive queue: the reading side ends the channel.
        peer_gone_ = true;
        loop_.defer([this, in = in_] {
          if (in->alive) read_some();
        });
        break;
      }
      if (errno == ETOOMANYREFS) {
        // This user has RLIMIT_NOFILE descriptors under way, unread by their receivers; no event tells when that ends.
        flush_pending_ = true;
        loop_.at(monotonic_now() + std::chrono::milliseconds(1), [this, in = in_] {
          if (in->alive) flush();
        });
        return true;
      }
      die(os_error("send on a channel"));
      return true;
    }
    out_fds_.erase(out_fds_.begin(), out_fds_.begin() + static_cast<ptrdiff_t>(groups));  // closes our copies
    out_sent_ += static_cast<size_t>(sent);
    if (out_sent_ > kKeepBuffer && out_sent_ > out_.size() / 2) {
      out_.erase(out_.begin(), out_.begin() + static_cast<ptrdiff_t>(out_sent_));
      out_base_ += out_sent_;
      out_sent_ = 0;
    }
  }
  out_base_ += out_.size();
  out_sent_ = 0;
  if (out_.capacity() > kKeepBuffer)
    wire::Bytes().swap(out_);
  else
    out_.clear();
  out_fds_.clear();
  return true;
}

// --- receiving ---------------------------------------------------------------------------------------------------------

void Channel::ready(uint32_t events) {
  const auto in = in_;
  if (events & EPOLLOUT) flush();
  if (in->alive && (events & ~static_cast<uint32_t>(EPOLLOUT))) read_some();
}

// One recvmsg. Descriptors are queued in order; a frame takes as many as it announces.
Channel::Received Channel::receive() {
  Inbound& in = *in_;
  const auto room = in.parser.room(kReadRoom);
  iovec iov{room.data(), room.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFrameDescriptors * sizeof(int))];
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do got = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Received::nothing;
  if (got < 0 && errno != ECONNRESET) {
    die(os_error("receive on a channel"));
    return Received::failed;
  }
  const uint64_t arrived_before = in.fds_arrived;
  for (cmsghdr* header = got < 0 ? nullptr : CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header) + i * sizeof(int), sizeof number);
      in.fds.emplace_back(number);
      ++in.fds_arrived;
    }
  }
  if (got > 0 && (message.msg_flags & MSG_CTRUNC)) {
    die(make_error(Errc::limit, "descriptors were lost on a channel: this process has none left (raise RLIMIT_NOFILE, ulimit -n) or the peer sent too many"));
    return Received::failed;
  }
  if (got <= 0) {
    const size_t part = in.parser.buffered();
    die(make_error(Errc::closed, part == 0 ? "the peer closed the channel" : "the peer closed the channel in the middle of a message"));
    return Received::failed;
  }
  in.parser.filled(static_cast<size_t>(got));
  in.bytes += static_cast<uint64_t>(got);
  // The kernel stops a read behind descriptors; any other short read has drained the socket.
  if (in.fds_arrived == arrived_before) return static_cast<size_t>(got) < room.size() ? Received::last : Received::something;
  in.marks.push_back({in.fds_arrived, in.bytes});
  return Received::something;
}

// Hands out complete frames; false: the channel is gone.
bool Channel::deliver(const std::shared_ptr<Inbound>& in) {
  for (;;) {
    wire::FrameView frame;
    const auto more = in->parser.next(frame);
    if (!more) {
      die(more.error());
      return false;
    }
    if (!*more) return true;
    if (in->fds.size() < frame.descriptors) {
      die(make_error(Errc::invalid, "malformed frame: it announces " + std::to_string(frame.descriptors) + " descriptors, " +
                                        std::to_string(in->fds.size()) + " came with it"));
      return false;
    }
    std::vector<Fd> fds;
    for (int i = 0; i < frame.descriptors; ++i) {
      fds.push_back(std::move(in->fds.front()));
      in->fds.pop_front();
    }
    in->fds_taken += frame.descriptors;
    in->on_frame(frame, fds);
    if (!in->alive) return false;
  }
}

// Every descriptor belongs to a frame whose header starts within one region of the bytes it came with.
Status Channel::account_descriptors() const {
  Inbound& in = *in_;
  const uint64_t claimed = in.fds_taken + in.parser.announced();
  while (!in.marks.empty() && in.marks.front().fds_arrived <= claimed) in.marks.pop_front();
  if (in.marks.empty() || in.bytes - in.marks.front().bytes <= kDescriptorRegion + wire::kFrameHeader) return {};
  return make_error(Errc::invalid, "malformed stream: descriptors came that no frame announced");
}

void Channel::read_some() {
  const auto in = in_;
  for (const uint64_t start = in->bytes; in->bytes - start < kReadBatch;) {
    const Received received = receive();
    if (received == Received::failed) return;
    if (received == Received::nothing) {
      // Drained at the end of a frame: data and descriptors arrive together, so nobody will claim what is left.
      if (!in->fds.empty() && in->parser.buffered() == 0)
        die(make_error(Errc::invalid, "malformed stream: " + std::to_string(in->fds.size()) + " descriptors came that no frame announced"));
      else if (peer_gone_)
        die(make_error(Errc::closed, "the peer stopped reading"));
      return;
    }
    if (!deliver(in)) return;
    if (auto counted = account_descriptors(); !counted) return die(counted.error());
    if (in->parser.buffered() > max_partial_)
      return die(make_error(
          Errc::limit, "an unfinished frame has " + std::to_string(in->parser.buffered()) + " bytes, the limit is " + std::to_string(max_partial_)));
    if (received == Received::last && in->fds.empty() && !peer_gone_) return;
  }
}

void Channel::die(Error error) {
  if (dead_) return;
  dead_ = true;
  loop_.unwatch(socket_.get());
  socket_.reset();
  wire::Bytes().swap(out_);
  out_sent_ = 0;
  out_fds_.clear();
  in_->alive = false;
  in_->fds.clear();
  // Later, from the loop: whoever called send() must not find its channel destroyed when send() returns.
  loop_.defer([in = in_, error = std::move(error)] {
    const auto on_close = std::exchange(in->on_close, nullptr);
    if (on_close) on_close(error);
  });
}

}  // namespace gecko::net
