#include "kit/download_client.hh"

#include <algorithm>
#include <array>

#include "kit/http_response.hh"
#include "kit/pattern.hh"

namespace gecko::kit {
namespace {
// A slow client moves a few milliseconds' worth at a time: thousands of timers per second would be all that a storm's thread does.
constexpr std::chrono::milliseconds kPace{4};
}  // namespace

DownloadClient::DownloadClient(net::Loop& loop, const DownloadOptions& options) : Client(loop, options.server, options.from), options_(options) {
  if (options.keep_timeline) timeline_.keep_all();
  receive_buffer(options.receive_buffer);
}

void DownloadClient::request() {
  out_ = "GET /bytes/" + std::to_string(options_.size) + "?seed=" + std::to_string(options_.seed) + " HTTP/1.1\r\nHost: gecko\r\n\r\n";
  head_.clear();
  body_ = 0;
  in_body_ = false;
  if (options_.player_buffer > 0) player_.emplace(options_.size, options_.bytes_per_ms, options_.player_buffer);
  last_arrival_ = monotonic_now();
  writable();
}

void DownloadClient::writable() {
  if (!out_.empty()) out_.erase(0, write_some({reinterpret_cast<const uint8_t*>(out_.data()), out_.size()}));
  if (!done()) want(true, !out_.empty());
}

void DownloadClient::readable() {
  static thread_local std::array<uint8_t, 256 * 1024> piece;
  size_t room = piece.size();
  if (player_) room = std::min(room, player_->room(monotonic_now()));
  else if (options_.bytes_per_ms > 0) room = std::min(room, allowance_);
  if (room == 0) return wait_a_little();
  const size_t n = read_some(std::span(piece).first(room));
  if (n == 0) return;
  allowance_ -= std::min(allowance_, n);
  const Time now = monotonic_now();
  timeline_.add({last_arrival_, now});
  last_arrival_ = now;
  take(std::span(piece).first(n));
}

void DownloadClient::wait_a_little() {
  want(false, !out_.empty());
  if (timer_ != 0) return;
  timer_ = loop_.at(loop_.now() + kPace, [this] {
    timer_ = 0;
    allowance_ = options_.bytes_per_ms * static_cast<size_t>(kPace.count());
    want(true, !out_.empty());
  });
}

void DownloadClient::take(std::span<const uint8_t> bytes) {
  if (!in_body_) {
    const size_t before = head_.size();
    head_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const auto head = parse_head(head_);
    if (!head) return fail(Failure::wrong, head.error().message);
    if (!*head) return;
    if ((*head)->status != 200) return fail(Failure::failed, "answer with status " + std::to_string((*head)->status));
    if ((*head)->content_length != options_.size)
      return fail(Failure::wrong,
                  "answer with status " + std::to_string((*head)->status) + " and " + std::to_string((*head)->content_length) + " bytes");
    in_body_ = true;
    bytes = bytes.subspan((*head)->size - before);
  }
  if (const size_t right = match_pattern(Pattern::stream, options_.seed, body_, bytes); right < bytes.size()) {
    const uint64_t at = body_ + right;
    return fail_wrong(Pattern::stream, options_.seed, at, bytes.subspan(right), "byte " + std::to_string(at) + " of the download is wrong");
  }
  if (body_ + bytes.size() > options_.size) return fail(Failure::wrong, "more bytes than the answer has");
  body_ += bytes.size();
  if (player_) player_->arrived(bytes.size(), last_arrival_);
  if (body_ == options_.size) complete();
}

void DownloadClient::complete() {
  ++totals_.exchanges;
  if (winding_down_ || options_.then == DownloadOptions::Then::finish) return finish();
  if (options_.then == DownloadOptions::Then::same_connection) return request();
  finish();
  open();
}

void DownloadClient::ended() {
  fail(Failure::closed_early, "the download ended after " + std::to_string(body_) + " of " + std::to_string(options_.size) + " bytes");
}

void DownloadClient::closing() {
  loop_.cancel(timer_);
  timer_ = 0;
}

}  // namespace gecko::kit
