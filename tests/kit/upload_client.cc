#include "kit/upload_client.hh"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "kit/http_response.hh"
#include "kit/pattern.hh"

namespace gecko::kit {
namespace {
// A slow client moves a few milliseconds' worth at a time: thousands of timers per second would be all that a storm's thread does.
constexpr std::chrono::milliseconds kPace{4};
}  // namespace

UploadClient::UploadClient(net::Loop& loop, const UploadOptions& options) : Client(loop, options.server, options.from), options_(options) {
  if (options.keep_timeline) timeline_.keep_all();
}

void UploadClient::request() {
  head_ = "PUT /sink HTTP/1.1\r\nHost: gecko\r\nContent-Length: " + std::to_string(options_.size) + "\r\n\r\n";
  head_sent_ = 0;
  answer_.clear();
  body_ = 0;
  sha_ = Sha256();
  last_progress_ = monotonic_now();
  if (options_.look > Duration::zero() && look_timer_ == 0) look_again();
  writable();
}

void UploadClient::look_again() {
  look_timer_ = loop_.at(monotonic_now() + options_.look, [this] {
    observe();
    look_again();
  });
}

void UploadClient::observe() {
  const uint64_t queued = unacknowledged(), acknowledged = written_ - queued;
  const Time now = monotonic_now();
  if (acknowledged > acknowledged_) {
    timeline_.add({last_progress_, now});
    acknowledged_ = acknowledged;
    last_progress_ = now;
  } else if (queued == 0) {
    last_progress_ = now;  // nothing is owed
  }
}

void UploadClient::writable() {
  observe();
  if (head_sent_ < head_.size()) {
    const size_t n = write_some(std::span(reinterpret_cast<const uint8_t*>(head_.data()), head_.size()).subspan(head_sent_));
    if (done()) return;
    head_sent_ += n;
    written_ += n;
    if (head_sent_ < head_.size()) return want(true, true);
  }
  static thread_local std::array<uint8_t, 128 * 1024> piece;
  while (body_ < options_.size) {
    size_t n = std::min<uint64_t>(piece.size(), options_.size - body_);
    if (options_.bytes_per_ms > 0) {
      n = std::min(n, allowance_);
      if (n == 0) {
        if (pace_timer_ == 0)
          pace_timer_ = loop_.at(loop_.now() + kPace, [this] {
            pace_timer_ = 0;
            allowance_ = options_.bytes_per_ms * static_cast<size_t>(kPace.count());
            writable();
          });
        return want(true, false);
      }
    }
    fill_pattern(Pattern::stream, options_.seed, body_, std::span(piece).first(n));
    const size_t gone = write_some(std::span(piece).first(n));
    if (done()) return;
    if (options_.hash) sha_.add(std::span(piece).first(gone));
    body_ += gone;
    written_ += gone;
    if (options_.bytes_per_ms > 0) allowance_ -= gone;
    if (gone < n) return want(true, true);
  }
  want(true, false);
}

void UploadClient::readable() {
  std::array<uint8_t, 4096> piece;
  const size_t n = read_some(piece);
  if (n == 0) return;
  answer_.append(reinterpret_cast<const char*>(piece.data()), n);
  const auto head = parse_head(answer_);
  if (!head) return fail(Failure::wrong, head.error().message);
  if (!*head) return;
  if ((*head)->status == 100) return answer_.erase(0, (*head)->size), void();
  if ((*head)->status != 200 || (*head)->content_length > 4096) return fail(Failure::wrong, "answer with status " + std::to_string((*head)->status));
  if (answer_.size() < (*head)->size + (*head)->content_length) return;
  if (body_ < options_.size)
    return fail(Failure::wrong, "answered after " + std::to_string(body_) + " of " + std::to_string(options_.size) + " bytes");
  complete(std::string_view(answer_).substr((*head)->size));
}

void UploadClient::complete(std::string_view json) {
  observe();
  const auto answer = nlohmann::json::parse(json, nullptr, false);
  if (!answer.is_object() || !answer.contains("bytes") || !answer["bytes"].is_number_unsigned())
    return fail(Failure::wrong, "the answer to the upload is '" + std::string(json.substr(0, 200)) + "'");
  if (const auto bytes = answer["bytes"].get<uint64_t>(); bytes != options_.size)
    return fail(Failure::wrong, "the server got " + std::to_string(bytes) + " of " + std::to_string(options_.size) + " bytes");
  if (options_.hash && answer.value("sha256", "") != sha_.hex())
    return fail(Failure::wrong, "the server got other bytes than were sent (SHA-256 differs)");
  ++totals_.exchanges;
  if (winding_down_ || options_.then == UploadOptions::Then::finish) return finish();
  if (options_.then == UploadOptions::Then::same_connection) return request();
  finish();
  open();
}

void UploadClient::ended() {
  fail(Failure::closed_early, "the server closed after " + std::to_string(body_) + " of " + std::to_string(options_.size) + " bytes");
}

void UploadClient::wind_down() { winding_down_ = true; }

void UploadClient::closing() {
  loop_.cancel(look_timer_);
  loop_.cancel(pace_timer_);
  look_timer_ = pace_timer_ = 0;
  written_ = acknowledged_ = 0;
}

}  // namespace gecko::kit
