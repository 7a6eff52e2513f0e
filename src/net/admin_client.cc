#include "net/admin_client.hh"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "net/channel.hh"

namespace gecko::net {
namespace {

constexpr uint16_t type_of(wire::ApiType type) { return static_cast<uint16_t>(type); }

// What geckod said instead of the answer; its codes are Errc values.
Error told(const wire::ApiError& error) {
  const bool known = error.code >= static_cast<int>(Errc::internal) && error.code <= static_cast<int>(Errc::version);
  return make_error(known ? static_cast<Errc>(error.code) : Errc::refused, error.message);
}

}  // namespace

Error AdminClient::not_answering() const {
  return make_error(Errc::timeout, "geckod at " + path_ + " accepts connections but does not answer: it is stopped or stuck. "
                                   "Look at its log and its state (ps -C geckod -o pid,stat,wchan); kill -CONT wakes a stopped one");
}

Status AdminClient::wait(short events, Time deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - monotonic_now()).count();
    pollfd ready{socket_.get(), events, 0};
    const int n = poll(&ready, 1, static_cast<int>(std::clamp<int64_t>(left, 0, 3'600'000)));
    if (n > 0) return {};
    if (n == 0) return not_answering();
    if (errno != EINTR) return os_error("poll " + path_);
  }
}

Status AdminClient::send(const wire::Bytes& bytes, Time deadline) {
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t sent = ::send(socket_.get(), bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      at += static_cast<size_t>(sent);
    } else if (errno == EAGAIN) {
      GECKO_CHECK(wait(POLLOUT, deadline));
    } else if (errno != EINTR) {
      return os_error("write to geckod at " + path_);
    }
  }
  return {};
}

Result<wire::FrameView> AdminClient::receive(Time deadline) {
  wire::FrameView frame;
  for (;;) {
    GECKO_TRY(const bool whole, parser_.next(frame));
    if (whole) return frame;
    GECKO_CHECK(wait(POLLIN, deadline));
    const auto room = parser_.room();
    const ssize_t got = recv(socket_.get(), room.data(), room.size(), MSG_DONTWAIT);  // a descriptor sent along is dropped by the kernel
    if (got > 0) parser_.filled(static_cast<size_t>(got));
    else if (got == 0) return make_error(Errc::unavailable, "geckod at " + path_ + " closed the connection; its log says why");
    else if (errno != EINTR && errno != EAGAIN) return os_error("read from geckod at " + path_);
  }
}

Result<AdminClient> AdminClient::connect(const std::string& socket_path, const std::string& program, Duration at_most) {
  const Time deadline = monotonic_now() + at_most;
  auto socket = unix_connect(socket_path);
  if (!socket && socket.error().code == Errc::unavailable)
    return make_error(Errc::unavailable, "geckod is not running: nobody listens on " + socket_path +
                                             "; 'systemctl start geckod' starts it (a witness: geckod-witness)");
  if (!socket && socket.error().code == Errc::permission)
    return make_error(Errc::permission, "no right to use " + socket_path + ": run as root, or as a user named under [rights] in the group file");
  if (!socket) return socket.error().code == Errc::timeout ? AdminClient(Fd(), socket_path).not_answering() : socket.error();
  AdminClient client(*std::move(socket), socket_path);
  wire::Bytes out;
  wire::ApiHello hello;
  hello.program = program.substr(0, 64);
  wire::put_frame(out, type_of(wire::ApiType::hello), hello);
  GECKO_CHECK(client.send(out, deadline));
  GECKO_TRY(const wire::FrameView frame, client.receive(deadline));
  if (frame.type == type_of(wire::ApiType::error)) {
    GECKO_TRY(const wire::ApiError error, wire::decode<wire::ApiError>(frame.body));
    return told(error);
  }
  if (frame.type != type_of(wire::ApiType::welcome))
    return make_error(Errc::invalid, "who listens on " + socket_path + " is no geckod: it greets with message type " + std::to_string(frame.type));
  GECKO_TRY(client.welcome_, wire::decode<wire::Welcome>(frame.body));
  return client;
}

Result<std::string> AdminClient::ask(const std::string& json, Duration at_most) {
  const Time deadline = monotonic_now() + at_most;
  if (json.size() > wire::kMaxJson) return make_error(Errc::limit, "a question to geckod is at most 16 MiB");
  wire::Admin question;
  question.request = next_request_++;
  question.json = json;
  wire::Bytes out;
  wire::put_frame(out, type_of(wire::ApiType::admin), question);
  GECKO_CHECK(send(out, deadline));
  for (;;) {
    GECKO_TRY(const wire::FrameView frame, receive(deadline));
    if (frame.type == type_of(wire::ApiType::admin_reply)) {
      GECKO_TRY(wire::AdminReply reply, wire::decode<wire::AdminReply>(frame.body));
      if (reply.request == question.request) return std::move(reply.json);
    } else if (frame.type == type_of(wire::ApiType::error)) {
      GECKO_TRY(const wire::ApiError error, wire::decode<wire::ApiError>(frame.body));
      if (error.request == question.request || error.request == 0) return told(error);
    }  // anything else was not asked for and is not ours to judge
  }
}

}  // namespace gecko::net
