// The kit against servers that are right, and against servers that are wrong in every way it claims to notice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "kit/cpu_time.hh"
#include "kit/download_client.hh"
#include "kit/echo_client.hh"
#include "kit/http_response.hh"
#include "kit/node_processes.hh"
#include "kit/pattern.hh"
#include "kit/ping_client.hh"
#include "kit/player.hh"
#include "kit/sha256.hh"
#include "kit/slip.hh"
#include "kit/statistics.hh"
#include "kit/swarm.hh"
#include "kit/upload_client.hh"

namespace gecko::kit {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

// Blocking, one thread per connection: as different from the kit's own way as can be.
class Server {
 public:
  explicit Server(std::function<void(int fd)> serve) : serve_(std::move(serve)) {
    listener_ = Fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in6 any{};
    any.sin6_family = AF_INET6;
    any.sin6_addr = in6addr_loopback;
    GECKO_ASSERT(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&any), sizeof any) == 0 && ::listen(listener_.get(), 64) == 0);
    sockaddr_storage name{};
    socklen_t size = sizeof name;
    GECKO_ASSERT(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&name), &size) == 0);
    endpoint = *Endpoint::from_sockaddr(name);
    acceptor_ = std::thread([this] {
      for (;;) {
        const int fd = ::accept(listener_.get(), nullptr, nullptr);
        if (fd < 0) return;
        threads_.emplace_back([this, fd] {
          serve_(fd);
          ::close(fd);
        });
      }
    });
  }
  ~Server() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    for (auto& t : threads_) t.join();
  }
  Endpoint endpoint;

 private:
  std::function<void(int)> serve_;
  Fd listener_;
  std::thread acceptor_;
  std::vector<std::thread> threads_;
};

void send_all(int fd, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}
void send_all(int fd, std::string_view text) { send_all(fd, std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size())); }

