// A handoff that cannot be: the operator is told why and what to do, and the client notices nothing.
#include <sys/socket.h>

#include <thread>

#include "fault_scene.hh"
#include "kit/pattern.hh"

namespace gecko::system_test {
namespace {

class RefusedHandoff : public FaultTest {
 protected:
  // A plain blocking socket of the client's namespace, for what the verified clients do not do: close one side early, or not read.
  Fd plain_connection() {
    Fd fd;
    const auto ok = lab().inside("client", [&]() -> Status {
      fd.reset(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_storage to{};
      const int small = 4096;   // so that an echo of this size waits at the server
      ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
      const socklen_t size = scene().echo().to_sockaddr(to);
      if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), size) != 0) return os_error("connect");
      const timeval patience{5, 0};
      ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      return {};
    });
    EXPECT_TRUE(ok) << ok.error().message;
    return fd;
  }
  static Endpoint name_of(const Fd& fd) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
    return *Endpoint::from_sockaddr(address);
  }
  // Reads to the end of the stream and compares; the error text, empty when all `size` bytes came and then the end.
  static std::string read_to_the_end(const Fd& fd, size_t size) {
    std::vector<uint8_t> piece(64 * 1024);
    for (size_t at = 0;;) {
      const ssize_t n = ::recv(fd.get(), piece.data(), piece.size(), 0);
      if (n < 0) return "after " + std::to_string(at) + " bytes: " + std::strerror(errno);
      if (n == 0) return at == size ? "" : "the end came after " + std::to_string(at) + " of " + std::to_string(size) + " bytes";
      if (kit::match_pattern(kit::Pattern::echo, 1, at, {piece.data(), static_cast<size_t>(n)}) != static_cast<size_t>(n))
        return "a wrong byte after " + std::to_string(at);
      at += static_cast<size_t>(n);
    }
  }
};

TEST_F(RefusedHandoff, ToAnUnknownNodeNamesTheNodes) {
  auto& client = ping();
  connected();
  const auto words = refusal("n1", local(client).str(), "n9");
  EXPECT_NE(words.find("no node 'n9'; its nodes are n1, n2, n3"), std::string::npos) << words;
  EXPECT_TRUE(progresses(client));
}

TEST_F(RefusedHandoff, ToANodeWhoseGeckodIsDownSaysThatItIsNotConnected) {
  auto& client = ping();
  connected();
  kill_geckod("n3");
  ASSERT_TRUE(eventually([&] { return status("n1")["verdict"] == "degraded"; }));
  const auto words = refusal("n1", local(client).str(), "n3");
  EXPECT_NE(words.find("n3"), std::string::npos) << words;
  EXPECT_NE(words.find("not connected"), std::string::npos) << words;
  EXPECT_TRUE(progresses(client));
  start_geckod("n3");
  ASSERT_TRUE(eventually([&] { return status("n1")["verdict"] == "ok"; }));
  // Its applications find their new geckod by themselves, and say again what they listen on.
  EXPECT_TRUE(eventually([&] {
    const auto moved = ask().handoff("n1", local(client).str(), "n3");
    return moved && moved->moved == 1;
  })) << refusal("n1", local(client).str(), "n3");
  EXPECT_TRUE(progresses(client));
}

TEST_F(RefusedHandoff, ToANodeWithoutAnApplicationSaysStartOneThere) {
  auto& client = ping();
  connected();
  kill_process(process_named(lab(), "n3", "gecko-echo"));
  const auto words = refusal("n1", local(client).str(), "n3");
  EXPECT_NE(words.find("no application on node n3 serves port 7007; start one there"), std::string::npos) << words;
  EXPECT_TRUE(progresses(client));
  EXPECT_EQ(owner(local(client)), "n1");
}

TEST_F(RefusedHandoff, ToAnApplicationWithoutDescriptorsLeavesTheConnectionWhereItIs) {
  constexpr size_t kClients = 12;
  kill_process(process_named(lab(), "n2", "gecko-echo"));
  restart_application("n2", "none", 24);
  ASSERT_TRUE(eventually([&] { return status("n2")["groups"][0]["applications"] == 2; }));
  std::vector<kit::PingClient*> clients;
  for (size_t i = 0; i < kClients; ++i) clients.push_back(&ping());
  connected();
  const auto answer = ask().handoff("n1", client_address(), "n2");
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->moved + answer->refused, kClients);
  EXPECT_GT(answer->refused, 0u);
  EXPECT_NE(answer->first_refusal.find("has no descriptors left"), std::string::npos) << answer->first_refusal;
  std::printf("24 descriptors: %zu of %zu moved\n", answer->moved, kClients);
  for (auto* client : clients) EXPECT_TRUE(progresses(*client));
}

