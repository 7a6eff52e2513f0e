// The example servers as real processes on two fake nodes: bytes survive moves at any moment; curl and wget are happy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <fstream>
#include <random>

#include "api/test_group.hh"
#include "pattern.hh"
#include "sha256.hh"

extern char** environ;

namespace gecko::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Process {
 public:
  Process(const std::string& program, const std::string& daemon, std::vector<std::string> arguments) {
    int out[2];
    GECKO_ASSERT(pipe2(out, O_CLOEXEC) == 0);
    const std::string path = std::string(GECKO_BIN) + "/" + program;
    std::vector<char*> argv{const_cast<char*>(path.c_str())};
    for (auto& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    std::vector<std::string> variables{"GECKO_SOCKET=" + daemon};
    for (char** e = environ; *e != nullptr; ++e) variables.emplace_back(*e);
    std::vector<char*> envp;
    for (auto& v : variables) envp.push_back(v.data());
    envp.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    GECKO_ASSERT(posix_spawn(&pid_, path.c_str(), &actions, nullptr, argv.data(), envp.data()) == 0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(out[1]);
    output_ = Fd(out[0]);
  }
  ~Process() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::string line() {
    std::string text;
    for (char c = 0; ::read(output_.get(), &c, 1) == 1 && c != '\n';) text += c;
    return text;
  }
  uint16_t port() {  // "...: node n1 serves group web at ::1 port 4711"
    const std::string text = line();
    return static_cast<uint16_t>(std::stoul(text.substr(text.rfind(' ') + 1)));
  }
  bool running() { return waitpid(pid_, nullptr, WNOHANG) == 0; }

 private:
  pid_t pid_ = -1;
  Fd output_;
};

std::string run(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  std::string output;
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) output.append(buffer, n);
  const int status = pclose(pipe);
  return status == 0 ? output : "exit status " + std::to_string(WEXITSTATUS(status)) + ": " + output;
}

std::string sha256(const std::string& data) {
  unsigned char digest[32];
  EVP_Digest(data.data(), data.size(), digest, nullptr, EVP_sha256(), nullptr);
  std::string text;
  for (const unsigned char byte : digest) {
    char two[3];
    snprintf(two, sizeof two, "%02x", byte);
    text += two;
  }
  return text;
}

std::string pattern(uint64_t seed, size_t size) {
  std::string data(size, '\0');
  example::fill_pattern(seed, 0, reinterpret_cast<uint8_t*>(data.data()), size);
  return data;
}

// Moves every connection of both nodes back and forth until told to stop.
class Mover {
 public:
  Mover(FakeGeckod& one, FakeGeckod& two, std::chrono::milliseconds every) {
    thread_ = std::thread([this, &one, &two, every] {
      while (!stop_) {
        for (auto* from : {&one, &two})
          for (const ConnId& id : from->open_connections()) {
            from->move_away(id, from == &one ? "n2" : "n1");
            ++moves;
          }
        std::this_thread::sleep_for(every);
      }
    });
  }
  ~Mover() {
    stop_ = true;
    thread_.join();
  }
  std::atomic<int> moves{0};

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST(Sha256, AgreesWithOpensslAndContinuesFromItsState) {
  std::mt19937 random(7);
  for (size_t size = 0; size < 300; ++size) {
    const std::string data = pattern(size, size);
    example::Sha256 sha;
    for (size_t at = 0; at < size;) {
      const size_t n = std::min<size_t>(size - at, random() % 70);
      sha.update(data.data() + at, n);
      sha = example::Sha256(example::Sha256::State(sha.state()));
      at += n;
    }
    ASSERT_EQ(sha.hex(), sha256(data)) << size;
  }
}

TEST(Pattern, AnyOffsetGivesTheSameBytes) {
  const std::string all = pattern(42, 1000);
  for (size_t at = 0; at < 40; ++at)
    for (size_t size = 0; size < 40; ++size) {
      std::string part(size, '\0');
      example::fill_pattern(42, at, reinterpret_cast<uint8_t*>(part.data()), size);
      ASSERT_EQ(part, all.substr(at, size));
    }
  EXPECT_EQ(sha256(pattern(0, 1000000)), "b3d0a1f7938cd4d8413a4dcffd4313e2e8ac0cb61cb1090eb140ea8e9154befb");  // by another implementation
}

class Examples : public testing::Test {
 protected:
  Group group;
  FakeGeckod& n1 = group.node("n1");
  FakeGeckod& n2 = group.node("n2");
  void together() {
    ASSERT_TRUE(n1.await([&] { return n1.has_application(); }) && n2.await([&] { return n2.has_application(); }));
    n1.tell_members();
    n2.tell_members();
  }
};

TEST_F(Examples, EchoIsExactThroughPolicyAndInputHandoffs) {
  Process one("gecko-echo", n1.path(), {"-g", "web"}), two("gecko-echo", n2.path(), {"-g", "web"});
  const uint16_t port = one.port();
  (void)two.port();
  together();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(std::make_unique<Client>(port));
  const std::string text = "one H two HH three H and so on, a line of ordinary length without the letter\n";
  for (int round = 0; round < 50; ++round) {
    for (auto& client : clients) client->send(text);
    for (auto& client : clients) ASSERT_EQ(client->receive(text.size()), text) << round;
  }
  size_t moved = 0;
  for (auto* n : {&n1, &n2}) moved += n->recorded(ApiType::handoff);
  EXPECT_GE(moved, 500u);  // else this test has tested nothing
  for (auto& client : clients) {
    shutdown(client->fd(), SHUT_WR);
    EXPECT_TRUE(client->at_end());
  }
  EXPECT_TRUE(one.running() && two.running());
}

TEST_F(Examples, EchoOfALargeFloodSurvivesMovesByTheOperator) {
  Process one("gecko-echo", n1.path(), {"-g", "web", "--policy", "none"}), two("gecko-echo", n2.path(), {"-g", "web", "--policy", "none"});
  const uint16_t port = one.port();
  together();
  Client client(port);
  const std::string data = pattern(3, 20'000'000);
  Mover mover(n1, n2, std::chrono::milliseconds(2));
  std::thread sender([&] {
    for (size_t at = 0; at < data.size();) {
      const ssize_t n = ::send(client.fd(), data.data() + at, std::min<size_t>(data.size() - at, 100'000), MSG_NOSIGNAL);
      ASSERT_GT(n, 0);
      at += static_cast<size_t>(n);
    }
    shutdown(client.fd(), SHUT_WR);
  });
  const std::string back = client.receive(data.size());
  sender.join();
  EXPECT_EQ(back.size(), data.size());
  EXPECT_TRUE(back == data);
  EXPECT_TRUE(client.at_end());
  EXPECT_GE(mover.moves, 10);
}

TEST_F(Examples, StreamServesCurlWgetAndOddRequests) {
  Process one("gecko-stream", n1.path(), {"-g", "web"});
  const std::string url = "http://[::1]:" + std::to_string(one.port());
  EXPECT_EQ(sha256(run("curl -sS -g '" + url + "/bytes/1000000?seed=5'")), sha256(pattern(5, 1000000)));
  EXPECT_EQ(sha256(run("wget -qO- '" + url + "/bytes/1234567'")), sha256(pattern(0, 1234567)));
  const std::string file = group.dir() + "/upload";
  const std::string data = pattern(9, 3'000'000);
  std::ofstream(file, std::ios::binary) << data;
  const std::string want = "{\"bytes\":3000000,\"sha256\":\"" + sha256(data) + "\"}\n";
  EXPECT_EQ(run("curl -sS -g -T " + file + " '" + url + "/sink'"), want);                                             // PUT, Expect: 100-continue
  EXPECT_EQ(run("curl -sS -g -T - '" + url + "/sink' < " + file), want);                                              // chunked
  EXPECT_EQ(run("curl -sS -g --data-binary @" + file + " '" + url + "/sink'"), want);                                 // POST
  unlink(file.c_str());
  EXPECT_THAT(run("curl -sS -g -D- '" + url + "/'"), AllOf(HasSubstr("200 OK"), HasSubstr("X-Gecko-Node: n1"), HasSubstr("<b>n1</b>")));
  EXPECT_THAT(run("curl -sS -g -I '" + url + "/bytes/77'"), HasSubstr("Content-Length: 77"));
  EXPECT_EQ(run("curl -sS -g -o /dev/null -w '%{http_code} ' '" + url + "/nothing' '" + url + "/bytes/x' -o /dev/null"), "404 400 ");
  EXPECT_EQ(run("curl -sS -g -o /dev/null -w '%{http_code}' -X DELETE '" + url + "/sink'"), "405");
  EXPECT_EQ(run("curl -sS -g -o /dev/null -w '%{http_code}' -d x '" + url + "/bytes/5'"), "405");
  EXPECT_EQ(run("curl -sS -g -o /dev/null -w '%{http_code}' -X PUT '" + url + "/sink'"), "411");
  EXPECT_THAT(run("wrk -t1 -c10 -d1s '" + url + "/bytes/1000' 2>&1"), AllOf(HasSubstr("requests in"), Not(HasSubstr("errors")), Not(HasSubstr("Non-2xx"))));
  EXPECT_TRUE(one.running());
}

TEST_F(Examples, StreamRefusesWhatIsAmbiguous) {
  Process one("gecko-stream", n1.path(), {"-g", "web"});
  const uint16_t port = one.port();
  const auto status = [&](const std::string& request) {
    Client client(port);
    client.send(request);
    return client.receive(12);
  };
  EXPECT_EQ(status("GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), "HTTP/1.1 400");
  EXPECT_EQ(status("PUT /sink HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), "HTTP/1.1 400");
  EXPECT_EQ(status("PUT /sink HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), "HTTP/1.1 501");
  EXPECT_EQ(status("PUT /sink HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "HTTP/1.1 400");
  EXPECT_EQ(status("nonsense\r\n\r\n"), "HTTP/1.1 400");
  EXPECT_EQ(status("GET / HTTP/2.0\r\n\r\n"), "HTTP/1.1 505");
  EXPECT_EQ(status("GET /" + std::string(20000, 'x')), "HTTP/1.1 431");
  EXPECT_TRUE(one.running());
}

TEST_F(Examples, DownloadsAndUploadsSurviveMovesAtAnyMoment) {
  Process one("gecko-stream", n1.path(), {"-g", "web"}), two("gecko-stream", n2.path(), {"-g", "web"});
  const std::string url = "http://[::1]:" + std::to_string(one.port());
  together();
  const std::string file = group.dir() + "/upload";
  const std::string data = pattern(9, 40'000'000);
  std::ofstream(file, std::ios::binary) << data;
  Mover mover(n1, n2, std::chrono::milliseconds(3));
  EXPECT_EQ(sha256(run("curl -sS -g '" + url + "/bytes/100000000?seed=5' '" + url + "/bytes/777?seed=6'")), sha256(pattern(5, 100'000'000) + pattern(6, 777)));
  EXPECT_EQ(run("curl -sS -g -T " + file + " '" + url + "/sink'"), "{\"bytes\":40000000,\"sha256\":\"" + sha256(data) + "\"}\n");
  EXPECT_EQ(run("curl -sS -g -T - '" + url + "/sink' < " + file), "{\"bytes\":40000000,\"sha256\":\"" + sha256(data) + "\"}\n");
  unlink(file.c_str());
  EXPECT_GE(mover.moves, 20);
}

TEST_F(Examples, StreamMovesItself) {
  Process one("gecko-stream", n1.path(), {"-g", "web", "--every", "0.05"}), two("gecko-stream", n2.path(), {"-g", "web", "--every", "0.05"});
  const std::string url = "http://[::1]:" + std::to_string(one.port());
  together();
  EXPECT_EQ(sha256(run("curl -sS -g --limit-rate 40M '" + url + "/bytes/40000000'")), sha256(pattern(0, 40'000'000)));
  EXPECT_GE(n1.recorded(ApiType::handoff) + n2.recorded(ApiType::handoff), 5u);
}

TEST_F(Examples, HelloInC) {
  Process one("gecko-hello", n1.path(), {"web"});
  ASSERT_TRUE(n1.await([&] { return n1.recorded(ApiType::listen) == 1; }));
  const uint16_t port = n1.listening_port();
  Client client(port);
  const std::string want = "Hello " + client.name() + ", this is n1.\n";
  EXPECT_EQ(client.receive(want.size()), want);
  EXPECT_TRUE(client.at_end());
}

}  // namespace
}  // namespace gecko::test
