#include "node/handoff_journal.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <utility>

#include "base/log.hh"

namespace gecko::node {

namespace {
constexpr uint64_t kMagic = 0x314f4b4345470a01;   // another layout is another number
// All connections that can be between two states at once (the privileged half's limit on tokens), so that only a handoff that has been
// waiting for longer than as many others took is forgotten. 1.4 MB each; pages never written take no memory.
constexpr uint32_t kSlots = 16384;

struct PlainEndpoint {
  uint8_t address[16];
  uint16_t port, pad;
};
PlainEndpoint plain(const Endpoint& e) {
  PlainEndpoint p{};
  std::memcpy(p.address, e.address.bytes.data(), sizeof p.address);
  p.port = e.port;
  return p;
}
Endpoint endpoint(const PlainEndpoint& p) {
  Endpoint e;
  std::memcpy(e.address.bytes.data(), p.address, sizeof p.address);
  e.port = p.port;
  return e;
}

// Differs after a reboot: what a file on a disk says then is of sockets that are no more.
std::array<char, 40> boot_id() {
  std::array<char, 40> id{};
  const Fd fd(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  if (fd) (void)!::read(fd.get(), id.data(), id.size() - 1);
  return id;
}
}  // namespace

struct HandoffJournal::Slot {
  uint8_t id[16], peer[16];
  uint64_t epoch, xid;
  PlainEndpoint local, client;
  uint8_t state, pad[7];
};
struct HandoffJournal::Ring {
  uint64_t next;
  Slot slots[kSlots];
};
struct HandoffJournal::File {
  uint64_t magic, size;
  std::array<char, 40> boot;
  Ring given, taken;
};

HandoffJournal::~HandoffJournal() {
  if (file_ != nullptr) ::munmap(file_, sizeof(File));
}
HandoffJournal::HandoffJournal(HandoffJournal&& other) noexcept
    : lock_(std::move(other.lock_)), file_(std::exchange(other.file_, nullptr)), given_before_(std::move(other.given_before_)),
      taken_before_(std::move(other.taken_before_)) {}
HandoffJournal& HandoffJournal::operator=(HandoffJournal&& other) noexcept {
  std::swap(lock_, other.lock_);
  std::swap(file_, other.file_);
  given_before_.swap(other.given_before_);
  taken_before_.swap(other.taken_before_);
  return *this;
}

Result<HandoffJournal> HandoffJournal::open(const std::string& directory, Duration patience) {
  const std::string path = directory + "/handoff.journal";
  HandoffJournal journal;
  journal.lock_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!journal.lock_) return os_error("open " + path);
  // One open file description for both halves: the lock ends with the last of them.
  const Time deadline = monotonic_now() + patience;
  while (::flock(journal.lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return os_error("lock " + path);
    if (monotonic_now() > deadline)
      return make_error(Errc::busy, "another geckod uses " + directory + " and does not end; stop it, or name another directory with --runtime-dir");
    ::poll(nullptr, 0, 2);   // flock has no event to wait for
  }
  struct stat st{};
  if (::fstat(journal.lock_.get(), &st) != 0) return os_error("look at " + path);
  if (!S_ISREG(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 077) != 0)
    return make_error(Errc::permission, path + " must be a file that only its owner, who starts geckod, can read and write: remove it");
  const bool fits = static_cast<uint64_t>(st.st_size) == sizeof(File);
  if (!fits && (::ftruncate(journal.lock_.get(), 0) != 0 || ::ftruncate(journal.lock_.get(), sizeof(File)) != 0)) return os_error("make room in " + path);
  void* const at = ::mmap(nullptr, sizeof(File), PROT_READ | PROT_WRITE, MAP_SHARED, journal.lock_.get(), 0);
  if (at == MAP_FAILED) return os_error("map " + path);
  journal.file_ = static_cast<File*>(at);
  File& file = *journal.file_;
  const auto boot = boot_id();
  if (file.magic != kMagic || file.size != sizeof(File) || file.boot != boot) {
    if (::ftruncate(journal.lock_.get(), 0) != 0 || ::ftruncate(journal.lock_.get(), sizeof(File)) != 0) return os_error("empty " + path);
    file.size = sizeof(File);
    file.boot = boot;
    file.magic = kMagic;
  }
  journal.given_before_ = read(file.given);
  journal.taken_before_ = read(file.taken);
  return journal;
}

std::unordered_map<ConnId, HandoffJournal::Record> HandoffJournal::read(const Ring& ring) {
  std::unordered_map<ConnId, Record> records;
  for (uint64_t i = 0; i < kSlots; ++i) {   // the oldest first
    const auto index = static_cast<uint32_t>((ring.next + i) % kSlots);
    const Slot& slot = ring.slots[index];
    if (slot.state == 0 || slot.state > static_cast<uint8_t>(State::activated)) continue;
    Record record;
    std::memcpy(record.id.bytes.data(), slot.id, sizeof slot.id);
    std::memcpy(record.peer.bytes.data(), slot.peer, sizeof slot.peer);
    record.epoch = slot.epoch;
    record.xid = slot.xid;
    record.flow = {endpoint(slot.local), endpoint(slot.client)};
    record.state = static_cast<State>(slot.state);
    record.slot = index;
    records.insert_or_assign(record.id, record);
  }
  return records;
}

uint32_t HandoffJournal::note(Ring& ring, const Record& record) {
  // What is still being asked for stays, whatever its age.
  for (uint32_t tries = 0; tries < kSlots && ring.slots[ring.next % kSlots].state == static_cast<uint8_t>(State::committed); ++tries) ++ring.next;
  const auto index = static_cast<uint32_t>(ring.next % kSlots);
  Slot& slot = ring.slots[index];
  const std::atomic_ref<uint8_t> state(slot.state);
  state.store(0, std::memory_order_release);
  std::memcpy(slot.id, record.id.bytes.data(), sizeof slot.id);
  std::memcpy(slot.peer, record.peer.bytes.data(), sizeof slot.peer);
  slot.epoch = record.epoch;
  slot.xid = record.xid;
  slot.local = plain(record.flow.local);
  slot.client = plain(record.flow.peer);
  state.store(static_cast<uint8_t>(record.state), std::memory_order_release);   // the last store: a record that death cuts short is none
  ++ring.next;
  return index;
}

uint32_t HandoffJournal::note_given(const Record& record) { return file_ == nullptr ? kNoSlot : note(file_->given, record); }
uint32_t HandoffJournal::note_taken(const Record& record) { return file_ == nullptr ? kNoSlot : note(file_->taken, record); }

void HandoffJournal::mark_given(uint32_t index, const ConnId& id, State to) {
  if (file_ == nullptr || index >= kSlots) return;
  Slot& slot = file_->given.slots[index];
  if (std::memcmp(slot.id, id.bytes.data(), sizeof slot.id) != 0) return;
  std::atomic_ref<uint8_t>(slot.state).store(static_cast<uint8_t>(to), std::memory_order_release);
}

void HandoffJournal::mark_taken(uint32_t index, const ConnId& id, State to) {
  if (file_ == nullptr || index >= kSlots) return;
  Slot& slot = file_->taken.slots[index];
  if (std::memcmp(slot.id, id.bytes.data(), sizeof slot.id) != 0) return;
  std::atomic_ref<uint8_t>(slot.state).store(static_cast<uint8_t>(to), std::memory_order_release);
}

HandoffJournal::State HandoffJournal::state_of_given(uint32_t index, const Flow& flow) const {
  if (file_ == nullptr) return State::none;
  if (index >= kSlots) return State::committed;
  const Slot& slot = file_->given.slots[index];
  if (endpoint(slot.local) != flow.local || endpoint(slot.client) != flow.peer) return State::committed;
  return static_cast<State>(std::atomic_ref<uint8_t>(const_cast<uint8_t&>(slot.state)).load(std::memory_order_acquire));
}

bool HandoffJournal::may_have_lived(const ConnId& id, uint64_t epoch) const {
  const auto at = taken_before_.find(id);
  return at == taken_before_.end() || at->second.epoch != epoch || at->second.state != State::restored;
}

}  // namespace gecko::node
