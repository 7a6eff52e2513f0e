#include "bpf/lease_table.hh"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "bpf/gate_shared.h"

namespace gecko::bpf {
namespace {

static_assert(sizeof(gecko_lease) == sizeof(uint64_t), "one store renews");
static_assert(std::atomic_ref<uint64_t>::is_always_lock_free);

uint64_t to_word(uint16_t term, BootTime deadline) {
  const auto ns = static_cast<uint64_t>(std::max<BootClock::rep>(deadline.time_since_epoch().count(), 0));
  return ns >> GECKO_LEASE_UNIT_BITS << GECKO_LEASE_TERM_BITS | term;
}

uint16_t term_of(uint64_t word) { return static_cast<uint16_t>(word); }

}  // namespace

Result<LeaseTable> LeaseTable::map(const Fd& lease_map) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t bytes = (GECKO_MAX_GROUPS * sizeof(gecko_lease) + page - 1) / page * page;
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, lease_map.get(), 0);
  if (at == MAP_FAILED) return os_error("map the leases of the gate");
  return LeaseTable(static_cast<uint64_t*>(at), bytes);
}

LeaseTable::LeaseTable(LeaseTable&& other) noexcept : words_(std::exchange(other.words_, nullptr)), bytes_(other.bytes_) {}

LeaseTable& LeaseTable::operator=(LeaseTable&& other) noexcept {
  std::swap(words_, other.words_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

LeaseTable::~LeaseTable() {
  if (words_ != nullptr) munmap(words_, bytes_);
}

void LeaseTable::open(uint16_t row, uint16_t term, BootTime deadline) {
  GECKO_ASSERT(row < GECKO_MAX_GROUPS);
  std::atomic_ref(words_[row]).store(to_word(term, deadline));
}

bool LeaseTable::renew(uint16_t row, uint16_t term, BootTime deadline) {
  GECKO_ASSERT(row < GECKO_MAX_GROUPS);
  const std::atomic_ref word(words_[row]);
  const uint64_t next = to_word(term, deadline);
  uint64_t now = word.load();
  do {
    if (term_of(now) != term) return false;
    if (next <= now) return true;  // same term, so the comparison is one of deadlines
  } while (!word.compare_exchange_weak(now, next));
  return true;
}

void LeaseTable::close(uint16_t row) {
  GECKO_ASSERT(row < GECKO_MAX_GROUPS);
  std::atomic_ref(words_[row]).fetch_and((uint64_t{1} << GECKO_LEASE_TERM_BITS) - 1);
}

uint16_t LeaseTable::term(uint16_t row) const {
  GECKO_ASSERT(row < GECKO_MAX_GROUPS);
  return term_of(std::atomic_ref(words_[row]).load());
}

BootTime LeaseTable::deadline(uint16_t row) const {
  GECKO_ASSERT(row < GECKO_MAX_GROUPS);
  const uint64_t units = std::atomic_ref(words_[row]).load() >> GECKO_LEASE_TERM_BITS;
  return BootTime(std::chrono::nanoseconds(static_cast<int64_t>(units << GECKO_LEASE_UNIT_BITS)));
}

}  // namespace gecko::bpf
