// nginx behind geckoproxy: clients that keep their connections and are moved between their requests.
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "base/fd.hh"
#include "proxy/test_corpus.hh"
#include "proxy_scene.hh"

namespace gecko::proxy_test {
namespace {

using testing::HasSubstr;
using testing::Not;
constexpr uint64_t kFewest = 20;   // moves that a test must have seen to show anything; a quiet machine manages hundreds

Fd connect_to(const Endpoint& to) {
  sockaddr_storage name{};
  const socklen_t size = to.to_sockaddr(name);
  Fd fd(::socket(to.address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), size), 0) << to.str();
  return fd;
}
void send_all(const Fd& fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ASSERT_GT(n, 0) << std::strerror(errno);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}
// Until `enough` bytes, the end, or 10 s without one.
std::string receive(const Fd& fd, size_t enough, Duration patience = 10s) {
  std::string got;
  char buffer[65536];
  while (got.size() < enough) {
    pollfd ready{fd.get(), POLLIN, 0};
    if (::poll(&ready, 1, static_cast<int>(patience / 1ms)) <= 0) break;
    const ssize_t n = ::recv(fd.get(), buffer, std::min(sizeof buffer, enough - got.size()), 0);
    if (n < 0) return got + "<" + std::strerror(errno) + ">";
    if (n == 0) break;
    got.append(buffer, static_cast<size_t>(n));
  }
  return got;
}
const std::string kWhere = "GET /node HTTP/1.1\r\nHost: x\r\n\r\n";
std::string where(const Fd& fd) {   // asks which node answers
  send_all(fd, kWhere);
  std::string answer;
  while (answer.find("\r\n\r\n") == std::string::npos || answer.back() != '\n' || answer.ends_with("\r\n")) {
    const auto more = receive(fd, 1);
    if (more.size() != 1) return answer + more;
    answer += more;
  }
  return answer.substr(answer.size() - 3, 2);
}

TEST_F(ProxyTest, WrkSeesNothingOfMoves) {
  Mover mover(scene());
  const auto out = scene().run({"wrk", "-t", "1", "-c", "20", "-d", "4s", "--timeout", "30s", scene().url("/8k")});
  const auto moves = mover.stop();
  EXPECT_GE(moves, kFewest) << "INVALID: too few moves to show anything";
  EXPECT_EQ(out.code, 0) << out.err;
  EXPECT_THAT(out.out, Not(HasSubstr("Socket errors")));
  EXPECT_THAT(out.out, Not(HasSubstr("Non-2xx")));
  std::printf("%lu moves\n%s", moves, out.out.c_str());
}

TEST_F(ProxyTest, CurlKeepsItsConnectionAndEveryByte) {
  Mover mover(scene());
  std::vector<std::string> argv = {"curl", "-sS", "--limit-rate", "8M", "-w", "%{stderr}%{num_connects} "};
  for (int i = 0; i < 3; ++i) argv.push_back(scene().url("/8m"));
  const auto out = scene().run(argv);
  EXPECT_GE(mover.stop(), 1u) << "INVALID";
  EXPECT_EQ(out.err, "1 0 0 ");
  const auto once = lab::run({"cat", scene().file("www/8m")}, {});
  ASSERT_TRUE(once.has_value());
  EXPECT_TRUE(out.out == once->out + once->out + once->out) << out.out.size() << " bytes";
}

TEST_F(ProxyTest, UploadsArriveWhole) {
  Mover mover(scene());
  const std::string bytes(3'000'000, 'u');
  for (const bool chunked : {false, true}) {
    std::vector<std::string> argv = {"curl", "-sS", "--limit-rate", "4M", "--data-binary", "@-", scene().url("/echo")};
    if (chunked) argv.insert(argv.begin() + 1, {"-H", "Transfer-Encoding: chunked"});
    const auto out = scene().run(argv, bytes);
    EXPECT_EQ(out.code, 0) << out.err;
    EXPECT_EQ(out.out, chunked ? "\n" : "3000000\n");
  }
  mover.stop();
}

// What is asked for in the middle of an answer happens at its end, by itself, and the operator can see it until then.
TEST_F(ProxyTest, AMoveWaitsForTheAnswerInProgress) {
  scene().inside([&] {
    const Fd client = connect_to(scene().group(kWeb));
    ASSERT_EQ(where(client), "n1");
    send_all(client, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    const auto begin = receive(client, 20'000);
    const auto asked = scene().ask().handoff("n1", scene().client(), "n3");
    ASSERT_TRUE(asked.has_value());
    EXPECT_EQ(asked->moved, 0u);
    EXPECT_THAT(asked->first_refusal, HasSubstr("a request is in progress"));
    const auto rows = scene().connections("n1");
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].value("leaves_for", ""), "n3");
    EXPECT_EQ(rows[0].value("reason", ""), "a request is in progress");
    const auto head = begin.find("\r\n\r\n") + 4;
    const auto rest = receive(client, (256 << 10) + head - begin.size());
    EXPECT_EQ(begin.size() + rest.size(), (256 << 10) + head);
    EXPECT_TRUE(eventually([&] { return scene().owned("n3") == 1; }));
    EXPECT_EQ(where(client), "n3");
  });
}

TEST_F(ProxyTest, PipelinedRequestsAreAnsweredInOrderAcrossMoves) {
  constexpr int kRequests = 3000;
  std::string all;
  for (int i = 0; i < kRequests; ++i) all += i % 3 == 0 ? "HEAD /1k HTTP/1.1\r\nHost: x\r\n\r\n" : i % 3 == 1 ? "GET /1k HTTP/1.1\r\nHost: x\r\n\r\n" : "GET /none" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\n\r\n";
  scene().inside([&] {
    const Fd client = connect_to(scene().group(kWeb));
    Mover mover(scene());
    std::thread sender([&] {
      for (size_t at = 0; at < all.size(); at += 1000) {
        send_all(client, std::string_view(all).substr(at, 1000));
        ::usleep(5000);
      }
    });
    std::string answers;
    int heads = 0, found = 0, missing = 0;
    while (heads < kRequests) {
      const auto end = answers.find("\r\n\r\n");
      if (end == std::string::npos) {
        const auto more = receive(client, 1);   // then whatever there is
        if (more.empty() || more[0] == '<') break;
        char buffer[65536];
        const ssize_t n = ::recv(client.get(), buffer, sizeof buffer, MSG_DONTWAIT);
        answers += more;
        if (n > 0) answers.append(buffer, static_cast<size_t>(n));
        continue;
      }
      const bool ok = answers.starts_with("HTTP/1.1 200 ");
      ASSERT_TRUE(ok || answers.starts_with("HTTP/1.1 404 ")) << answers.substr(0, 200);
      EXPECT_EQ(ok, heads % 3 != 2);
      const auto length = answers.find("Content-Length: ");
      ASSERT_LT(length, end);
      const size_t size = heads % 3 == 0 ? 0 : std::stoul(answers.substr(length + 16));
      while (answers.size() < end + 4 + size) {
        const auto more = receive(client, end + 4 + size - answers.size());
        ASSERT_FALSE(more.empty());
        answers += more;
      }
      answers.erase(0, end + 4 + size);
      ++heads;
      ++(ok ? found : missing);
    }
    sender.join();
    const auto moves = mover.stop();
    EXPECT_EQ(heads, kRequests);
    EXPECT_EQ(found, kRequests * 2 / 3);
    EXPECT_GE(moves, 3u) << "INVALID";
    std::printf("%lu moves in %d pipelined requests\n", moves, heads);
  });
}

// Refused or passed untouched, never repaired: what comes back is, byte for byte, what nginx says without geckoproxy.
TEST_F(ProxyTest, MalformedRequestsAreAnsweredAsWithoutIt) {
  std::vector<std::string> requests;
  for (const auto* list : {&proxy::test::understood(), &proxy::test::not_understood()})
    for (const auto& e : *list) {
      if (e.request.empty()) continue;
      requests.push_back(e.request);
      requests.push_back(e.request + kWhere);           // is what follows a request of its own?
      requests.push_back(e.request.substr(0, e.request.size() / 2));
    }
  // Smuggling as it is tried in the wild.
  for (const char* te : {"Transfer-Encoding : chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "X: x\nTransfer-Encoding: chunked", "Transfer-Encoding\n: chunked",
                         " Transfer-Encoding: chunked", "Transfer-Encoding: \"chunked\"", "Transfer_Encoding: chunked", "Foo: bar\r\n\rTransfer-Encoding: chunked"})
    requests.push_back("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n" + std::string(te) + "\r\n\r\n0\r\n\r\nG" + kWhere);
  const auto run_all = [&](const Endpoint& to) {
    std::vector<std::string> answers(requests.size());
    std::vector<Fd> fds;
    for (const auto& request : requests) {
      fds.push_back(connect_to(to));
      send_all(fds.back(), request);
    }
    // All at once; what has not ended 1.5 s after the last byte stays open.
    for (Time last = monotonic_now(); monotonic_now() < last + 1500ms;) {
      std::vector<pollfd> ready;
      for (const auto& fd : fds) ready.push_back({fd ? fd.get() : -1, POLLIN, 0});
      if (::poll(ready.data(), ready.size(), 100) <= 0) continue;
      for (size_t i = 0; i < fds.size(); ++i) {
        if (ready[i].revents == 0) continue;
        char buffer[65536];
        const ssize_t n = ::recv(fds[i].get(), buffer, sizeof buffer, MSG_DONTWAIT);
        last = monotonic_now();
        if (n > 0) answers[i].append(buffer, static_cast<size_t>(n));
        else answers[i] += n == 0 ? "<end>" : "<reset>";
        if (n <= 0) fds[i].reset();
      }
    }
    for (auto& answer : answers)   // two seconds may differ
      for (auto at = answer.find("Date: "); at != std::string::npos; at = answer.find("Date: ", at)) answer.erase(at, answer.find('\n', at) - at + 1);
    return answers;
  };
  scene().inside([&] {
    const auto direct = run_all(scene().node("n1", kNginx)), through = run_all(scene().group(kWeb));
    size_t refused = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(through[i], direct[i]) << requests[i];
      refused += direct[i].find(" 400 ") != std::string::npos;
    }
    EXPECT_GT(refused, 20u) << "INVALID: nginx minds nothing of this";
    std::printf("%zu requests, %zu refused by nginx\n", requests.size(), refused);
  });
}

