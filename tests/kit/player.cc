#include "kit/player.hh"

#include <algorithm>

namespace gecko::kit {

void Player::play(Time until) {
  if (!playing_ || until <= at_) return;
  constexpr Duration kMs = std::chrono::milliseconds(1);
  const auto rate = static_cast<int64_t>(bytes_per_ms_);
  const auto due = static_cast<uint64_t>((until - at_) * rate / kMs);
  const size_t shown = std::min<uint64_t>(due, held_);
  held_ -= shown;
  at_ += kMs * static_cast<int64_t>(shown) / rate;
  if (due <= shown) return;
  playing_ = false;
  if (arrived_ < film_) ++stalls_;
}

void Player::arrived(size_t bytes, Time now) {
  play(now);
  arrived_ += bytes;
  held_ += bytes;
  if (playing_ || !may_begin()) return;
  playing_ = true;
  at_ = now;
}

size_t Player::room(Time now) {
  play(now);
  return buffer_ - std::min(buffer_, held_);
}

}  // namespace gecko::kit
