#include "net/channel.hh"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <random>

namespace gecko::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

struct Blob {
  uint64_t number = 0;
  std::string text;
  GECKO_FIELDS(number, wire::limited<64u << 20>(text))
};

int open_descriptors() {
  DIR* dir = opendir("/proc/self/fd");
  int n = 0;
  while (readdir(dir) != nullptr) ++n;
  closedir(dir);
  return n;
}

std::pair<Fd, Fd> socket_pair() {
  int fds[2] = {-1, -1};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  return {Fd(fds[0]), Fd(fds[1])};
}

// A descriptor that can be recognised at the other end: a memfd holding `number`.
Fd numbered(uint64_t number) {
  Fd fd(memfd_create("gkt-net", MFD_CLOEXEC));
  EXPECT_EQ(pwrite(fd.get(), &number, sizeof number, 0), static_cast<ssize_t>(sizeof number));
  return fd;
}
uint64_t number_of(const Fd& fd) {
  uint64_t number = 0;
  EXPECT_EQ(pread(fd.get(), &number, sizeof number, 0), static_cast<ssize_t>(sizeof number));
  return number;
}

struct End {
  explicit End(Loop& loop, Fd socket, size_t limit = 96u << 20) {
    channel = std::make_unique<Channel>(
        loop, std::move(socket),
        [this](const wire::FrameView& frame, std::vector<Fd>& fds) {
          EXPECT_EQ(fds.size(), frame.descriptors);
          const auto blob = wire::decode<Blob>(frame.body);
          ASSERT_TRUE(blob);
          numbers.push_back(blob->number);
          bytes += blob->text.size();
          for (const Fd& fd : fds) {
            EXPECT_TRUE(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC);
            fd_numbers.push_back(number_of(fd));
          }
          if (on_frame) on_frame();
        },
        [this](const Error& error) { closed.push_back(error); }, limit);
  }
  std::unique_ptr<Channel> channel;
  std::vector<uint64_t> numbers, fd_numbers;
  size_t bytes = 0;
  std::vector<Error> closed;
  std::function<void()> on_frame;
};

void run_until(Loop& loop, const std::function<bool()>& done) {
  const Time deadline = monotonic_now() + seconds(20);
  while (!done() && monotonic_now() < deadline) loop.run_once(milliseconds(50));
  EXPECT_TRUE(done());
}

class ChannelTest : public testing::Test {
 protected:
  ChannelTest() : before_(open_descriptors()) {}
  void TearDown() override { EXPECT_EQ(open_descriptors(), before_) << "descriptors leaked"; }
  int before_;
};

TEST_F(ChannelTest, MessagesArriveInOrderWithTheirDescriptors) {
  Loop loop;
  auto [x, y] = socket_pair();
  End a(loop, std::move(x)), b(loop, std::move(y));
  uint64_t next_fd = 0;
  std::mt19937 random(7);
  constexpr uint64_t kMessages = 3000;
  for (uint64_t i = 0; i < kMessages; ++i) {
    std::vector<Fd> fds;
    if (i % 3 == 0) for (auto n = random() % 5; n-- != 0;) fds.push_back(numbered(next_fd++));
    a.channel->send(1, Blob{i, std::string(random() % 400, 'x')}, std::move(fds));
    if (i % 100 == 99) loop.run_once(milliseconds(0));
  }
  run_until(loop, [&] { return b.numbers.size() == kMessages; });
  for (uint64_t i = 0; i < kMessages; ++i) ASSERT_EQ(b.numbers[i], i);
  ASSERT_EQ(b.fd_numbers.size(), next_fd);
  for (uint64_t i = 0; i < next_fd; ++i) ASSERT_EQ(b.fd_numbers[i], i);
  EXPECT_TRUE(a.closed.empty() && b.closed.empty());
}

TEST_F(ChannelTest, TheMostDescriptorsOneFrameCanCarryManyTimes) {
  Loop loop;
  auto [x, y] = socket_pair();
  End a(loop, std::move(x)), b(loop, std::move(y));
  const Fd one = numbered(42);
  for (uint64_t i = 0; i < 20; ++i) {
    std::vector<Fd> fds;
    for (size_t n = 0; n < (i % 2 == 0 ? kMaxFrameDescriptors : 1); ++n) fds.emplace_back(fcntl(one.get(), F_DUPFD_CLOEXEC, 3));
    a.channel->send(1, Blob{i, ""}, std::move(fds));
  }
  run_until(loop, [&] { return b.numbers.size() == 20; });
  EXPECT_EQ(b.fd_numbers.size(), 10 * kMaxFrameDescriptors + 10);
}

