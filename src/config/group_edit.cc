#include "config/group_edit.hh"

#include <fcntl.h>
#include <sys/stat.h>

#include <climits>
#include <cstdlib>
#include <toml++/toml.h>

#include "base/fd.hh"
#include "config/words.hh"

namespace gecko::config {
namespace {

// `wanted` is what the new text must mean; the contacts follow from the nodes where the file does not list them.
Result<std::string> checked(std::string text, const std::string& file, const GroupConfig& before, const std::vector<Node>& wanted) {
  GECKO_TRY(auto after, parse_group(text, file));
  const auto nodes = after.nodes;
  after.nodes = before.nodes;
  after.contact = before.contact;
  if (nodes != wanted || after != before)
    return make_error(Errc::invalid, file + ": its [[node]] tables are written in a way that cannot be changed from here; change them by hand");
  return text;
}

// Where the line ends on which the name of that node is written; npos: it is not on a line of a [[node]] of its own.
size_t end_of_name(std::string_view text, const std::string& file, const std::string& name) {
  try {
    const toml::table root = toml::parse(text, file);
    const auto* nodes = root["node"].as_array();
    if (nodes == nullptr) return std::string::npos;
    for (const auto& node : *nodes) {
      const auto* written = node.as_table() == nullptr ? nullptr : node.as_table()->get("name");
      if (written == nullptr || written->value<std::string>() != name) continue;
      size_t next = 0;   // the line after
      for (auto line = written->source().end.line; line > 0; --line) {
        const size_t end = text.find('\n', next);
        if (end == std::string::npos) return end;
        next = end + 1;
      }
      return next - 1;
    }
  } catch (const std::exception&) {
    return std::string::npos;   // said by parse_group
  }
  return std::string::npos;
}

}  // namespace

Result<std::string> with_node(std::string_view text, const std::string& file, const Node& node) {
  GECKO_TRY(const auto before, parse_group(text, file));
  for (const auto& other : before.nodes) {
    const std::string had = other.removed ? ", which is removed: take its 'removed' out to bring it back" : "";
    if (other.name == node.name) return make_error(Errc::exists, file + ": there is a node " + shown(node.name) + " already" + had);
    if (other.address == node.address)
      return make_error(Errc::exists, file + ": " + node.address.str() + " is the address of node " + shown(other.name) + had);
  }
  std::string changed(text);
  if (!changed.empty() && changed.back() != '\n') changed += '\n';
  changed += "\n[[node]]\nname = \"" + node.name + "\"\naddress = \"" + node.address.str() + "\"\n";
  if (node.link_port != Node{}.link_port) changed += "port = " + std::to_string(node.link_port) + "\n";
  if (node.witness) changed += "witness = true\n";
  if (node.weight != Node{}.weight) changed += "weight = " + std::to_string(node.weight) + "\n";
  auto wanted = before.nodes;
  wanted.push_back(node);
  return checked(std::move(changed), file, before, wanted);
}

Result<std::string> without_node(std::string_view text, const std::string& file, const std::string& name) {
  GECKO_TRY(const auto before, parse_group(text, file));
  const int index = before.index_of(name);
  if (index < 0) return make_error(Errc::not_found, file + ": there is no node " + shown(name));
  auto wanted = before.nodes;
  auto& node = wanted[static_cast<size_t>(index)];
  if (node.removed) return make_error(Errc::exists, file + ": node " + shown(name) + " is removed already");
  node.removed = true;
  const size_t at = end_of_name(text, file, name);
  std::string changed(text);
  if (at == std::string::npos) changed += '\n';   // the last line of the file, without an end
  changed.insert(at == std::string::npos ? changed.size() : at + 1, "removed = true\n");
  return checked(std::move(changed), file, before, wanted);
}

Result<std::string> read_group_file(const std::string& file) {
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));   // NONBLOCK: a FIFO must not hang its reader
  if (!fd) return os_error("open " + file);
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return os_error(file);
  if (!S_ISREG(info.st_mode)) return make_error(Errc::invalid, file + " is not a regular file");
  std::string text;
  char buffer[16384];
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return os_error("read " + file);
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > kMaxConfigBytes) return make_error(Errc::limit, file + ": a group file has at most " + std::to_string(kMaxConfigBytes) + " bytes");
  }
}

Status replace_group_file(const std::string& file, std::string_view text) {
  // Where a link leads to is changed, not the link.
  char resolved[PATH_MAX];
  if (::realpath(file.c_str(), resolved) == nullptr) return os_error("find " + file);
  const std::string path = resolved;
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return os_error("look at " + path);
  std::string part = path + ".XXXXXX";
  const Fd fd(::mkostemp(part.data(), O_CLOEXEC));
  if (!fd) return os_error("make a file beside " + path);
  const auto give_up = [&](const char* doing) {
    auto error = os_error(std::string(doing) + " " + part);
    ::unlink(part.c_str());
    return error;
  };
  for (size_t done = 0; done < text.size();) {
    const ssize_t put = ::write(fd.get(), text.data() + done, text.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return give_up("write");
    done += static_cast<size_t>(put);
  }
  if (::fchmod(fd.get(), info.st_mode & 07777) != 0 || ::fchown(fd.get(), info.st_uid, info.st_gid) != 0) return give_up("give its owner and mode to");
  if (::fsync(fd.get()) != 0) return give_up("write");
  if (::rename(part.c_str(), path.c_str()) != 0) return give_up(("put into place of " + path + ":").c_str());
  return {};
}

}  // namespace gecko::config
