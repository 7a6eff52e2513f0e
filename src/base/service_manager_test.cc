#include "base/service_manager.hh"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace gecko {
namespace {

using namespace std::chrono_literals;

// The other end: a service manager that reads.
class Manager : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) ::unsetenv(name);
  }
  void TearDown() override {
    SetUp();
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }
  void listen(const std::string& name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name[0] == '@') address.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + (name[0] == '/' ? 1 : 0));
    socket_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ASSERT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), size), 0) << name;
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
  }
  std::string path() {
    char directory[] = "/tmp/gecko-notify-test-XXXXXX";
    EXPECT_NE(::mkdtemp(directory), nullptr);
    directory_ = directory;
    return directory_ + "/notify";
  }
  std::string heard() {
    char words[4096];
    const ssize_t n = ::recv(socket_.get(), words, sizeof words, 0);
    return n < 0 ? "nothing" : std::string(words, static_cast<size_t>(n));
  }
  Fd socket_;
  std::string directory_;
};

TEST_F(Manager, NobodyListensIsNoError) {
  const auto none = ServiceManager::find();
  ASSERT_TRUE(none);
  EXPECT_FALSE(none->listens());
  EXPECT_EQ(none->watchdog(), Duration{});
  none->ready("to nobody");
  none->alive();
}

TEST_F(Manager, HearsWhatIsSaidByPathAndByAbstractName) {
  for (const std::string& name : {path(), "@gecko-notify-test-" + std::to_string(::getpid())}) {
    listen(name);
    const auto manager = ServiceManager::find();
    ASSERT_TRUE(manager) << manager.error().message;
    manager->ready("serves");
    EXPECT_EQ(heard(), "READY=1\nSTATUS=serves") << name;
    manager->reloading();
    EXPECT_EQ(heard().substr(0, 27), "RELOADING=1\nMONOTONIC_USEC=");
    manager->status("two\nlines");
    EXPECT_EQ(heard(), "STATUS=two lines");
    manager->alive();
    EXPECT_EQ(heard(), "WATCHDOG=1");
    manager->stopping();
    EXPECT_EQ(heard(), "STOPPING=1");
    EXPECT_EQ(heard(), "nothing");
  }
}

TEST_F(Manager, ALongStatusIsCut) {
  listen(path());
  const auto manager = ServiceManager::find();
  ASSERT_TRUE(manager);
  manager->status(std::string(100'000, 'x'));
  EXPECT_EQ(heard(), "STATUS=" + std::string(400, 'x'));
}

TEST_F(Manager, WaitsForSignsOfLifeOfThisProcessOnly) {
  listen(path());
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  EXPECT_EQ(ServiceManager::find()->watchdog(), 30s);
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  EXPECT_EQ(ServiceManager::find()->watchdog(), 30s);
  ::setenv("WATCHDOG_PID", "1", 1);
  EXPECT_EQ(ServiceManager::find()->watchdog(), Duration{});
  ::unsetenv("WATCHDOG_PID");
  for (const char* nonsense : {"", "soon", "-1", "30s", "18446744073709551615", "99999999999999999999"}) {
    ::setenv("WATCHDOG_USEC", nonsense, 1);
    EXPECT_EQ(ServiceManager::find()->watchdog(), Duration{}) << nonsense;
  }
}

TEST_F(Manager, AManagerThatCannotBeReachedIsAnErrorThatNamesIt) {
  for (const std::string& name : {std::string("/nonexistent/notify"), std::string("vsock:2:1234"), "/" + std::string(200, 'x')}) {
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
    const auto manager = ServiceManager::find();
    ASSERT_FALSE(manager) << name;
    EXPECT_NE(manager.error().message.find(name), std::string::npos) << manager.error().message;
  }
}

// A manager that does not read costs the service nothing.
TEST_F(Manager, NeverWaitsForItsReader) {
  listen(path());
  const auto manager = ServiceManager::find();
  ASSERT_TRUE(manager);
  for (int i = 0; i < 100'000; ++i) manager->alive();
  EXPECT_EQ(heard(), "WATCHDOG=1");
}

}  // namespace
}  // namespace gecko