TEST_F(ProxyTest, HalfClosedClientsGetTheirAnswer) {
  scene().inside([&] {
    const Fd client = connect_to(scene().group(kWeb));
    send_all(client, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    ::shutdown(client.get(), SHUT_WR);
    const auto refused = scene().ask().handoff("n1", scene().client(), "n2");
    EXPECT_TRUE(refused.has_value());
    const auto all = receive(client, 1 << 20);
    EXPECT_GT(all.size(), 256u << 10);
    EXPECT_EQ(all.find('<'), std::string::npos);
    EXPECT_TRUE(eventually([&] { return scene().owned("n1") + scene().owned("n2") == 0; })) << "connections are left over";
  });
}

TEST_F(ProxyTest, TheServerLearnsItsClientsAddress) {
  for (const auto& node : scene().lab().nodes()) ASSERT_TRUE(scene().proxy(node, kOdd, std::to_string(kNginxProxied), {"--proxy-protocol"}).has_value());
  ASSERT_TRUE(scene().wait_applications(4).has_value());
  scene().inside([&] {
    const Fd client = connect_to(scene().group(kOdd));
    sockaddr_storage name{};
    socklen_t size = sizeof name;
    ::getsockname(client.get(), reinterpret_cast<sockaddr*>(&name), &size);
    const auto self = *Endpoint::from_sockaddr(name);
    const std::string expected = self.address.str() + " " + std::to_string(self.port) + "\n";
    for (const char* node : {"n1", "n2", "n3"}) {
      if (std::string(node) != "n1") EXPECT_TRUE(scene().ask().handoff("n1", self.str(), node).has_value());
      send_all(client, "GET /who HTTP/1.1\r\nHost: x\r\n\r\n");
      std::string answer;
      while (answer.find(expected) == std::string::npos) {
        const auto more = receive(client, 1, 3s);
        if (more.empty()) break;
        answer += more;
      }
      EXPECT_THAT(answer, HasSubstr("\r\n\r\n" + expected));
      EXPECT_EQ(where(client), node);
    }
  });
  for (const auto& node : scene().lab().nodes()) scene().end(node, "proxy-9000", SIGTERM);
}

// Told to end, geckoproxy gives its clients to the other nodes: idle ones at once, the others after their answer.
TEST_F(ProxyTest, SigtermEmptiesItWithoutClosingAnything) {
  for (const char* node : {"n1", "n2"}) ASSERT_TRUE(scene().proxy(node, kOdd, std::to_string(kNginx)).has_value());
  scene().inside([&] {
    std::vector<Fd> idle;
    for (int i = 0; i < 100; ++i) idle.push_back(connect_to(scene().group(kOdd)));
    for (const auto& fd : idle) EXPECT_EQ(where(fd), "n1");
    const Fd busy = connect_to(scene().group(kOdd));
    send_all(busy, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_EQ(receive(busy, 1000).size(), 1000u);
    scene().end("n1", "proxy-9000", SIGTERM);
    EXPECT_THAT(scene().log("n1", "proxy-9000"), HasSubstr("\"moved\":101"));
    EXPECT_GT(receive(busy, (256 << 10)).size(), 200'000u);
    for (const auto& fd : idle) EXPECT_EQ(where(fd), "n2");
  });
  scene().end("n2", "proxy-9000", SIGTERM);
}

}  // namespace
}  // namespace gecko::proxy_test
