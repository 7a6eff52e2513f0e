#include "kit/echo_client.hh"

#include <algorithm>
#include <array>

#include "kit/pattern.hh"

namespace gecko::kit {

EchoClient::EchoClient(net::Loop& loop, const EchoOptions& options)
    : Client(loop, options.server, options.from), options_(options), random_(options.seed) {
  if (options.keep_timeline) timeline_.keep_all();
}

void EchoClient::opened() {
  last_sign_ = monotonic_now();
  schedule();
}

void EchoClient::schedule() {
  timer_ = 0;
  if (winding_down_) return writable();
  if (to_send_ == sent_) to_send_ += 1 + random_() % options_.largest_write;
  if (options_.pause > Duration::zero()) timer_ = loop_.at(loop_.now() + options_.pause, [this] { schedule(); });
  writable();
}

void EchoClient::writable() {
  std::array<uint8_t, 64 * 1024> piece;
  while (sent_ < to_send_) {
    const size_t n =
        std::min({piece.size(), static_cast<size_t>(to_send_ - sent_), options_.window - std::min<size_t>(options_.window, sent_ - echoed_)});
    if (n == 0) return want(true, false);                // goes on when something has come back
    if (sent_ == echoed_) last_sign_ = monotonic_now();  // nothing was due before
    fill_pattern(Pattern::echo, options_.seed, sent_, std::span(piece).first(n));
    const size_t gone = write_some(std::span(piece).first(n));
    if (done()) return;
    sent_ += gone;
    if (gone < n) return want(true, true);
    if (sent_ == to_send_ && options_.pause == Duration::zero() && !winding_down_) to_send_ += 1 + random_() % options_.largest_write;
  }
  want(true, false);
  if (winding_down_ && !shut_) {
    shut_ = true;
    shut_output();
  }
}

void EchoClient::readable() {
  std::array<uint8_t, 64 * 1024> piece;
  const size_t n = read_some(piece);
  if (n == 0) return;
  const Time now = monotonic_now();
  const auto come = std::span(piece).first(n);
  if (const size_t right = match_pattern(Pattern::echo, options_.seed, echoed_, come); right < n) {
    const uint64_t at = echoed_ + right;
    return fail_wrong(Pattern::echo, options_.seed, at, come.subspan(right), "byte " + std::to_string(at) + " of the echo is wrong");
  }
  if (echoed_ + n > sent_) return fail(Failure::wrong, "more bytes came back than were sent");
  echoed_ += n;
  ++totals_.exchanges;
  timeline_.add({last_sign_, now});
  last_sign_ = now;
  if (sent_ < to_send_) writable();
}

void EchoClient::ended() {
  if (shut_ && echoed_ == sent_) return finish();
  fail(Failure::closed_early, std::to_string(sent_ - echoed_) + " bytes of the echo are missing");
}

void EchoClient::wind_down() {
  winding_down_ = true;
  if (!connected()) return;
  to_send_ = sent_;
  writable();
}

void EchoClient::closing() { loop_.cancel(timer_); }

}  // namespace gecko::kit