TEST_F(ChannelTest, DescriptorsOfABatchShareASystemCall) {
  Loop loop;
  auto [x, y] = socket_pair();
  End a(loop, std::move(x));
  for (uint64_t i = 0; i < 50; ++i) {
    std::vector<Fd> fds;
    fds.push_back(numbered(i));
    a.channel->send(1, Blob{i, "state of a connection"}, std::move(fds));
  }
  loop.run_once(milliseconds(0));
  char data[16384];
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFrameDescriptors * sizeof(int))];
  iovec iov{data, sizeof data};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ASSERT_GT(recvmsg(y.get(), &message, MSG_DONTWAIT), 0);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  ASSERT_NE(header, nullptr);
  ASSERT_EQ(header->cmsg_len, CMSG_LEN(50 * sizeof(int)));  // all in one
  for (int i = 0; i < 50; ++i) close(reinterpret_cast<const int*>(CMSG_DATA(header))[i]);
}

TEST_F(ChannelTest, LargeMessagesBothWaysWithDescriptorsAroundThem) {
  Loop loop;
  auto [x, y] = socket_pair();
  End a(loop, std::move(x)), b(loop, std::move(y));
  constexpr size_t kLarge = 40u << 20;
  uint64_t fd_number = 0;
  for (End* end : {&a, &b}) {
    for (uint64_t i = 0; i < 5; ++i) {
      std::vector<Fd> fds;
      fds.push_back(numbered(fd_number++));
      end->channel->send(1, Blob{i, std::string(i == 2 ? kLarge : 100, 'y')}, std::move(fds));
    }
  }
  run_until(loop, [&] { return a.numbers.size() == 5 && b.numbers.size() == 5; });
  EXPECT_EQ(a.bytes, kLarge + 400);
  EXPECT_EQ(b.fd_numbers, (std::vector<uint64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(a.fd_numbers, (std::vector<uint64_t>{5, 6, 7, 8, 9}));
}

TEST_F(ChannelTest, ASlowReaderHitsTheLimit) {
  Loop loop;
  auto [x, y] = socket_pair();
  End a(loop, std::move(x), 1 << 20);
  for (int i = 0; i < 40 && !a.channel->dead(); ++i) {
    a.channel->send(1, Blob{1, std::string(65536, 'z')});
    EXPECT_TRUE(a.closed.empty());  // never from inside send
    if (i % 4 == 0) loop.run_once(milliseconds(0));
  }
  EXPECT_TRUE(a.channel->dead());
  a.channel->send(1, Blob{});  // harmless
  a.channel->flush();
  loop.run_once(milliseconds(0));
  ASSERT_EQ(a.closed.size(), 1u);
  EXPECT_EQ(a.closed[0].code, Errc::limit);
  EXPECT_THAT(a.closed[0].message, HasSubstr("1048576"));
}

TEST_F(ChannelTest, LastMessagesOfAPeerThatClosesAreDelivered) {
  Loop loop;
  auto [x, y] = socket_pair();
  End b(loop, std::move(y));
  {
    End a(loop, std::move(x));
    for (uint64_t i = 0; i < 10; ++i) a.channel->send(1, Blob{i, "bye"}, {});
  }  // destroyed before the loop ran: still offered to the kernel
  b.channel->send(1, Blob{1, "into the void"});
  b.channel->flush();  // EPIPE must not hide the messages
  run_until(loop, [&] { return !b.closed.empty(); });
  EXPECT_EQ(b.numbers.size(), 10u);
  ASSERT_EQ(b.closed.size(), 1u);
  EXPECT_EQ(b.closed[0].code, Errc::closed);
}

TEST_F(ChannelTest, APeerThatOnlyStopsReadingIsNoticed) {
  Loop loop;
  auto [x, y] = socket_pair();
  End a(loop, std::move(x));
  shutdown(y.get(), SHUT_RD);
  a.channel->send(1, Blob{1, "hello"});
  run_until(loop, [&] { return !a.closed.empty(); });
  EXPECT_EQ(a.closed[0].code, Errc::closed);
}

TEST_F(ChannelTest, MayBeDestroyedInsideItsHandlers) {
  Loop loop;
  auto [x, y] = socket_pair();
  End a(loop, std::move(x)), b(loop, std::move(y));
  b.on_frame = [&] { b.channel.reset(); };
  a.channel->send(1, Blob{1, "one"});
  a.channel->send(1, Blob{2, "two"});
  run_until(loop, [&] { return !a.closed.empty(); });
  EXPECT_EQ(b.numbers.size(), 1u);
  EXPECT_TRUE(b.closed.empty());

  auto [p, q] = socket_pair();
  std::unique_ptr<Channel> self;
  int calls = 0;
  self = std::make_unique<Channel>(loop, std::move(p), [](const wire::FrameView&, std::vector<Fd>&) {}, [&](const Error&) { ++calls; self.reset(); });
  q.reset();
  run_until(loop, [&] { return calls != 0; });
  EXPECT_EQ(self, nullptr);
  EXPECT_EQ(loop.watched(), 1u - a.closed.size());
}

// --- hostile peers -------------------------------------------------------------------------------------------------------

void send_raw(const Fd& socket, const wire::Bytes& data, size_t descriptors) {
  std::vector<int> numbers(descriptors, STDIN_FILENO);
  const Fd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  std::fill(numbers.begin(), numbers.end(), null.get());
  iovec iov{const_cast<uint8_t*>(data.data()), data.size()};
  std::vector<char> control(CMSG_SPACE(std::max<size_t>(descriptors, 1) * sizeof(int)));
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (descriptors != 0) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(descriptors * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors * sizeof(int));
    std::memcpy(CMSG_DATA(header), numbers.data(), descriptors * sizeof(int));
  }
  ASSERT_EQ(sendmsg(socket.get(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(data.size()));
}

wire::Bytes frame(uint64_t number, size_t text, uint8_t descriptors) {
  wire::Bytes out;
  wire::put_frame(out, 1, Blob{number, std::string(text, 'a')}, descriptors);
  return out;
}

struct Hostile {
  const char* name;
  std::function<void(const Fd&)> attack;
  Errc code;
  const char* says;
};

TEST_F(ChannelTest, MalformedStreamsCloseItWithAReason) {
  const std::vector<Hostile> attacks = {
      {"over-long frame", [](const Fd& s) { send_raw(s, {0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0}, 0); }, Errc::limit, "over this channel's limit"},
      {"reserved byte", [](const Fd& s) { send_raw(s, {1, 0, 0, 0, 1, 0, 0, 9}, 0); }, Errc::invalid, "reserved"},
      {"announced, not sent", [](const Fd& s) { send_raw(s, frame(1, 5, 2), 0); }, Errc::invalid, "announces 2 descriptors, 0 came"},
      {"announced more than sent", [](const Fd& s) { send_raw(s, frame(1, 5, 200), 3); }, Errc::invalid, "announces 200 descriptors, 3 came"},
      {"sent, not announced", [](const Fd& s) { send_raw(s, frame(1, 5, 0), 1); }, Errc::invalid, "no frame announced"},
      {"sent more than announced", [](const Fd& s) { send_raw(s, frame(1, 5, 1), 253); }, Errc::invalid, "252 descriptors came that no frame announced"},
      {"not announced, behind half a frame",
       [](const Fd& s) {
         send_raw(s, frame(1, 60000, 0), 3);
         wire::Bytes half = frame(2, 60000, 0);
         half.resize(30000);
         send_raw(s, half, 0);
       },
       Errc::invalid, "no frame announced"},
      {"descriptors on every byte",
       [](const Fd& s) { for (int i = 0; i < 60; ++i) send_raw(s, wire::Bytes(1, i == 0 ? 200 : 0), 40); }, Errc::invalid, ""},
      {"ends inside a header", [](const Fd& s) { send_raw(s, {1, 0, 0}, 0); shutdown(s.get(), SHUT_WR); }, Errc::closed, "in the middle"},
      {"ends inside a body", [](const Fd& s) { send_raw(s, {9, 0, 0, 0, 1, 0, 0, 0, 1}, 0); shutdown(s.get(), SHUT_WR); }, Errc::closed, "in the middle"},
      {"ends at once", [](const Fd& s) { shutdown(s.get(), SHUT_WR); }, Errc::closed, "the peer closed"},
      {"ends with descriptors in the air",
       [](const Fd& s) { send_raw(s, {9, 0, 0, 0, 1, 0, 3, 0, 1}, 3); shutdown(s.get(), SHUT_WR); }, Errc::closed, "in the middle"},
  };
  for (const auto& attack : attacks) {
    SCOPED_TRACE(attack.name);
    const int before = open_descriptors();
    {
      Loop loop;
      auto [x, y] = socket_pair();
      std::vector<Error> closed;
      Channel channel(loop, std::move(x), [](const wire::FrameView&, std::vector<Fd>&) {}, [&](const Error& e) { closed.push_back(e); });
      attack.attack(y);
      const Time deadline = monotonic_now() + seconds(5);
      while (closed.empty() && monotonic_now() < deadline) {
        loop.run_once(milliseconds(20));
        if (std::string_view(attack.name) == "descriptors on every byte" && closed.empty()) send_raw(y, wire::Bytes(4096, 0), 0);
      }
      ASSERT_EQ(closed.size(), 1u);
      EXPECT_EQ(closed[0].code, attack.code) << closed[0].message;
      EXPECT_THAT(closed[0].message, HasSubstr(attack.says));
      EXPECT_TRUE(channel.dead());
    }
    EXPECT_EQ(open_descriptors(), before);
  }
}

// Whatever a peer sends, in whatever pieces, with whatever descriptors: no crash, no leak.
TEST_F(ChannelTest, RandomStreamsNeverLeakDescriptors) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    Loop loop;
    auto [x, y] = socket_pair();
    int frames = 0, closed = 0;
    Channel channel(loop, std::move(x), [&](const wire::FrameView&, std::vector<Fd>&) { ++frames; }, [&](const Error&) { ++closed; });
    wire::Bytes stream;
    for (int i = 0; i < 6; ++i) {
      const auto part = frame(static_cast<uint64_t>(i), random() % 300, static_cast<uint8_t>(random() % 3));
      stream.insert(stream.end(), part.begin(), part.end());
    }
    if (random() % 2 == 0) stream[random() % stream.size()] ^= static_cast<uint8_t>(1u << (random() % 8));
    for (size_t at = 0; at < stream.size();) {
      const size_t n = std::min<size_t>(stream.size() - at, 1 + random() % 200);
      if (closed == 0) send_raw(y, wire::Bytes(stream.begin() + static_cast<ptrdiff_t>(at), stream.begin() + static_cast<ptrdiff_t>(at + n)), random() % 3);
      at += n;
      loop.run_once(milliseconds(0));
    }
    loop.run_once(milliseconds(0));
    EXPECT_LE(closed, 1);
  }
}

// --- named sockets -------------------------------------------------------------------------------------------------------

class UnixSocketTest : public ChannelTest {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gkt-net-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
  }
  void TearDown() override {
    ASSERT_EQ(system(("rm -rf " + dir_).c_str()), 0);
    ChannelTest::TearDown();
  }
  std::string dir_;
};

