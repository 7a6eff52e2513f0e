#include "kit/ping_client.hh"

#include <array>

#include "kit/pattern.hh"

namespace gecko::kit {

PingClient::PingClient(net::Loop& loop, const PingOptions& options)
    : Client(loop, options.server, options.from), options_(options), out_(options.size), in_(options.size) {
  if (options.keep_timeline) timeline_.keep_all();
}

void PingClient::send_next() {
  timer_ = 0;
  fill_pattern(Pattern::echo, options_.seed, offset_, out_);
  sent_ = received_ = 0;
  under_way_ = true;
  started_ = monotonic_now();
  writable();
}

void PingClient::writable() {
  if (!under_way_) return want(true, false);
  sent_ += write_some(std::span(out_).subspan(sent_));
  if (!done()) want(true, sent_ < out_.size());
}

void PingClient::readable() {
  if (!under_way_) {  // an answer that is too long must be seen
    std::array<uint8_t, 4096> surplus;
    if (const size_t n = read_some(surplus); n > 0)
      fail_wrong(Pattern::echo, options_.seed, offset_, std::span(surplus).first(n), "a byte that was not asked for");
    return;
  }
  const size_t n = read_some(std::span(in_).subspan(received_));
  if (n == 0) return;
  const Time now = monotonic_now();
  const auto piece = std::span(in_).subspan(received_, n);
  // Each piece as it comes: of an answer with bytes left out the last one never does.
  if (const size_t right = match_pattern(Pattern::echo, options_.seed, offset_ + received_, piece); right < n) {
    const uint64_t at = offset_ + received_ + right;
    return fail_wrong(Pattern::echo, options_.seed, at, piece.subspan(right), "byte " + std::to_string(at) + " of the answers is wrong");
  }
  received_ += n;
  if (received_ < in_.size()) return;
  timeline_.add({started_, now});
  ++totals_.exchanges;
  offset_ += in_.size();
  under_way_ = false;
  if (winding_down_) return finish();
  if (options_.idle) return;
  if (options_.pause > Duration::zero()) timer_ = loop_.at(now + options_.pause, [this] { send_next(); });
  else send_next();
}

void PingClient::speak() {
  if (connected() && !under_way_) send_next();
}

void PingClient::wind_down() {
  winding_down_ = true;
  if (connected() && !under_way_) finish();
}

void PingClient::closing() { loop_.cancel(timer_); }

}  // namespace gecko::kit
