#include "memory_squeeze.hh"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "base/fd.hh"

namespace gecko::system_test {
namespace {

constexpr const char* kVersion2 = "/sys/fs/cgroup";
constexpr const char* kVersion1 = "/sys/fs/cgroup/memory";

Status write_file(const std::string& path, const std::string& text) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return os_error("open " + path);
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) return os_error("write '" + text + "' to " + path);
  return {};
}

bool has_word(const std::string& file, const std::string& word) {
  std::ifstream in(file);
  for (std::string one; in >> one;)
    if (one == word) return true;
  return false;
}

// Where this process is, among those of one hierarchy ("0::/..." of /proc/self/cgroup, or "4:memory:/...").
std::string own_group(const std::string& controllers) {
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);)
    if (const size_t at = line.find(":" + controllers + ":"); at != std::string::npos) return line.substr(at + controllers.size() + 2);
  return "/";
}

}  // namespace

Status MemorySqueeze::put(const std::string& name, const std::string& value) const { return write_file(group_ + "/" + name, value); }

Result<std::unique_ptr<MemorySqueeze>> MemorySqueeze::begin(const std::vector<pid_t>& pids, uint64_t limit_bytes) {
  std::unique_ptr<MemorySqueeze> squeeze(new MemorySqueeze());
  squeeze->version2_ = has_word(std::string(kVersion2) + "/cgroup.controllers", "memory");
  const std::string root = squeeze->version2_ ? kVersion2 : kVersion1;
  squeeze->home_ = root + own_group(squeeze->version2_ ? "" : "memory");
  if (squeeze->version2_) {
    if (auto ok = write_file(root + "/cgroup.subtree_control", "+memory"); !ok) return make_error(Errc::unsupported, ok.error().message);
  } else if (::access((root + "/memory.limit_in_bytes").c_str(), R_OK) != 0) {
    return make_error(Errc::unsupported, "neither /sys/fs/cgroup nor /sys/fs/cgroup/memory has a memory controller");
  }
  const std::string group = root + "/gecko-squeeze-" + std::to_string(::getpid());
  if (::mkdir(group.c_str(), 0755) != 0) return make_error(Errc::unsupported, "make " + group + ": " + std::strerror(errno));
  squeeze->group_ = group;
  GECKO_CHECK(squeeze->put(squeeze->version2_ ? "memory.max" : "memory.limit_in_bytes", std::to_string(limit_bytes)));
  for (const pid_t pid : pids) {
    GECKO_CHECK(squeeze->put("cgroup.procs", std::to_string(pid)));
    squeeze->pids_.push_back(pid);
  }
  squeeze->neighbour_ = ::fork();
  if (squeeze->neighbour_ < 0) return os_error("fork");
  if (squeeze->neighbour_ == 0) squeeze->eat();
  return squeeze;
}

// Takes 4 KiB after 4 KiB without an end; when a child of it has died of that, the next one does.
void MemorySqueeze::eat() const {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  (void)put("cgroup.procs", "0");
  (void)write_file("/proc/self/oom_score_adj", "-1000");
  for (;;) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) {
        void* const at = ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) ::_exit(0);
        for (size_t i = 0; i < 1 << 20; i += 4096) static_cast<volatile char*>(at)[i] = 1;
      }
    }
    if (child < 0 || ::waitpid(child, nullptr, 0) < 0) ::_exit(1);
  }
}

MemorySqueeze::~MemorySqueeze() {
  if (group_.empty()) return;
  (void)put(version2_ ? "memory.max" : "memory.limit_in_bytes", version2_ ? "max" : "-1");
  if (neighbour_ > 0) {
    (void)::kill(neighbour_, SIGKILL);
    (void)::waitpid(neighbour_, nullptr, 0);
  }
  // Its child, too, may be on its way out still.
  for (int i = 0; i < 1000; ++i) {
    std::ifstream in(group_ + "/cgroup.procs");
    for (std::string pid; in >> pid;) (void)write_file(home_ + "/cgroup.procs", pid);
    if (::rmdir(group_.c_str()) == 0) return;
    ::usleep(1000);
  }
}

}  // namespace gecko::system_test
