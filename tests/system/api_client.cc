#include "api_client.hh"

#include <poll.h>
#include <sys/socket.h>

namespace gecko::system_test {

Result<ApiClient> ApiClient::connect(const std::string& path) {
  GECKO_TRY(Fd socket, net::unix_connect(path));
  return ApiClient(std::move(socket));
}

Status ApiClient::join() {
  if (!say(wire::ApiType::hello, wire::ApiHello{wire::kApiVersion, wire::kApiVersionMin, "faults_test"}) || !say(wire::ApiType::join, wire::Join{1, "lab"}))
    return make_error(Errc::closed, "geckod has closed the connection");
  GECKO_CHECK(wait_for(wire::ApiType::joined));
  return {};
}

bool ApiClient::send(const wire::Bytes& bytes, int fd) {
  for (size_t at = 0; at < bytes.size();) {
    iovec piece{const_cast<uint8_t*>(bytes.data()) + at, bytes.size() - at};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if (fd >= 0 && at == 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    const ssize_t n = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (n > 0) {
      at += static_cast<size_t>(n);
    } else if (errno == EAGAIN) {
      discard_input();
      pollfd writable{socket_.get(), POLLOUT, 0};
      if (::poll(&writable, 1, 5000) <= 0) return false;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

Result<wire::Bytes> ApiClient::wait_for(wire::ApiType type, Duration at_most) {
  const Time deadline = monotonic_now() + at_most;
  for (;;) {
    wire::FrameView frame;
    GECKO_TRY(const bool whole, parser_.next(frame));
    if (whole) {
      if (frame.type == static_cast<uint16_t>(type)) return wire::Bytes(frame.body.begin(), frame.body.end());
      if (frame.type == static_cast<uint16_t>(wire::ApiType::error)) {
        GECKO_TRY(const auto error, wire::decode<wire::ApiError>(frame.body));
        return make_error(Errc::refused, error.message);
      }
      continue;
    }
    if (monotonic_now() > deadline) return make_error(Errc::timeout, "geckod did not answer");
    pollfd readable{socket_.get(), POLLIN, 0};
    (void)::poll(&readable, 1, 50);
    const auto room = parser_.room();
    const ssize_t n = ::recv(socket_.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (n == 0) return make_error(Errc::closed, "geckod has closed the connection");
    if (n > 0) parser_.filled(static_cast<size_t>(n));
  }
}

void ApiClient::discard_input() {
  char piece[16384];
  while (::recv(socket_.get(), piece, sizeof piece, MSG_DONTWAIT) > 0) {
  }
}

}  // namespace gecko::system_test
