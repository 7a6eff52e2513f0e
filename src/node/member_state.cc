#include "node/member_state.hh"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "base/log.hh"

namespace gecko::node {

namespace {
constexpr uint64_t kMagic = 0x31454d4f4345470a;   // another layout is another number
// magic, number, length, SHA-256 of the three and the content
constexpr size_t kHeader = 24 + 32;
constexpr size_t kSlot = 8192;                    // two views of 2.7 KB, and room

std::array<uint8_t, 32> sum(wire::ByteView header, wire::ByteView content) {
  std::array<uint8_t, 32> out{};
  unsigned size = 0;
  wire::Bytes all(header.begin(), header.end());
  all.insert(all.end(), content.begin(), content.end());
  GECKO_ASSERT(EVP_Digest(all.data(), all.size(), out.data(), &size, EVP_sha256(), nullptr) == 1 && size == out.size());
  return out;
}
}  // namespace

struct MemberState::Content {
  std::string node;
  uint16_t index = 0;
  wire::MembershipState state;
  GECKO_FIELDS(wire::limited<63>(node), index, state)
};

Result<MemberState> MemberState::open(const std::string& directory, const std::string& group, const std::string& node, uint16_t index) {
  MemberState file;
  file.path_ = directory + "/" + group + ".membership";
  file.node_ = node;
  file.index_ = index;
  file.fd_.reset(::open(file.path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.fd_) return os_error("open " + file.path_);
  if (::flock(file.fd_.get(), LOCK_EX | LOCK_NB) != 0)
    return make_error(Errc::busy, file.path_ + " is in use by another geckod; each node has a state directory of its own (--state-dir)");
  std::optional<std::pair<uint64_t, Content>> last;
  for (int slot = 0; slot < 2; ++slot)
    if (auto found = file.read_slot(slot); found && (!last || found->first > last->first)) last = std::move(found);
  if (last) file.sequence_ = last->first;
  if (last && (last->second.node != node || last->second.index != index))
    log_warn(file.path_ + " is of node '" + last->second.node + "', number " + std::to_string(last->second.index) + " of its group, and this is '" + node +
             "', number " + std::to_string(index) + ": it is not used, this node joins as a new one");
  else if (last) file.found_ = std::move(last->second.state);
  struct stat info{};
  if (::fstat(file.fd_.get(), &info) == 0 && info.st_size == 0 && !last) {
    // Without room the first write says so.
    if (::posix_fallocate(file.fd_.get(), 0, 2 * kSlot) == 0) {
      (void)::fsync(file.fd_.get());
      const Fd parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (parent) (void)::fsync(parent.get());
    }
  }
  return file;
}

std::optional<std::pair<uint64_t, MemberState::Content>> MemberState::read_slot(int slot) const {
  wire::Bytes bytes(kSlot);
  const ssize_t got = ::pread(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(slot) * static_cast<off_t>(kSlot));
  if (got < static_cast<ssize_t>(kHeader)) return std::nullopt;
  bytes.resize(static_cast<size_t>(got));
  wire::Reader r(bytes);
  const uint64_t magic = r.integer(8), number = r.integer(8), length = r.integer(8);
  if (magic != kMagic || length > bytes.size() - kHeader) return std::nullopt;
  const wire::ByteView content = wire::ByteView(bytes).subspan(kHeader, length);
  const auto expected = sum(wire::ByteView(bytes).first(24), content);
  if (!std::equal(expected.begin(), expected.end(), bytes.begin() + 24)) return std::nullopt;
  auto decoded = wire::decode<Content>(content);
  if (!decoded) return std::nullopt;
  return std::pair{number, std::move(*decoded)};
}

Status MemberState::write(const wire::MembershipState& state) {
  if (!fd_) return make_error(Errc::unavailable, "there is no state file");
  const wire::Bytes content = wire::encode(Content{node_, index_, state});
  GECKO_ASSERT(content.size() <= kSlot - kHeader);
  const uint64_t number = sequence_ + 1;
  wire::Bytes bytes;
  wire::Writer w(bytes);
  w.integer(kMagic, 8);
  w.integer(number, 8);
  w.integer(content.size(), 8);
  const auto tag = sum(bytes, content);
  w.raw(tag.data(), tag.size());
  w.raw(content.data(), content.size());
  const ssize_t written = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(number % 2) * static_cast<off_t>(kSlot));
  if (written < 0) return os_error("write " + path_);
  if (written != static_cast<ssize_t>(bytes.size())) return make_error(Errc::limit, "write " + path_ + ": no room on the disk");
  if (::fdatasync(fd_.get()) != 0) return os_error("bring " + path_ + " to the disk");
  sequence_ = number;
  return {};
}

}  // namespace gecko::node
