#include "fake_geckod.hh"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <filesystem>

#include "net/channel.hh"

namespace gecko::tests {
namespace {

template <wire::Message M>
void put(int to, wire::ApiType type, const M& message) {
  wire::Bytes out;
  wire::put_frame(out, static_cast<uint16_t>(type), message);
  EXPECT_EQ(send(to, out.data(), out.size(), MSG_NOSIGNAL), static_cast<ssize_t>(out.size()));
}

}  // namespace

FakeGeckod::FakeGeckod(Manner manner, std::function<std::string(const std::string&)> answer) : manner_(manner), answer_(std::move(answer)) {
  char directory[] = "/tmp/gecko-cli-test-XXXXXX";
  EXPECT_NE(mkdtemp(directory), nullptr);
  directory_ = directory;
  path_ = directory_ + "/geckod.sock";
  auto listener = net::unix_listen(path_, 0600);
  EXPECT_TRUE(listener) << listener.error().message;
  if (listener) listener_ = std::move(*listener);
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  stop_read_.reset(ends[0]);
  stop_write_.reset(ends[1]);
  worker_ = std::thread([this] { serve(); });
}

FakeGeckod::~FakeGeckod() {
  stop_write_.reset();
  worker_.join();
  std::filesystem::remove_all(directory_);
}

void FakeGeckod::serve() {
  for (;;) {
    pollfd ready[2] = {{stop_read_.get(), POLLIN, 0}, {manner_ == Manner::never_accepts ? -1 : listener_.get(), POLLIN, 0}};
    if (poll(ready, 2, -1) < 0 || ready[0].revents != 0) return;
    const Fd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (connection) talk(connection.get());
  }
}

void FakeGeckod::talk(int connection) {
  wire::FrameParser parser;
  for (;;) {
    wire::FrameView frame;
    const auto whole = parser.next(frame);
    if (!whole) return;
    if (!*whole) {
      pollfd ready[2] = {{stop_read_.get(), POLLIN, 0}, {connection, POLLIN, 0}};
      if (poll(ready, 2, -1) < 0 || ready[0].revents != 0) return;
      const auto room = parser.room();
      const ssize_t got = recv(connection, room.data(), room.size(), 0);
      if (got <= 0) return;
      parser.filled(static_cast<size_t>(got));
      continue;
    }
    if (frame.type == static_cast<uint16_t>(wire::ApiType::hello)) {
      if (manner_ == Manner::never_welcomes) continue;
      if (manner_ == Manner::greets_strangely) put(connection, wire::ApiType::done, wire::Done{});
      else if (manner_ == Manner::refuses_version)
        put(connection, wire::ApiType::error, wire::ApiError{0, static_cast<uint16_t>(Errc::version), "too new for me"});
      else put(connection, wire::ApiType::welcome, wire::Welcome{1, "9.9", "n1"});
      continue;
    }
    const auto admin = wire::decode<wire::Admin>(frame.body);
    EXPECT_TRUE(admin);
    if (!admin) return;
    {
      const std::lock_guard guard(lock_);
      question_ = admin->json;
    }
    if (manner_ == Manner::never_answers) continue;
    if (manner_ == Manner::hangs_up) return;
    if (manner_ == Manner::breaks_frames) {
      const char nonsense[] = "\xff\xff\xff\xff\xff\xff\xff\xff and more";
      send(connection, nonsense, sizeof nonsense, MSG_NOSIGNAL);
      continue;
    }
    put(connection, wire::ApiType::members, wire::Members{});                              // not asked for
    put(connection, wire::ApiType::admin_reply, wire::AdminReply{admin->request + 7, "{}"});  // of another request
    put(connection, wire::ApiType::admin_reply, wire::AdminReply{admin->request, answer_(admin->json)});
  }
}

}  // namespace gecko::tests
