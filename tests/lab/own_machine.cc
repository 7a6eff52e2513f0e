#include "own_machine.hh"

#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace gecko::lab {
namespace {

class OwnMachine : public testing::Environment {
 public:
  void SetUp() override {
    if (geteuid() != 0) {
      printf("skipped: namespaces need root\n");
      exit(77);
    }
    ASSERT_EQ(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    while (umount2("/run/netns", MNT_DETACH) == 0) {
    }  // other people's, which come and go below ours
    ASSERT_EQ(mount("tmpfs", "/run", "tmpfs", 0, "mode=755"), 0);
    ASSERT_EQ(mkdir("/run/netns", 0755), 0);
    // iproute2 bind-mounts this on itself at its first use and keeps it; do it before anything is compared.
    ASSERT_EQ(mount("/run/netns", "/run/netns", "none", MS_BIND | MS_REC, nullptr), 0);
    ASSERT_EQ(mount("none", "/run/netns", nullptr, MS_REC | MS_SHARED, nullptr), 0);
  }
};
const auto* const g_machine = testing::AddGlobalTestEnvironment(new OwnMachine);

}  // namespace

std::multiset<std::string> machine() {
  std::multiset<std::string> things;
  for (const auto& entry : std::filesystem::recursive_directory_iterator("/run")) things.insert("file " + entry.path().string());
  if (struct if_nameindex* links = if_nameindex()) {
    for (auto* link = links; link->if_index != 0; ++link) things.insert(std::string("link ") + link->if_name);
    if_freenameindex(links);
  }
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);)
    if (line.find(" /run") != std::string::npos) things.insert("mount " + line);
  return things;
}

std::string gecko_program() {
  char self[4096] = {};
  EXPECT_GT(readlink("/proc/self/exe", self, sizeof self - 1), 0);
  return std::filesystem::path(self).parent_path() / "gecko";
}

LabOptions plain(const std::string& name, int nodes) {
  LabOptions options;
  options.name = name;
  options.nodes = nodes;
  options.daemons = false;
  return options;
}

Command gecko(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), gecko_program());
  const auto output = run(arguments, {});
  EXPECT_TRUE(output) << output.error().message;
  return output ? Command{output->code, output->out, output->err} : Command{};
}

}  // namespace gecko::lab
