// What geckod's processes may do while they serve (S3), and what a local user may do to them (S11).
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <thread>

#include "api_client.hh"
#include "fault_scene.hh"

namespace gecko::system_test {
namespace {

constexpr uid_t kStranger = 65533;   // not the user of geckod's unprivileged half, which is `nobody` here

// A thread with another user's rights: credentials belong to threads in Linux, libc alone would change them all.
void as_stranger(const std::function<void()>& work) {
  std::thread thread([&] {
    ASSERT_EQ(::syscall(SYS_setgroups, 0, nullptr), 0);
    ASSERT_EQ(::syscall(SYS_setresgid, kStranger, kStranger, kStranger), 0);
    ASSERT_EQ(::syscall(SYS_setresuid, kStranger, kStranger, kStranger), 0);
    work();
  });
  thread.join();
}

uint64_t capabilities(pid_t pid, const char* set) { return std::stoull("0" + status_line(pid, set), nullptr, 16); }

class LocalUser : public FaultTest {};

TEST_F(LocalUser, GeckodsHalvesHoldOnlyWhatTheyNeedWhileServing) {
  auto& client = ping();
  connected();
  move(local(client), "n2");
  for (const auto& node : scene().nodes()) {
    const pid_t parser = geckod(lab(), node, Half::unprivileged), privileged = geckod(lab(), node, Half::privileged);
    ASSERT_GT(parser, 0);
    ASSERT_GT(privileged, 0);
    for (const char* set : {"CapEff", "CapPrm", "CapInh", "CapAmb"}) EXPECT_EQ(capabilities(parser, set), 0u) << node << ' ' << set;
    EXPECT_NE(status_line(parser, "Uid").substr(0, 2), "0\t");
    EXPECT_EQ(status_line(parser, "Groups"), "");
    EXPECT_EQ(status_line(parser, "Seccomp"), "2") << "no system call filter";
    EXPECT_EQ(status_line(parser, "NoNewPrivs"), "1");
    // <linux/capability.h>: CHOWN 0, DAC_OVERRIDE 1, NET_BIND_SERVICE 10, NET_ADMIN 12, NET_RAW 13, IPC_LOCK 14, SYS_NICE 23, BPF 39
    constexpr uint64_t kListed = 1ull << 0 | 1ull << 1 | 1ull << 10 | 1ull << 12 | 1ull << 13 | 1ull << 14 | 1ull << 23 | 1ull << 39;
    for (const char* set : {"CapEff", "CapPrm"}) EXPECT_EQ(capabilities(privileged, set) & ~kListed, 0u) << node << ' ' << set;
    EXPECT_EQ(capabilities(privileged, "CapInh") | capabilities(privileged, "CapAmb"), 0u);
    EXPECT_EQ(status_line(privileged, "NoNewPrivs"), "1");
    const pid_t keeper = lease_keeper(lab(), node);
    ASSERT_GT(keeper, 0);
    for (const char* set : {"CapEff", "CapPrm", "CapInh", "CapAmb"}) EXPECT_EQ(capabilities(keeper, set), 0u) << node << ' ' << set;
    EXPECT_EQ(status_line(keeper, "Seccomp"), "2");
    EXPECT_EQ(status_line(keeper, "NoNewPrivs"), "1");
    // Root's, although its user is another one: not even this user may look into it, and no core of it holds a key (PR_SET_DUMPABLE).
    struct stat memory{};
    EXPECT_EQ(::stat(("/proc/" + std::to_string(parser) + "/mem").c_str(), &memory), 0);
    EXPECT_EQ(memory.st_uid, 0u) << node << ": its memory is its user's";
  }
}

TEST_F(LocalUser, AStrangerMayAskForTheStatusAndNothingElse) {
  auto& client = ping();
  connected();
  const std::string at = local(client).str();
  as_stranger([&] {
    kit::Operator stranger(lab());
    const auto status = stranger.ask("n1", {{"op", "status"}});
    EXPECT_TRUE(status) << status.error().message;
    const auto handoff = stranger.handoff("n1", at, "n2");
    ASSERT_FALSE(handoff);
    EXPECT_NE(handoff.error().message.find("[rights] admin"), std::string::npos) << handoff.error().message;
    const auto contact = stranger.contact("n1", "n2");
    ASSERT_FALSE(contact);
    EXPECT_NE(contact.error().message.find("[rights] admin"), std::string::npos) << contact.error().message;
  });
  EXPECT_EQ(owner(local(client)), "n1");
  EXPECT_EQ(status("n1")["groups"][0]["contact"], "n1");
  EXPECT_TRUE(progresses(client));
}

TEST_F(LocalUser, AStrangerCannotServeTheGroup) {
  std::string words;
  as_stranger([&] {
    auto program = ApiClient::connect(lab().socket("n1"));
    ASSERT_TRUE(program) << program.error().message;
    const auto joined = program->join();
    words = joined ? "it may" : joined.error().message;
  });
  EXPECT_NE(words.find("[rights] serve"), std::string::npos) << words;
  EXPECT_EQ(status("n1")["groups"][0]["applications"], 2) << "the two of the scene";
}

TEST_F(LocalUser, AStrangerCannotTouchGeckodsFiles) {
  const std::string run = lab().directory() + "/n1";
  as_stranger([&] {
    const auto refused = [](const std::string& path, int flags) {
      const Fd fd(::open(path.c_str(), flags | O_CLOEXEC, 0600));
      EXPECT_FALSE(fd) << path;
      EXPECT_EQ(errno, EACCES) << path;
    };
    refused(run + "/planted", O_WRONLY | O_CREAT);
    refused(run + "/kernel.journal", O_WRONLY);
    for (const char* name : {"node.key", "node.crt", "ca.crt"}) refused(run + "/keys/lab/" + name, O_RDONLY);
    refused(lab().directory() + "/keys/n1/node.key", O_RDONLY);
    EXPECT_NE(::unlink((run + "/geckod.sock").c_str()), 0);
    EXPECT_NE(::symlink("/tmp/x", (run + "/link").c_str()), 0);
    EXPECT_NE(::rename((run + "/geckod.sock").c_str(), (run + "/elsewhere").c_str()), 0);
  });
  const pid_t parser = geckod(lab(), "n1", Half::unprivileged);
  as_stranger([&] { EXPECT_FALSE(Fd(::open(("/proc/" + std::to_string(parser) + "/mem").c_str(), O_RDONLY | O_CLOEXEC))) << "its memory holds keys"; });
}

TEST_F(LocalUser, AStrangerCannotShutOthersOut) {
  std::vector<ApiClient> silent;
  as_stranger([&] {
    for (int i = 0; i < 300; ++i) {
      auto program = ApiClient::connect(lab().socket("n1"));
      if (!program) break;   // the backlog is full
      silent.push_back(std::move(*program));
    }
    ASSERT_FALSE(silent.empty());
    const auto newest = silent.back().wait_for(wire::ApiType::welcome);   // it was told why
    ASSERT_FALSE(newest);
    EXPECT_NE(newest.error().message.find("programs of this user are connected already"), std::string::npos) << newest.error().message;
  });
  kit::Operator root(lab());
  EXPECT_TRUE(root.ask("n1", {{"op", "status"}})) << "the operator is shut out";
  auto program = ApiClient::connect(lab().socket("n1"));
  ASSERT_TRUE(program);
  const auto joined = program->join();
  EXPECT_TRUE(joined) << joined.error().message;
  // Whoever says nothing does not keep his place.
  const auto ended = silent.front().wait_for(wire::ApiType::welcome, 8s);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, Errc::closed) << ended.error().message;
}

TEST_F(LocalUser, AStrangerCannotMakeGeckodKeepALongMessage) {
  as_stranger([&] {
    auto program = ApiClient::connect(lab().socket("n1"));
    ASSERT_TRUE(program);
    ASSERT_TRUE(program->say(wire::ApiType::hello, wire::ApiHello{wire::kApiVersion, wire::kApiVersionMin, "stranger"}));
    wire::Bytes begun{0, 0, 0, 4, static_cast<uint8_t>(wire::ApiType::admin), 0, 0, 0};   // 64 MiB are announced
    begun.resize(1u << 20);
    (void)program->send(begun);
    EXPECT_TRUE(eventually([&] { return !program->send({0}); })) << "geckod goes on reading";
  });
}

}  // namespace
}  // namespace gecko::system_test
