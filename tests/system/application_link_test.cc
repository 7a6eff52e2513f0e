// An application's link to geckod, below libgecko: what geckod believes, and what becomes of moves when the link breaks.
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <cstring>
#include <stdexcept>

#include "api_client.hh"
#include "fault_scene.hh"
#include "wire/parts.hh"

namespace gecko::system_test {
namespace {

// The test is the application of the echo port on n1.
class ApplicationLink : public FaultTest {
 protected:
  void SetUp() override {
    FaultTest::SetUp();
    if (HasFatalFailure()) return;
    kill_process(process_named(lab(), "n1", "gecko-echo"));
    const auto ok = lab().inside("n1", [&]() -> Status {
      listener_.reset(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_storage at{};
      const socklen_t size = scene().echo().to_sockaddr(at);
      const int on = 1;
      ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
      if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&at), size) != 0 || ::listen(listener_.get(), 64) != 0) return os_error("listen");
      return {};
    });
    ASSERT_TRUE(ok) << ok.error().message;
  }
  std::unique_ptr<ApiClient> session() {
    auto made = ApiClient::connect(lab().socket("n1"));
    GECKO_ASSERT(made);
    auto one = std::make_unique<ApiClient>(std::move(*made));
    const auto joined = one->join();
    EXPECT_TRUE(joined) << joined.error().message;
    EXPECT_TRUE(one->say(wire::ApiType::listens, wire::Listens{scene().echo().port}));
    return one;
  }
  struct Pair {
    Fd client, server;
    Flow flow;
    ConnId id = ConnId::random();
  };
  Pair connection() {
    Pair pair;
    const auto ok = lab().inside("client", [&]() -> Status {
      pair.client.reset(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_storage to{};
      const socklen_t size = scene().echo().to_sockaddr(to);
      const timeval patience{5, 0};
      ::setsockopt(pair.client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      if (::connect(pair.client.get(), reinterpret_cast<sockaddr*>(&to), size) != 0) return os_error("connect");
      return {};
    });
    EXPECT_TRUE(ok) << ok.error().message;
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    const timeval patience{5, 0};
    ::setsockopt(listener_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);   // also of accept
    pair.server.reset(::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
    if (!pair.server) throw std::runtime_error("a connection has not come to n1; it says " + status("n1").dump() + "\nand n2 " + status("n2").dump());
    pair.flow = {scene().echo(), *Endpoint::from_sockaddr(peer)};
    ::setsockopt(pair.server.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return pair;
  }
  static std::string carry(const Fd& from, const Fd& to, const std::string& text) {
    if (::send(from.get(), text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size())) return std::string("send: ") + std::strerror(errno);
    std::string got(text.size(), 0);
    const ssize_t n = ::recv(to.get(), got.data(), got.size(), MSG_WAITALL);
    return n < 0 ? std::string("recv: ") + std::strerror(errno) : got.substr(0, static_cast<size_t>(n));
  }
  static std::string works(const Pair& pair) {
    const std::string there = carry(pair.client, pair.server, "there"), back = carry(pair.server, pair.client, "back");
    return there == "there" && back == "back" ? "" : there + ", " + back;
  }
  wire::AppOutcome outcome(ApiClient& session) {
    const auto body = session.wait_for(wire::ApiType::outcome);
    EXPECT_TRUE(body) << body.error().message;
    const auto m = body ? wire::decode<wire::AppOutcome>(*body) : make_error(Errc::closed, "");
    return m ? *m : wire::AppOutcome{};
  }
  Fd listener_;
};

TEST_F(ApplicationLink, AMoveThatIsNotFrozenEndsWithIt) {
  auto one = session();
  const Pair pair = connection();
  ASSERT_TRUE(one->say(wire::ApiType::opened, wire::Opened{pair.id, pair.flow, true, 1}));
  ASSERT_TRUE(eventually([&] { return owner(pair.flow.peer) == "n1"; }));
  const pid_t acceptor = geckod(lab(), "n2", Half::unprivileged);
  ASSERT_EQ(::kill(acceptor, SIGSTOP), 0);   // it does not say whether it takes the connection
  ASSERT_TRUE(one->say(wire::ApiType::handoff, wire::AppHandoff{7, pair.id, "n2", 1, {}}, pair.server.get()));
  ASSERT_TRUE(eventually([&] {
    const auto rows = ask().ask("n1", {{"op", "connections"}});
    return rows && rows->at("connections").size() == 1 && rows->at("connections")[0]["state"] == "moving";
  }));
  one.reset();
  EXPECT_TRUE(eventually([&] { return owner(pair.flow.peer).empty(); }, 500ms)) << "the move goes on without its application";
  ASSERT_EQ(::kill(acceptor, SIGCONT), 0);
  EXPECT_EQ(works(pair), "");
  auto two = session();   // and the application's next link registers it again
  ASSERT_TRUE(two->say(wire::ApiType::opened, wire::Opened{pair.id, pair.flow, true, 1}));
  ASSERT_TRUE(eventually([&] { return owner(pair.flow.peer) == "n1"; }));
  EXPECT_EQ(works(pair), "");
  ASSERT_TRUE(eventually([&] { return status("n1")["verdict"] == "ok"; }));
  ASSERT_TRUE(two->say(wire::ApiType::handoff, wire::AppHandoff{8, pair.id, "n2", 1, {}}, pair.server.get()));
  const auto moved = outcome(*two);
  EXPECT_EQ(moved.code, 0u) << moved.message;
  EXPECT_EQ(owner(pair.flow.peer), "n2");
}

TEST_F(ApplicationLink, AHandoffToANodeThatHasLeftIsRefusedByTheNodeItself) {
  auto one = session();
  const Pair pair = connection();
  ASSERT_TRUE(one->say(wire::ApiType::opened, wire::Opened{pair.id, pair.flow, true, 1}));
  ASSERT_TRUE(one->say(wire::ApiType::leave, wire::Leave{3}));
  ASSERT_TRUE(one->say(wire::ApiType::handoff, wire::AppHandoff{7, pair.id, "n1", 1, {}}, pair.server.get()));
  const auto refused = outcome(*one);
  EXPECT_EQ(refused.code, static_cast<uint16_t>(Errc::unavailable)) << refused.message;
  EXPECT_EQ(works(pair), "");
  ASSERT_TRUE(one->say(wire::ApiType::join, wire::Join{4, "lab"}));
  ASSERT_TRUE(one->say(wire::ApiType::listens, wire::Listens{scene().echo().port}));
  ASSERT_TRUE(one->say(wire::ApiType::handoff, wire::AppHandoff{8, pair.id, "n1", 1, {}}, pair.server.get()));
  const auto moved = outcome(*one);
  EXPECT_EQ(moved.code, 0u) << moved.message;
  EXPECT_TRUE(one->wait_for(wire::ApiType::arrive));
}

TEST_F(ApplicationLink, WhatTheKernelDoesNotHaveIsNotBelieved) {
  auto one = session();
  const Pair pair = connection();
  ASSERT_TRUE(one->say(wire::ApiType::opened, wire::Opened{pair.id, pair.flow, true, 1}));
  ASSERT_TRUE(one->say(wire::ApiType::handoff, wire::AppHandoff{7, pair.id, "n2", 1, {}}, pair.server.get()));
  const auto moved = outcome(*one);
  ASSERT_EQ(moved.code, 0u) << moved.message;
  pollfd ended{pair.server.get(), 0, 0};   // the privileged half ends it a moment after the outcome has been told
  ASSERT_EQ(poll(&ended, 1, 5000), 1);
  for (const Flow& flow : {pair.flow, Flow{scene().echo(), *Endpoint::parse("[2001:db8:dead::2]:4712")}}) {
    ASSERT_TRUE(one->say(wire::ApiType::opened, wire::Opened{ConnId::random(), flow, true, 99}));
    const auto words = one->wait_for(wire::ApiType::outcome);
    ASSERT_FALSE(words);
    EXPECT_NE(words.error().message.find("this node's kernel has no connection"), std::string::npos) << words.error().message;
  }
  const auto rows = ask().ask("n1", {{"op", "connections"}});
  ASSERT_TRUE(rows);
  EXPECT_EQ(rows->at("connections").size(), 0u);
  // It lives on n2, where gecko-echo answers; n1 goes on forwarding to it.
  EXPECT_EQ(carry(pair.client, pair.client, "echo"), "echo");
}

TEST_F(ApplicationLink, MoreOutcomesThanOneMessageHolds) {
  constexpr size_t kMany = wire::kMaxHints + 50;
  kill_process(process_named(lab(), "n2", "gecko-echo"));   // nobody there: each is refused
  auto one = session();
  std::vector<Pair> pairs;
  for (size_t i = 0; i < kMany; ++i) {
    pairs.push_back(connection());
    ASSERT_TRUE(one->say(wire::ApiType::opened, wire::Opened{pairs.back().id, pairs.back().flow, true, 1}));
  }
  ASSERT_TRUE(eventually([&] { return status("n1")["groups"][0]["connections"] == kMany; }));
  ASSERT_TRUE(one->say(wire::ApiType::handoff_client, wire::HandoffClient{9, Endpoint{pairs[0].flow.peer.address, 0}, "n2"}));
  size_t outcomes = 0, messages = 0;
  for (bool last = false; !last; ++messages) {
    const auto body = one->wait_for(wire::ApiType::client_result, 25s);
    ASSERT_TRUE(body) << body.error().message;
    const auto m = wire::decode<wire::ClientResult>(*body);
    ASSERT_TRUE(m);
    outcomes += m->outcomes.size();
    last = m->outcomes.size() < wire::kMaxHints;
  }
  EXPECT_EQ(outcomes, kMany);
  EXPECT_EQ(messages, 2u);
  const auto asked = ask().handoff("n1", client_address(), "n2", 25s);
  ASSERT_TRUE(asked) << asked.error().message;
  EXPECT_EQ(asked->refused, kMany);
  EXPECT_NE(asked->first_refusal.find("no application on node n2"), std::string::npos) << asked->first_refusal;
}

}  // namespace
}  // namespace gecko::system_test