TEST_F(UnixSocketTest, ListenConnectAndCredentials) {
  const std::string path = dir_ + "/geckod.sock";
  const mode_t old = umask(077);
  {
    const auto listener = unix_listen(path, 0666);
    umask(old);
    ASSERT_TRUE(listener) << listener.error().message;
    struct stat info{};
    ASSERT_EQ(lstat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0666u);
    const auto client = unix_connect(path);
    ASSERT_TRUE(client) << client.error().message;
    const Fd served(accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    ASSERT_TRUE(served);
    const auto cred = peer_credentials(served.get());
    ASSERT_TRUE(cred);
    EXPECT_EQ(cred->pid, static_cast<uint32_t>(getpid()));
    EXPECT_EQ(cred->uid, getuid());
    EXPECT_TRUE(fcntl(client->get(), F_GETFL) & O_NONBLOCK);

    const auto second = unix_listen(path, 0600);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Errc::exists);
    EXPECT_THAT(second.error().message, HasSubstr("another process is listening"));
  }
  const auto nobody = unix_connect(path);
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().code, Errc::unavailable);
  EXPECT_TRUE(unix_listen(path, 0600));  // the dead one is replaced
}

TEST_F(UnixSocketTest, RefusesWhatIsNotItsOwn) {
  const std::string path = dir_ + "/x.sock";
  const std::string target = dir_ + "/victim";
  ASSERT_EQ(symlink(target.c_str(), path.c_str()), 0);
  const auto link = unix_listen(path, 0600);
  ASSERT_FALSE(link);
  EXPECT_EQ(link.error().code, Errc::exists);
  EXPECT_NE(access(target.c_str(), F_OK), 0);
  unlink(path.c_str());
  const Fd file(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  const auto regular = unix_listen(path, 0600);
  ASSERT_FALSE(regular);
  EXPECT_THAT(regular.error().message, HasSubstr("not a socket"));
  EXPECT_EQ(access(path.c_str(), F_OK), 0);  // untouched

  const auto longer = unix_listen(dir_ + "/" + std::string(120, 'l'), 0600);
  ASSERT_FALSE(longer);
  EXPECT_EQ(longer.error().code, Errc::limit);
  EXPECT_FALSE(unix_connect(""));
  const auto missing = unix_listen(dir_ + "/no/such/dir", 0600);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::not_found);
  EXPECT_FALSE(peer_credentials(file.get()));
}

TEST_F(UnixSocketTest, AStoppedListenerIsATimeoutNotAHang) {
  const std::string path = dir_ + "/full.sock";
  const auto listener = unix_listen(path, 0600);
  ASSERT_TRUE(listener);
  ASSERT_EQ(listen(listener->get(), 0), 0);
  std::vector<Fd> waiting;
  for (int i = 0; i < 3; ++i) {
    auto client = unix_connect(path);
    if (!client) {
      EXPECT_EQ(client.error().code, Errc::timeout);
      EXPECT_EQ(unix_listen(path, 0600).error().code, Errc::exists);  // full is alive
      return;
    }
    waiting.push_back(*std::move(client));
  }
  FAIL() << "the backlog never filled";
}

}  // namespace
}  // namespace gecko::net
