#include "lab/line.hh"

#include <algorithm>

namespace gecko::lab {
namespace {
constexpr size_t kEthernetHeader_bytes = 14;  // left alone: turned bits there would make a lost packet, or one for somebody else
}

void Line::set(const LinkFaults& faults, uint64_t stream) {
  faults_ = faults;
  stream_ = stream;
  counters_ = {};
}

void Line::arrive(Time now, wire::ByteView packet) {
  const Fate fate = fate_of(faults_, stream_, counters_.packets++);
  if (fate.lost) {
    ++counters_.lost;
    return;
  }
  const size_t copies = fate.duplicated ? 2 : 1;
  if (under_way_.size() + copies > kMaxUnderWay) {
    ++counters_.overflowed;
    return;
  }
  Time due = now + fate.delay;
  if (!fate.overtaken) turn_ = due = std::max(due, turn_);
  wire::Bytes bytes(packet.begin(), packet.end());
  if (fate.corrupted && bytes.size() > kEthernetHeader_bytes) {
    const uint64_t bit = below(fate.corrupt_draw, (bytes.size() - kEthernetHeader_bytes) * 8);
    bytes[kEthernetHeader_bytes + bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    ++counters_.corrupted;
  }
  counters_.duplicated += fate.duplicated ? 1 : 0;
  counters_.reordered += fate.overtaken ? 1 : 0;
  if (fate.duplicated) under_way_.emplace(due, bytes);
  under_way_.emplace(due, std::move(bytes));
}

std::optional<Time> Line::due() const {
  if (under_way_.empty()) return {};
  return under_way_.begin()->first;
}

std::optional<wire::Bytes> Line::take(Time now) {
  if (under_way_.empty() || under_way_.begin()->first > now) return {};
  return std::move(under_way_.extract(under_way_.begin()).mapped());
}

LinkCounters Line::counters() const {
  LinkCounters counters = counters_;
  counters.under_way = under_way_.size();
  return counters;
}

}  // namespace gecko::lab
