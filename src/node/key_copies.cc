#include "node/key_copies.hh"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>

#include "base/fd.hh"

namespace gecko::node {
namespace {

constexpr size_t kMaxKeyFile = 1u << 20;   // a revocation list of 60,000 serials

Result<std::string> read_file(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return os_error("open " + path);
  std::string text;
  char buffer[8192];
  ssize_t n;
  while ((n = ::read(fd.get(), buffer, sizeof buffer)) > 0 && text.size() <= kMaxKeyFile) text.append(buffer, static_cast<size_t>(n));
  if (n < 0) return os_error("read " + path);
  if (text.size() > kMaxKeyFile) return make_error(Errc::limit, path + " is larger than 1 MiB: this is not a key or certificate");
  return text;
}

// Written beside and renamed: a reader sees the old file or the new one.
Status write_file(const std::string& path, const std::string& text, uid_t uid, gid_t gid) {
  const std::string next = path + ".new";
  ::unlink(next.c_str());
  Fd fd(::open(next.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return os_error("create " + next);
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) return os_error("write " + next);
  if (::fchown(fd.get(), uid, gid) != 0) return os_error("chown " + next);
  if (::rename(next.c_str(), path.c_str()) != 0) return os_error("rename " + next);
  return {};
}

}  // namespace

std::string key_source(const Options& options, const config::GroupConfig& group) {
  if (!options.keys.empty()) return options.keys;
  return group.keys.empty() ? "/etc/gecko/keys/" + group.name : group.keys;
}

std::string key_copy(const Options& options, const config::GroupConfig& group) { return options.runtime_dir + "/keys/" + group.name; }

Status copy_keys(const Options& options, const config::GroupConfig& group) {
  const passwd* user = ::getpwnam(options.user.c_str());
  if (user == nullptr)
    return make_error(Errc::not_found, "user '" + options.user + "' does not exist; create it ('adduser --system --group " + options.user +
                                           "') or name another with --user");
  const std::string from = key_source(options, group), to = key_copy(options, group);
  for (const std::string& dir : {options.runtime_dir + "/keys", to}) {
    if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) return os_error("create directory " + dir);
    struct stat st{};
    if (::lstat(dir.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) return make_error(Errc::permission, dir + " is not a directory: remove it");
    if (::lchown(dir.c_str(), user->pw_uid, user->pw_gid) != 0) return os_error("chown " + dir);
  }
  for (const char* name : {"ca.crt", "node.crt", "node.key", "revoked.txt"}) {
    auto text = read_file(from + "/" + name);
    if (!text) {
      if (text.error().code == Errc::not_found && std::string_view(name) == "revoked.txt") {
        ::unlink((to + "/" + name).c_str());
        continue;
      }
      text.error().message += "; make the keys of this node with 'gecko key init' and 'gecko key sign " + options.node + "'";
      return text.error();
    }
    GECKO_CHECK(write_file(to + "/" + name, *text, user->pw_uid, user->pw_gid));
  }
  return {};
}

}  // namespace gecko::node
