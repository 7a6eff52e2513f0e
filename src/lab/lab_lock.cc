#include "lab/lab_lock.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "lab/process.hh"

namespace gecko::lab {

Result<Fd> lock_lab(const std::string& directory, Duration at_most) {
  const Time deadline = monotonic_now() + at_most;
  for (;;) {
    Fd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd) return os_error("open " + directory);
    if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) {
      struct stat locked {
      }, named{};
      if (fstat(fd.get(), &locked) == 0 && stat(directory.c_str(), &named) == 0 && locked.st_ino == named.st_ino) return fd;
      continue;  // removed (and perhaps made anew) before we had the lock
    }
    if (errno != EWOULDBLOCK && errno != EINTR) return os_error("lock " + directory);
    if (monotonic_now() > deadline) return make_error(Errc::busy, "another gecko lab command is working on " + directory);
    poll(nullptr, 0, 5);  // flock has no event to wait for
  }
}

Status batch(const std::vector<std::string>& command, const std::string& lines, int lock, int net_namespace) {
  SpawnOptions options;
  options.inherit = lock;
  options.net_namespace = net_namespace;
  options.dies_with_parent = true;
  GECKO_TRY(const Output output, run(command, options, lines));
  if (output.code == 0) return {};
  std::string said = output.err.substr(0, 500);
  while (!said.empty() && said.back() == '\n') said.pop_back();
  std::string text;
  for (const auto& word : command) text += word + " ";
  return make_error(Errc::internal, text + "failed: " + said);
}

}  // namespace gecko::lab
