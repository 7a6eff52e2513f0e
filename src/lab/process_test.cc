#include "lab/process.hh"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.hh"

namespace gecko::lab {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Run, CollectsOutputErrorsAndCode) {
  const auto output = run({"sh", "-c", "cat; echo oops >&2; exit 3"}, {}, "hello");
  ASSERT_TRUE(output) << output.error().message;
  EXPECT_EQ(output->out, "hello");
  EXPECT_EQ(output->err, "oops\n");
  EXPECT_EQ(output->code, 3);
}

TEST(Run, MuchInputToAChildThatDoesNotReadIt) {
  const std::string much(1 << 20, 'x');
  const auto output = run({"true"}, {}, much);
  ASSERT_TRUE(output) << output.error().message;
  EXPECT_EQ(output->code, 0);
}

TEST(Run, MuchInputAndOutputAtOnce) {
  const std::string much(4 << 20, 'x');
  const auto output = run({"cat"}, {}, much);
  ASSERT_TRUE(output) << output.error().message;
  EXPECT_EQ(output->out.size(), much.size());
}

TEST(Run, StopsAtItsDeadline) {
  const auto output = run({"sleep", "1000"}, {}, {}, milliseconds(50));
  ASSERT_FALSE(output);
  EXPECT_EQ(output.error().code, Errc::timeout);
}

TEST(Run, EndlessOutputIsRefused) {
  const auto output = run({"cat", "/dev/zero"}, {});
  ASSERT_FALSE(output);
  EXPECT_EQ(output.error().code, Errc::limit);
}

TEST(Spawn, ReportsAProgramThatIsNotThere) {
  const auto process = spawn({"/nonexistent/program"});
  ASSERT_FALSE(process);
  EXPECT_EQ(process.error().code, Errc::not_found);
  EXPECT_EQ(process.error().message, "execute '/nonexistent/program': No such file or directory");
}

TEST(Spawn, ReportsANamespaceThatCannotBeEntered) {
  SpawnOptions options;
  options.net_namespace = 0;  // whatever stdin is, it is none
  const auto process = spawn({"true"}, options);
  ASSERT_FALSE(process);
  EXPECT_NE(process.error().message.find("enter the network namespace for 'true'"), std::string::npos) << process.error().message;
}

TEST(Spawn, EnvironmentReplacesTheCallersOwn) {
  setenv("GECKO_PROCESS_TEST", "old", 1);
  SpawnOptions options;
  options.environment = {"GECKO_PROCESS_TEST=new"};
  const auto output = run({"sh", "-c", "env | grep -c ^GECKO_PROCESS_TEST=; echo $GECKO_PROCESS_TEST"}, options);
  ASSERT_TRUE(output);
  EXPECT_EQ(output->out, "1\nnew\n");
}

TEST(Process, EndedBySignalIs128AndItsNumber) {
  auto process = spawn({"sleep", "1000"});
  ASSERT_TRUE(process);
  EXPECT_EQ(process->wait(milliseconds(1)).error().code, Errc::timeout);
  process->signal(SIGTERM);
  const auto code = process->wait(seconds(10));
  ASSERT_TRUE(code);
  EXPECT_EQ(*code, 128 + SIGTERM);
}

TEST(Process, DestructorKillsAndReaps) {
  pid_t pid = 0;
  {
    auto process = spawn({"sleep", "1000"});
    ASSERT_TRUE(process);
    pid = process->pid();
    EXPECT_EQ(kill(pid, 0), 0);
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST(Process, DaemonIsNobodysChildAndLogs) {
  char log[] = "/tmp/gecko-process-test-XXXXXX";
  const Fd file(mkstemp(log));
  SpawnOptions options;
  options.daemon = true;
  options.log_file = log;
  const auto process = spawn({"sh", "-c", "echo started; echo $$ >&2"}, options);
  ASSERT_TRUE(process) << process.error().message;
  EXPECT_EQ(waitpid(process->pid(), nullptr, WNOHANG), -1);
  const Time deadline = monotonic_now() + seconds(10);
  const std::string wanted = "started\n" + std::to_string(process->pid()) + "\n";
  std::string text;
  while (text != wanted && monotonic_now() < deadline) {
    char buffer[256];
    text.assign(buffer, static_cast<size_t>(std::max<ssize_t>(0, pread(file.get(), buffer, sizeof buffer, 0))));
  }
  EXPECT_EQ(text, wanted);
  unlink(log);
}

}  // namespace
}  // namespace gecko::lab