TEST_F(RefusedHandoff, OfAnUnknownClientMovesNothing) {
  auto& client = ping();
  connected();
  const auto stranger = ask().handoff("n1", "[2001:db8:dead::1]:4711", "n2");
  ASSERT_TRUE(stranger) << stranger.error().message;
  EXPECT_EQ(stranger->moved, 0u);
  EXPECT_EQ(stranger->refused, 0u);
  for (const char* nonsense : {"", "client", "[::1", "1.2.3.4:99999", "[2001:db8::1]:x"}) {
    const auto answer = ask().handoff("n1", nonsense, "n2");
    EXPECT_FALSE(answer) << nonsense;
    if (!answer) {
      EXPECT_NE(answer.error().message.find(nonsense), std::string::npos) << answer.error().message;
    }
  }
  EXPECT_TRUE(progresses(client));
}

TEST_F(RefusedHandoff, OfAConnectionWhoseClientHasClosedItsSideLosesNoByte) {
  // More than the buffers between them hold is not written: an echo server and a client that does not read would wait for each other.
  constexpr size_t kSize = 300 * 1024;
  std::vector<uint8_t> sent(kSize);
  kit::fill_pattern(kit::Pattern::echo, 1, 0, sent);
  const Fd fd = plain_connection();
  ASSERT_TRUE(eventually([&] { return owner(name_of(fd)) == "n1"; }));
  ASSERT_EQ(::send(fd.get(), sent.data(), sent.size(), 0), static_cast<ssize_t>(kSize));
  ASSERT_EQ(::shutdown(fd.get(), SHUT_WR), 0);
  // Its echo waits unread: the connection is half closed and has data outstanding. It may move or be refused, it may not break.
  size_t moved = 0;
  std::string at = "n1";
  for (const char* to : {"n2", "n3", "n1"}) {
    const auto answer = ask().handoff(at, name_of(fd).str(), to);
    if (answer && answer->moved == 1) at = to;
    ASSERT_TRUE(answer) << answer.error().message;
    moved += answer->moved;
    if (answer->moved == 0) std::printf("to %s: %s\n", to, answer->first_refusal.c_str());
  }
  EXPECT_EQ(read_to_the_end(fd, kSize), "");
  std::printf("half closed with data outstanding: moved %zu times\n", moved);
}

TEST_F(RefusedHandoff, OfAConnectionThatHasJustEndedFindsNothingAndSendsNoReset) {
  uint8_t byte = 0;
  for (int i = 0; i < 20; ++i) {
    const Fd fd = plain_connection();
    kit::fill_pattern(kit::Pattern::echo, 1, 0, {&byte, 1});
    ASSERT_EQ(::send(fd.get(), &byte, 1, 0), 1);
    ASSERT_EQ(::recv(fd.get(), &byte, 1, 0), 1);
    ASSERT_EQ(::shutdown(fd.get(), SHUT_WR), 0);
    const auto answer = ask().handoff("n1", name_of(fd).str(), i % 2 == 0 ? "n2" : "n3");   // at any stage of its end
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(::recv(fd.get(), &byte, 1, 0), 0) << "round " << i << ": " << std::strerror(errno);
  }
}

TEST_F(RefusedHandoff, TwoAtOnceOfOneConnectionLeaveItWhole) {
  auto& client = ping(0ms);
  auto& stream = echo(0ms);
  connected();
  size_t busy = 0, won = 0;
  for (int i = 0; i < 12; ++i) {
    kit::Client& subject = i % 2 == 0 ? static_cast<kit::Client&>(client) : stream;
    const Endpoint at = local(subject);
    std::string from;
    ASSERT_TRUE(eventually([&] { return !(from = owner(at)).empty(); }));
    const std::string targets[] = {from == "n1" ? "n2" : "n1", from == "n3" ? "n2" : "n3"};
    std::vector<std::thread> operators;
    std::array<kit::Handoffs, 2> answers;
    for (size_t k = 0; k < 2; ++k)
      operators.emplace_back([&, k] {
        kit::Operator other(lab());   // a terminal of its own
        if (auto answer = other.handoff(from, at.str(), targets[k])) answers[k] = *answer;
        else answers[k].first_refusal = answer.error().message;
      });
    for (auto& thread : operators) thread.join();
    ASSERT_GE(answers[0].moved + answers[1].moved, 1u) << answers[0].first_refusal << "; " << answers[1].first_refusal;
    for (const auto& answer : answers) {
      won += answer.moved;
      if (answer.refused != 0) {
        ++busy;
        EXPECT_NE(answer.first_refusal.find("being moved"), std::string::npos) << answer.first_refusal;
      }
    }
    EXPECT_TRUE(progresses(subject));
  }
  std::printf("12 pairs of handoffs at once: %zu moved, %zu were told that the connection is being moved\n", won, busy);
}

}  // namespace
}  // namespace gecko::system_test
