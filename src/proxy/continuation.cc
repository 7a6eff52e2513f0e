#include "proxy/continuation.hh"

#include <algorithm>

#include "proxy/http_boundary.hh"
#include "proxy/http_text.hh"

namespace gecko::proxy {
namespace {

constexpr uint8_t kMark[] = {'g', 'p', 'p'}, kVersion = 1;
constexpr size_t kFixed = sizeof kMark + 1 + 1 + 1;  // version, stage, whole

void add(std::vector<uint8_t>& out, uint64_t value, size_t bytes = 8) {
  for (size_t i = 0; i < bytes; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}
uint64_t take(std::span<const uint8_t>& in, size_t bytes = 8) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= uint64_t{in[i]} << (8 * i);
  in = in.subspan(bytes);
  return value;
}

std::string_view next_line(std::string_view& head) {
  const size_t end = std::min(head.find("\r\n"), head.size());
  const auto line = head.substr(0, end);
  head.remove_prefix(std::min(end + 2, head.size()));
  return line;
}
std::string_view name_of(std::string_view line) { return line.substr(0, std::min(line.find(':'), line.size())); }
std::string_view method_of(std::string_view request) { return request.substr(0, std::min(request.find(' '), request.size())); }
std::string_view status_of(std::string_view answer) { return answer.starts_with("HTTP/1.1 ") ? answer.substr(9, 3) : std::string_view(); }

// How often a field is there, and its last value.
struct Field {
  size_t count = 0;
  std::string_view value;
};
Field field(std::string_view head, std::string_view lower_case) {
  Field found;
  (void)next_line(head);
  while (!head.empty()) {
    const auto line = next_line(head), name = name_of(line);
    if (!same(name, lower_case) || name.size() == line.size()) continue;
    ++found.count;
    found.value = trim(line.substr(name.size() + 1));
  }
  return found;
}
bool has(std::string_view head, std::string_view lower_case) { return field(head, lower_case).count != 0; }
std::optional<uint64_t> content_length(std::string_view head) {
  const Field length = field(head, "content-length");
  uint64_t value = 0;
  if (length.count != 1 || !number(length.value, 10, value) || has(head, "transfer-encoding")) return std::nullopt;
  return value;
}
// "W/" would only promise that the content means the same.
bool is_strong(std::string_view etag) { return etag.size() >= 2 && etag.front() == '"' && etag.find('"', 1) == etag.size() - 1; }

// A server that carries it out twice has done the same (RFC 9110, 9.2.2).
bool is_idempotent(std::string_view method) {
  constexpr std::string_view kAll[] = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"};
  return std::find(std::begin(kAll), std::end(kAll), method) != std::end(kAll);
}

// Bytes of the answer, head and content, if they are known.
std::optional<uint64_t> length_of(const Progress& p) {
  if (p.whole) return p.answer_bytes;
  if (p.answer.empty()) return std::nullopt;
  const auto status = status_of(p.answer);
  if (status == "204" || status == "304" || method_of(p.request) == "HEAD") return p.answer.size();
  const auto content = content_length(p.answer);
  if (!content) return std::nullopt;
  return p.answer.size() + *content;
}

Plan end(Plan::What what, std::string why) { return {what, std::move(why)}; }

}  // namespace

std::vector<uint8_t> pack(const Progress& p) {
  std::vector<uint8_t> out(std::begin(kMark), std::end(kMark));
  out.push_back(kVersion);
  out.push_back(static_cast<uint8_t>(p.stage));
  out.push_back(p.whole ? 1 : 0);
  add(out, p.answered);
  if (p.stage == Progress::Stage::between || p.stage == Progress::Stage::unknown) return out;
  add(out, p.answer_bytes);
  add(out, static_cast<uint64_t>(p.passed));
  for (const auto* head : {&p.request, &p.answer}) {
    add(out, head->size(), 2);
    out.insert(out.end(), head->begin(), head->end());
  }
  return out;
}

std::optional<Progress> unpack_progress(std::span<const uint8_t> in) {
  if (in.size() < kFixed + 8 || !std::equal(std::begin(kMark), std::end(kMark), in.begin()) || in[3] != kVersion) return std::nullopt;
  Progress p;
  if (in[4] > static_cast<uint8_t>(Progress::Stage::unknown) || in[5] > 1) return std::nullopt;
  p.stage = static_cast<Progress::Stage>(in[4]);
  p.whole = in[5] == 1;
  in = in.subspan(kFixed);
  p.answered = take(in);
  if (p.stage == Progress::Stage::between || p.stage == Progress::Stage::unknown) return in.empty() ? std::optional(p) : std::nullopt;
  if (in.size() < 2 * 8) return std::nullopt;
  p.answer_bytes = take(in);
  p.passed = static_cast<int64_t>(take(in));
  for (auto* head : {&p.request, &p.answer}) {
    if (in.size() < 2) return std::nullopt;
    const auto size = static_cast<size_t>(take(in, 2));
    if (size > HttpBoundary::kMaxKept || size > in.size()) return std::nullopt;
    head->assign(in.begin(), in.begin() + static_cast<ptrdiff_t>(size));
    in = in.subspan(size);
  }
  return in.empty() ? std::optional(p) : std::nullopt;
}

std::optional<Rest> Rest::of(std::string_view request, std::string_view answer, uint64_t from) {
  const auto length = content_length(answer);
  const Field etag = field(answer, "etag");
  if (method_of(request) != "GET" || status_of(answer) != "200" || etag.count != 1 || !is_strong(etag.value) || !length || from >= *length)
    return std::nullopt;
  // Some servers give a compressed answer the tag of the plain one.
  if (has(answer, "content-encoding")) return std::nullopt;
  Rest rest;
  rest.from_ = from;
  rest.length_ = *length;
  rest.etag_ = etag.value;
  std::string_view left = request;
  rest.request_ = next_line(left);
  rest.request_ += "\r\n";
  while (!left.empty()) {
    const auto line = next_line(left), name = name_of(line);
    // Conditions have been judged: the answer was 200.
    if (line.empty() || same(name, "range") || begins(name, "if-")) continue;
    rest.request_.append(line).append("\r\n");
  }
  rest.request_ += "Range: bytes=" + std::to_string(from) + "-\r\nIf-Range: " + rest.etag_ + "\r\n\r\n";
  return rest;
}

Rest::Verdict Rest::feed(std::string_view bytes, size_t& used) {
  const size_t before = head_.size();
  head_.append(bytes.substr(0, HttpBoundary::kMaxKept + 1 - std::min(before, HttpBoundary::kMaxKept)));
  const size_t found = head_.find("\r\n\r\n", before < 3 ? 0 : before - 3);
  if (found == std::string::npos) {
    used = bytes.size();
    if (head_.size() <= HttpBoundary::kMaxKept) return Verdict::more;
    why_ = "the new server's head is too long";
    return Verdict::wrong;
  }
  head_.resize(found + 4);
  used = head_.size() - before;
  const std::string_view head(head_.data(), found + 2);
  const Field etag = field(head, "etag"), range = field(head, "content-range");
  const std::string wanted = "bytes " + std::to_string(from_) + "-" + std::to_string(length_ - 1) + "/" + std::to_string(length_);
  if (status_of(head) != "206") why_ = "the new server answers " + std::string(status_of(head)) + " instead of 206";
  else if (etag.count != 1 || etag.value != etag_) why_ = "the new server's content is another one";
  else if (range.count != 1 || range.value != wanted || has(head, "content-encoding")) why_ = "the new server sends another part";
  else if (content_length(head) != length_ - from_) why_ = "the new server sends it in another form";
  return why_.empty() ? Verdict::right : Verdict::wrong;
}

Plan plan(const Progress& p, const Offsets& at) {
  using What = Plan::What;
  using Stage = Progress::Stage;
  constexpr const char* kUnknownPlace = "it was answered after the last checkpoint";
  const bool lost = at.received != at.input;  // bytes of the client's that nobody has any more
  if (p.stage == Stage::unknown) return end(What::reset, "its bytes are not followed");
  if (at.received < at.input) return end(What::reset, "its offsets contradict each other");
  if (p.stage == Stage::between) {
    if (at.sent != at.output) return end(What::reset, kUnknownPlace);
    if (lost) return end(What::refuse, "a request that was not saved");
    return {at.sent == 0 && at.received == 0 ? What::begin : What::wait};
  }
  int64_t received = 0;  // of this answer, by the client
  if (__builtin_add_overflow(p.passed, static_cast<int64_t>(at.sent - at.output), &received)) return end(What::reset, "its offsets contradict each other");
  if (received < 0) return end(What::close, "the end of an earlier answer is missing");
  const auto has = static_cast<uint64_t>(received);
  const auto length = length_of(p);
  if (length && has == *length) {
    if (p.stage == Stage::tangled) return end(What::close, "what it sent ahead is lost");
    if (lost) return end(What::refuse, "a request that was not saved");
    return {What::wait};
  }
  if (has == 0) {
    if (lost || p.stage == Stage::tangled) return end(What::refuse, "a request that was not saved");
    if (p.request.empty()) return end(What::refuse, "a request with content, or a long one");
    if (!is_idempotent(method_of(p.request))) return end(What::refuse, "a request that may count twice");
    return {What::repeat};
  }
  if (!length && (p.answer.empty() || lost || p.stage == Stage::tangled)) return end(What::reset, kUnknownPlace);
  if (length && has > *length) return end(What::reset, kUnknownPlace);
  if (lost || p.stage == Stage::tangled) return end(What::close, "what it sent ahead is lost");
  auto rest = Rest::of(p.request, p.answer, has < p.answer.size() ? 0 : has - p.answer.size());
  if (!rest) return end(What::close, "an answer that cannot be had in part");
  Plan plan{What::resume};
  if (has < p.answer.size()) plan.owed = std::string_view(p.answer).substr(has);
  plan.rest = std::move(rest);
  return plan;
}

}  // namespace gecko::proxy
