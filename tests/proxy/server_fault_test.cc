// Servers that are down, close early, answer too early or not at all: their clients see what they would see without geckoproxy.
#include <signal.h>

#include <fstream>

#include "proxy_scene.hh"

namespace gecko::proxy_test {
namespace {

using testing::HasSubstr;

class ServerFault : public ProxyTest {
 protected:
  // A server of a few lines: BODY has `c`, the accepted socket.
  void serve(const std::string& node, const std::string& body) {
    std::ofstream(scene().file("odd.py")) << "import socket, struct, sys, time\ns = socket.create_server(('127.0.0.1', 9300))\nprint('ready', flush=True)\nwhile True:\n    c, a = s.accept()\n"
                                          << body;
    ASSERT_TRUE(scene().start(node, "odd", {"/usr/bin/python3", scene().file("odd.py")}).has_value());
    ASSERT_TRUE(eventually([&] { return scene().log(node, "odd").find("ready") != std::string::npos; }));
    ASSERT_TRUE(scene().proxy(node, kOdd, "9300", {"--connect-timeout", "1"}).has_value());
  }
  void TearDown() override {
    for (const auto& node : scene().lab().nodes()) {
      scene().end(node, "proxy-9000", SIGKILL);
      scene().end(node, "odd", SIGKILL);
      (void)::unlink((scene().file(node) + "/odd.log").c_str());
      (void)::unlink((scene().file(node) + "/proxy-9000.log").c_str());
    }
  }
  lab::Output curl(std::vector<std::string> more, std::string_view input = {}) {
    std::vector<std::string> argv = {"curl", "-sS", "-i", "--max-time", "10"};
    argv.insert(argv.end(), more.begin(), more.end());
    argv.push_back("http://" + scene().group(kOdd).str() + "/");
    return scene().run(argv, input);
  }
};

TEST_F(ServerFault, DownOnOneNodeAnotherServes) {
  ASSERT_TRUE(scene().proxy("n1", kOdd, "9399").has_value());   // nobody listens there
  ASSERT_TRUE(scene().proxy("n2", kOdd, std::to_string(kNginx)).has_value());
  for (int i = 0; i < 20; ++i) EXPECT_THAT(scene().run({"curl", "-sS", "http://" + scene().group(kOdd).str() + "/node"}).out, "n2\n");
  EXPECT_THAT(scene().log("n1", "proxy-9000"), HasSubstr("the server at 127.0.0.1:9399 does not accept connections: Connection refused"));
}

TEST_F(ServerFault, DownEverywhereIsAReset) {
  for (const char* node : {"n1", "n2", "n3"}) ASSERT_TRUE(scene().proxy(node, kOdd, "9399").has_value());
  const auto out = curl({});
  EXPECT_EQ(out.code, 56) << out.err;   // "recv failure: connection reset by peer"
  EXPECT_TRUE(eventually([&] { return scene().owned("n1") + scene().owned("n2") + scene().owned("n3") == 0; })) << "it goes round for ever";
}

TEST_F(ServerFault, ClosesBeforeAnswering) {
  serve("n1", "    c.recv(100)\n    c.close()\n");
  EXPECT_EQ(curl({}).code, 52);   // "empty reply from server"
}

TEST_F(ServerFault, ResetsIsPassedOn) {
  serve("n1", "    c.recv(100)\n    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n    c.close()\n");
  EXPECT_EQ(curl({}).code, 56);
}

TEST_F(ServerFault, ClosesInTheMiddleOfAnAnswer) {
  serve("n1", "    c.recv(100)\n    c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\nhalf')\n    c.close()\n");
  const auto out = curl({});
  EXPECT_EQ(out.code, 18);   // "transfer closed with outstanding read data remaining"
  EXPECT_THAT(out.out, HasSubstr("\r\n\r\nhalf"));
}

TEST_F(ServerFault, AnswersBeforeTheRequestHasEnded) {
  serve("n1", "    c.recv(100)\n    c.sendall(b'HTTP/1.1 413 Too Large\\r\\nContent-Length: 3\\r\\n\\r\\nno\\n')\n    n = 1\n    while n: n = len(c.recv(65536))\n    c.close()\n");
  const auto out = curl({"--data-binary", "@-", "-H", "Expect:"}, std::string(5'000'000, 'x'));
  EXPECT_THAT(out.out, HasSubstr("413 Too Large")) << out.err;
  EXPECT_THAT(out.out, HasSubstr("\r\n\r\nno\n"));
}

TEST_F(ServerFault, SlowIsOnlySlow) {
  serve("n1", "    c.recv(100)\n    for x in b'HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n':\n        c.sendall(bytes([x]))\n        time.sleep(0.02)\n");
  const auto out = curl({});
  EXPECT_EQ(out.code, 0) << out.err;
  EXPECT_THAT(out.out, HasSubstr("\r\n\r\nok\n"));
}

// Back-pressure: a server that does not read makes its client wait, and geckoproxy holds next to nothing of it.
TEST_F(ServerFault, NotReadingHoldsTheClientBack) {
  serve("n1", "    time.sleep(2)\n    n = 0\n    while n < 60000000:\n        d = c.recv(1 << 20)\n        if not d: break\n        n += len(d)\n    c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n')\n");
  std::thread memory([&] {
    ::usleep(1'500'000);
    const auto rss = scene().lab().output("n1", {"sh", "-c", "for p in $(pidof geckoproxy); do grep -q 9300 /proc/$p/cmdline && grep VmRSS /proc/$p/status; done"});
    long kb = 0;
    ASSERT_EQ(std::sscanf(rss->out.c_str(), "VmRSS: %ld", &kb), 1) << rss->out;
    EXPECT_LT(kb, 30'000);
  });
  const auto out = curl({"-X", "POST", "-T", "-", "-H", "Transfer-Encoding:", "-H", "Content-Length: 60000000", "-H", "Expect:"}, std::string(60'000'000 - 200, 'x') + std::string(200, 'y'));
  memory.join();
  EXPECT_THAT(out.out, HasSubstr("\r\n\r\nok\n")) << out.err;
}

}  // namespace
}  // namespace gecko::proxy_test