void reset(int fd) {
  const linger now{1, 0};
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

// Changes what it echoes by `harm(position of the piece, piece)`; false ends the connection.
std::function<void(int)> echo(std::function<bool(uint64_t, std::vector<uint8_t>&)> harm = {}) {
  return [harm](int fd) {
    uint64_t position = 0;
    for (;;) {
      std::vector<uint8_t> piece(4096);
      const ssize_t n = ::recv(fd, piece.data(), piece.size(), 0);
      if (n <= 0) return;
      piece.resize(static_cast<size_t>(n));
      if (harm && !harm(position, piece)) return;
      send_all(fd, piece);
      position += static_cast<size_t>(n);
    }
  };
}

// Reads up to the empty line; false at the end of the stream.
bool read_head(int fd, std::string& text, std::string& rest) {
  char piece[4096];
  for (;;) {
    if (const auto end = rest.find("\r\n\r\n"); end != std::string::npos) {
      text = rest.substr(0, end);
      rest.erase(0, end + 4);
      return true;
    }
    const ssize_t n = ::recv(fd, piece, sizeof piece, 0);
    if (n <= 0) return false;
    rest.append(piece, static_cast<size_t>(n));
  }
}

// `skip`: so many bytes are left out after the first 100,000.
std::function<void(int)> stream(uint64_t wrong_at = UINT64_MAX, uint64_t cut_at = UINT64_MAX, uint64_t skip = 0) {
  return [=](int fd) {
    std::string head, rest;
    while (read_head(fd, head, rest)) {
      uint64_t size = 0, seed = 0;
      if (std::sscanf(head.c_str(), "GET /bytes/%lu?seed=%lu", &size, &seed) == 2) {
        send_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(size) + "\r\n\r\n");
        for (uint64_t at = 0; at < size;) {
          std::vector<uint8_t> piece(std::min<uint64_t>(size - at, 100'000));
          fill_pattern(Pattern::stream, seed, at, piece);
          if (wrong_at >= at && wrong_at < at + piece.size()) piece[wrong_at - at] ^= 1;
          if (cut_at < at + piece.size()) return;
          send_all(fd, piece);
          at += piece.size() + (at == 0 ? skip : 0);
        }
      } else if (std::sscanf(head.c_str(), "PUT /sink HTTP/1.1\r\nHost: gecko\r\nContent-Length: %lu", &size) == 1) {
        Sha256 sha;
        uint64_t got = std::min<uint64_t>(size, rest.size());
        sha.add(std::span(reinterpret_cast<const uint8_t*>(rest.data()), got));
        rest.erase(0, got);
        std::vector<uint8_t> piece(100'000);
        while (got < size) {
          const ssize_t n = ::recv(fd, piece.data(), std::min<uint64_t>(piece.size(), size - got), 0);
          if (n <= 0) return;
          if (wrong_at >= got && wrong_at < got + static_cast<size_t>(n)) piece[wrong_at - got] ^= 1;
          sha.add(std::span(piece).first(static_cast<size_t>(n)));
          got += static_cast<size_t>(n);
        }
        const std::string answer = "{\"bytes\":" + std::to_string(got) + ",\"sha256\":\"" + sha.hex() + "\"}\n";
        send_all(fd, "HTTP/1.1 200 OK\r\ncontent-length: " + std::to_string(answer.size()) + "\r\n\r\n" + answer);
      }
    }
  };
}

template <class C, class Options>
Totals run(Options options, const Duration length, const Duration patience = 10s) {
  auto swarm = Swarm::start();
  EXPECT_TRUE(swarm.has_value());
  (*swarm)->add<C>(options);
  const Time end = monotonic_now() + length;
  while (monotonic_now() < end && (*swarm)->open_connections() > 0) std::this_thread::sleep_for(5ms);
  return (*swarm)->wind_down(patience);
}

TEST(Kit, PatternIsTheSameInAnyPieces) {
  std::vector<uint8_t> whole(10'000), pieces(10'000);
  fill_pattern(Pattern::stream, 7, 3, whole);
  for (size_t at = 0; at < pieces.size();) {
    const size_t n = std::min<size_t>(1 + at % 97, pieces.size() - at);
    fill_pattern(Pattern::stream, 7, 3 + at, std::span(pieces).subspan(at, n));
    at += n;
  }
  EXPECT_EQ(whole, pieces);
  EXPECT_EQ(match_pattern(Pattern::stream, 7, 3, whole), whole.size());
  whole[5'555] ^= 0x40;
  EXPECT_EQ(match_pattern(Pattern::stream, 7, 3, whole), 5'555u);
  EXPECT_LT(match_pattern(Pattern::stream, 8, 3, pieces), 8u);
  fill_pattern(Pattern::echo, 7, 3, whole);
  EXPECT_EQ(std::count(whole.begin(), whole.end(), 'H'), 0);
  EXPECT_EQ(match_pattern(Pattern::echo, 7, 3, whole), whole.size());
  EXPECT_LT(match_pattern(Pattern::stream, 7, 4, pieces), 8u);
}

TEST(Kit, SlipsAreToldApart) {
  constexpr uint64_t kAt = 100'000;
  std::vector<uint8_t> came(200);
  const auto slip = [&](int64_t by) {  // what comes at kAt belongs `by` bytes further on; the first byte there may be the right one by chance
    fill_pattern(Pattern::stream, 7, kAt + static_cast<uint64_t>(by), came);
    const size_t right = match_pattern(Pattern::stream, 7, kAt, came);
    const auto found = find_slip(Pattern::stream, 7, kAt + right, std::span(came).subspan(right));
    return std::pair(found.lost, found.duplicate);
  };
  using Pair = std::pair<uint64_t, uint64_t>;
  for (const int64_t by : {1, 7, 64, 1448, 8'000'000}) {
    EXPECT_EQ(slip(by), Pair(by, 0));
    EXPECT_EQ(slip(-std::min<int64_t>(by, kAt)), Pair(0, std::min<int64_t>(by, kAt)));
  }
  EXPECT_EQ(slip(20'000'000), Pair(0, 0)) << "further away than any buffer";
  fill_pattern(Pattern::stream, 7, kAt, came);
  came[0] ^= 1;
  const auto flipped = find_slip(Pattern::stream, 7, kAt, came);
  EXPECT_EQ(flipped.lost + flipped.duplicate, 0u) << "one wrong bit moves nothing";
  fill_pattern(Pattern::stream, 7, kAt + 64, came);
  EXPECT_EQ(find_slip(Pattern::stream, 7, kAt, std::span(came).first(7)).lost, 0u) << "too few to tell";
  EXPECT_EQ(find_slip(Pattern::stream, 7, kAt, std::span(came).first(8)).lost, 64u);
}

TEST(Kit, Percentiles) {
  Samples s;
  EXPECT_EQ(s.median(), 0);
  for (int i = 100; i >= 1; --i) s.add(i);
  EXPECT_EQ(s.median(), 50);
  EXPECT_EQ(s.percentile(99), 99);
  EXPECT_EQ(s.max(), 100);
  EXPECT_EQ(s.percentile(0), 1);
}

TEST(Kit, TimelineAnswersWhatOverlaps) {
  const auto at = [](int ms) { return Time(std::chrono::milliseconds(ms)); };
  Timeline line;
  line.keep_all();
  for (int i = 0; i < 10; ++i) line.add({at(i * 10), at(i * 10 + 5)});
  line.add({at(100), at(180)});
  EXPECT_EQ(line.longest(at(12), at(31)), Duration(5ms));
  EXPECT_EQ(line.longest(at(6), at(9)), std::nullopt);
  EXPECT_EQ(line.longest(at(93), at(101)), Duration(80ms));
  EXPECT_EQ(line.lengths(at(0), at(34)).size(), 3u);
  line.forget_before(at(101));
  EXPECT_EQ(line.longest(at(0), at(95)), std::nullopt);
  EXPECT_EQ(line.longest_ever(), Duration(80ms));
}

// 10 bytes a millisecond, 1,000 in store: it begins with 500.
TEST(Player, StallsWhenTheNextByteIsNotThere) {
  const auto at = [](int ms) { return Time(std::chrono::milliseconds(ms)); };
  Player player(3000, 10, 1000);
  EXPECT_EQ(player.room(at(0)), 1000u);
  player.arrived(499, at(0));
  EXPECT_EQ(player.room(at(70)), 501u) << "it has not begun";
  player.arrived(501, at(100));
  EXPECT_EQ(player.room(at(100)), 0u);
  EXPECT_EQ(player.room(at(150)), 500u);
  player.arrived(500, at(150));
  EXPECT_EQ(player.stalls(at(250)), 0u) << "the last byte that it has is due now";
  EXPECT_EQ(player.stalls(at(260)), 1u);
  player.arrived(400, at(270));
  EXPECT_EQ(player.room(at(300)), 600u) << "it waits for half a buffer";
  player.arrived(100, at(300));
  EXPECT_EQ(player.stalls(at(360)), 2u);
  player.arrived(1000, at(370));
  EXPECT_EQ(player.stalls(at(1000)), 2u) << "the end of the film is no stall";
}

TEST(Kit, HttpHeads) {
  EXPECT_FALSE((*parse_head("HTTP/1.1 200 OK\r\nContent-Le")).has_value());
  const auto head = parse_head("HTTP/1.1 200 OK\r\ncontent-length:  42\r\nX: y\r\n\r\nbody");
  ASSERT_TRUE(head && *head);
  EXPECT_EQ((*head)->status, 200);
  EXPECT_EQ((*head)->content_length, 42u);
  EXPECT_EQ((*head)->size, 46u);
  EXPECT_FALSE(parse_head("HTTP/1.1 200 OK\r\n\r\n"));
  EXPECT_FALSE(parse_head("HTTP/1.1 200 OK\r\nContent-Length: 4x\r\n\r\n"));
  EXPECT_FALSE(parse_head("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n"));
  EXPECT_FALSE(parse_head("SMTP ready\r\n\r\n"));
  EXPECT_FALSE(parse_head(std::string(20'000, 'x')));
}

TEST(Kit, PingCountsExchanges) {
  const Server server(echo());
  const auto t = run<PingClient>(PingOptions{.server = server.endpoint, .pause = 1ms}, 100ms);
  EXPECT_EQ(t.lost(), 0u) << t.first_failure;
  EXPECT_EQ(t.finished, 1u);
  EXPECT_GT(t.exchanges, 5u);
  EXPECT_EQ(t.bytes_received, t.exchanges * 64);
}

TEST(Kit, PingSeesResetWrongByteEndAndSilence) {
  {
    const Server server(echo([](uint64_t at, auto& piece) { return at < 640 || (piece[10] ^= 1, true); }));
    const auto t = run<PingClient>(PingOptions{.server = server.endpoint}, 5s);
    EXPECT_EQ(t.wrong, 1u);
    EXPECT_THAT(t.first_failure, HasSubstr("byte 650 "));
  }
  {
    const Server server(echo([](uint64_t at, auto&) { return at < 640; }));
    EXPECT_EQ(run<PingClient>(PingOptions{.server = server.endpoint}, 5s).closed_early, 1u);
  }
  {
    const Server server([](int fd) {
      char byte;
      (void)::recv(fd, &byte, 1, 0);
      reset(fd);
    });
    EXPECT_EQ(run<PingClient>(PingOptions{.server = server.endpoint}, 5s).resets, 1u);
  }
  {
    const Server server(echo([](uint64_t at, auto& piece) {  // one byte too many
      if (at == 640) piece.push_back(0);
      return true;
    }));
    EXPECT_EQ(run<PingClient>(PingOptions{.server = server.endpoint, .pause = 1ms}, 5s).wrong, 1u);
  }
  {
    const Server server(echo([](uint64_t at, auto& piece) {  // 20 bytes too few, in the middle
      if (at == 640) piece.erase(piece.begin() + 10, piece.begin() + 30);
      return true;
    }));
    const auto t = run<PingClient>(PingOptions{.server = server.endpoint}, 5s);
    EXPECT_EQ(t.wrong, 1u);
    EXPECT_EQ(t.lost_bytes, 20u);
    EXPECT_EQ(t.duplicate_bytes, 0u);
    EXPECT_THAT(t.first_failure, HasSubstr("20 bytes were left out"));
  }
  {
    const Server server(echo([](uint64_t at, auto& piece) {  // an answer comes twice
      if (at == 640) piece.insert(piece.end(), piece.begin(), piece.begin() + 64);
      return true;
    }));
    const auto t = run<PingClient>(PingOptions{.server = server.endpoint, .pause = 1ms}, 5s);
    EXPECT_EQ(t.wrong, 1u);
    EXPECT_EQ(t.lost_bytes, 0u);
    EXPECT_EQ(t.duplicate_bytes, 64u);
  }
  {
    const Server server([](int fd) {
      pollfd end{fd, POLLRDHUP, 0};
      (void)::poll(&end, 1, 10'000);
    });
    const auto t = run<PingClient>(PingOptions{.server = server.endpoint}, 20ms, 20ms);
    EXPECT_EQ(t.stuck, 1u);
    EXPECT_THAT(t.first_failure, HasSubstr("stuck"));
  }
}

TEST(Kit, RefusedConnectionIsAFailure) {
  Endpoint gone;
  {
    const Server server(echo());
    gone = server.endpoint;
  }
  EXPECT_EQ(run<PingClient>(PingOptions{.server = gone}, 1s).failed, 1u);
}

TEST(Kit, EchoStreamIsWholeAndEndsWell) {
  const Server server(echo());
  const auto fast = run<EchoClient>(EchoOptions{.server = server.endpoint, .seed = 3}, 200ms);
  EXPECT_EQ(fast.lost(), 0u) << fast.first_failure;
  EXPECT_EQ(fast.finished, 1u);
  EXPECT_GT(fast.bytes_received, 1'000'000u);
  EXPECT_EQ(fast.bytes_received, fast.bytes_sent);
  const auto paced = run<EchoClient>(EchoOptions{.server = server.endpoint, .pause = 2ms, .seed = 4}, 100ms);
  EXPECT_EQ(paced.lost(), 0u) << paced.first_failure;
  EXPECT_EQ(paced.bytes_received, paced.bytes_sent);
}

TEST(Kit, EchoStreamSeesLostAndDoubledBytes) {
  const Server losing(echo([](uint64_t at, auto& piece) { return at < 100'000 || (piece.erase(piece.begin()), true); }));
  const auto lost = run<EchoClient>(EchoOptions{.server = losing.endpoint}, 5s);
  EXPECT_EQ(lost.wrong, 1u);
  EXPECT_EQ(lost.lost_bytes, 1u) << lost.first_failure;
  EXPECT_EQ(lost.duplicate_bytes, 0u);
  const Server doubling(echo([](uint64_t at, auto& piece) { return at < 100'000 || (piece.insert(piece.begin(), piece[0]), true); }));
  const auto doubled = run<EchoClient>(EchoOptions{.server = doubling.endpoint}, 5s);
  EXPECT_EQ(doubled.wrong, 1u);
  EXPECT_EQ(doubled.duplicate_bytes, 1u) << doubled.first_failure;
  EXPECT_EQ(doubled.lost_bytes, 0u);
  const Server ending(echo([](uint64_t at, auto&) { return at < 100'000; }));
  const auto t = run<EchoClient>(EchoOptions{.server = ending.endpoint}, 5s);
  EXPECT_EQ(t.closed_early + t.resets, 1u);
}

TEST(Kit, DownloadsAreVerified) {
  const Server server(stream());
  using Then = DownloadOptions::Then;
  for (const auto then : {Then::finish, Then::same_connection, Then::new_connection}) {
    const auto t = run<DownloadClient>(DownloadOptions{.server = server.endpoint, .size = 777'777, .seed = 9, .then = then}, 150ms);
    EXPECT_EQ(t.lost(), 0u) << t.first_failure;
    EXPECT_GE(t.exchanges, then == Then::finish ? 1u : 2u);
    EXPECT_EQ(t.connections, then == Then::new_connection ? t.exchanges : 1u);
    EXPECT_EQ(t.finished, t.connections);
  }
  const auto slow = run<DownloadClient>(DownloadOptions{.server = server.endpoint, .size = 500'000, .bytes_per_ms = 10'000}, 10s);
  EXPECT_EQ(slow.lost(), 0u) << slow.first_failure;
  EXPECT_EQ(slow.exchanges, 1u);
  const Server wrong(stream(123'456));
  const auto harmed = run<DownloadClient>(DownloadOptions{.server = wrong.endpoint}, 5s);
  EXPECT_THAT(harmed.first_failure, HasSubstr("byte 123456 "));
  EXPECT_EQ(harmed.lost_bytes + harmed.duplicate_bytes, 0u);
  const Server skipping(stream(UINT64_MAX, UINT64_MAX, 1448));
  const auto skipped = run<DownloadClient>(DownloadOptions{.server = skipping.endpoint}, 5s);
  EXPECT_EQ(skipped.wrong, 1u);
  EXPECT_EQ(skipped.lost_bytes, 1448u) << skipped.first_failure;
  EXPECT_EQ(skipped.duplicate_bytes, 0u);
  const Server cut(stream(UINT64_MAX, 500'000));
  EXPECT_EQ(run<DownloadClient>(DownloadOptions{.server = cut.endpoint}, 5s).closed_early, 1u);
}

TEST(Kit, UploadsAreVerified) {
  const Server server(stream());
  using Then = UploadOptions::Then;
  for (const auto then : {Then::finish, Then::same_connection, Then::new_connection}) {
    const auto t = run<UploadClient>(
        UploadOptions{.server = server.endpoint, .size = 777'777, .seed = 9, .then = then, .look = 200us, .keep_timeline = true}, 150ms);
    EXPECT_EQ(t.lost(), 0u) << t.first_failure;
    EXPECT_GE(t.exchanges, then == Then::finish ? 1u : 2u);
    EXPECT_EQ(t.connections, then == Then::new_connection ? t.exchanges : 1u);
  }
  const auto slow = run<UploadClient>(UploadOptions{.server = server.endpoint, .size = 500'000, .bytes_per_ms = 10'000}, 10s);
  EXPECT_EQ(slow.lost(), 0u) << slow.first_failure;
  const Server wrong(stream(123'456));
  EXPECT_THAT(run<UploadClient>(UploadOptions{.server = wrong.endpoint}, 5s).first_failure, HasSubstr("SHA-256 differs"));
}

TEST(Kit, AProgramIsNotGoneBeforeItsLastThread) {
  const pid_t child = ::fork();
  GECKO_ASSERT(child >= 0);
  if (child == 0) {
    std::thread([] { ::pause(); }).detach();
    ::syscall(SYS_exit, 0);   // of the first thread only
  }
  const Time deadline = monotonic_now() + 5s;
  while (!status_line(child, "State").starts_with('Z') && monotonic_now() < deadline) std::this_thread::yield();
  EXPECT_TRUE(status_line(child, "State").starts_with('Z'));
  EXPECT_FALSE(is_gone(child));
  GECKO_ASSERT(::kill(child, SIGKILL) == 0);
  while (!is_gone(child) && monotonic_now() < deadline) std::this_thread::yield();
  EXPECT_TRUE(is_gone(child));
  EXPECT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(is_gone(child));
}

TEST(Kit, CpuTimeGrowsWithWork) {
  const auto before = cpu_time({getpid()});
  ASSERT_TRUE(before);
  const Time end = monotonic_now() + 30ms;
  while (monotonic_now() < end) {
  }
  const auto after = cpu_time({getpid()});
  ASSERT_TRUE(after);
  EXPECT_GT(*after, *before);
  EXPECT_FALSE(cpu_time({999'999'999}));
}

}  // namespace
}  // namespace gecko::kit
