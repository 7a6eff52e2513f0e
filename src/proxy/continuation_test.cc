#include "proxy/continuation.hh"

#include <gtest/gtest.h>

#include <random>

#include "proxy/http_boundary.hh"

namespace gecko::proxy {
namespace {

using Stage = Progress::Stage;
using What = Plan::What;

const std::string kGet = "GET /film HTTP/1.1\r\nHost: a\r\nRange: bytes=5-\r\nIf-None-Match: \"old\"\r\nAccept: */*\r\n\r\n";
const std::string kPost = "POST /film HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
std::string ok(const std::string& fields) { return "HTTP/1.1 200 OK\r\n" + fields + "\r\n"; }
const std::string kOk = ok("Content-Length: 1000\r\nETag: \"v1\"\r\n");

// One request with its answer on the way; so much of it had been written to the client when the checkpoint was made.
Progress exchange(const std::string& request, const std::string& answer, int64_t passed) {
  Progress p;
  p.stage = Stage::exchange;
  p.request = request;
  p.answer = answer;
  p.answer_bytes = passed < 0 ? 0 : static_cast<uint64_t>(passed);
  p.passed = passed;
  return p;
}
// The client has received `more` of it since; nothing of what it sent is lost.
Offsets later(int64_t more) { return {500, 10'000, 500, 10'000 + static_cast<uint64_t>(more)}; }
Offsets lost(int64_t more) { return {500, 10'000, 501, 10'000 + static_cast<uint64_t>(more)}; }

TEST(ProxyPlan, BetweenRequestsItGoesOn) {
  Progress p;
  EXPECT_EQ(plan(p, later(0)).what, What::wait);
  EXPECT_EQ(plan(p, {}).what, What::begin);
  EXPECT_EQ(plan(p, lost(0)).what, What::refuse) << "a request that nobody has";
  EXPECT_EQ(plan(p, {0, 0, 1, 0}).what, What::refuse);
  EXPECT_EQ(plan(p, later(7)).what, What::reset) << "nobody knows what the client has had";
  EXPECT_EQ(plan(p, lost(7)).what, What::reset);
  EXPECT_EQ(plan(p, {500, 10'000, 499, 10'000}).what, What::reset);
  // Just arrived by a handoff, with an answer under way to the client of which nothing is known here.
  p.stage = Stage::exchange;
  p.whole = true;
  EXPECT_EQ(plan(p, later(0)).what, What::wait);
  EXPECT_EQ(plan(p, later(-1)).what, What::close);
}

TEST(ProxyPlan, BytesThatNobodyFollows) {
  Progress p;
  p.stage = Stage::unknown;
  EXPECT_EQ(plan(p, later(0)).what, What::reset);
  EXPECT_EQ(plan(p, {}).what, What::reset);
}

TEST(ProxyPlan, WithoutAByteOfTheAnswer) {
  for (const char* method : {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
    EXPECT_EQ(plan(exchange(std::string(method) + " / HTTP/1.1\r\nHost: a\r\n\r\n", "", 0), later(0)).what, What::repeat) << method;
  for (const char* method : {"POST", "PATCH", "GETX", "get", "LOCK"})
    EXPECT_EQ(plan(exchange(std::string(method) + " / HTTP/1.1\r\nHost: a\r\n\r\n", "", 0), later(0)).what, What::refuse) << method;
  EXPECT_EQ(plan(exchange("", "", 0), later(0)).what, What::refuse) << "with content, or too long";
  EXPECT_EQ(plan(exchange(kGet, "", 0), lost(0)).what, What::refuse) << "more came, and is lost";
  EXPECT_EQ(plan(exchange(kGet, kOk, 300), later(-300)).what, What::repeat) << "written, but the client has not received it";
  auto tangled = exchange(kGet, "", 0);
  tangled.stage = Stage::tangled;
  EXPECT_EQ(plan(tangled, later(0)).what, What::refuse);
}

TEST(ProxyPlan, TheEndOfTheAnswerBeforeIsMissing) { EXPECT_EQ(plan(exchange(kGet, "", -20), later(19)).what, What::close); }

TEST(ProxyPlan, InTheMiddleOfAnAnswer) {
  const auto head = static_cast<int64_t>(kOk.size());
  for (const int64_t at : {int64_t{0}, int64_t{1}, int64_t{999}}) {
    const auto p = exchange(kGet, kOk, head);
    const auto plan = proxy::plan(p, later(at));
    ASSERT_EQ(plan.what, What::resume) << at;
    EXPECT_TRUE(plan.owed.empty());
    EXPECT_EQ(plan.rest->from(), static_cast<uint64_t>(at));
    EXPECT_EQ(plan.rest->request(),
              "GET /film HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nRange: bytes=" + std::to_string(at) + "-\r\nIf-Range: \"v1\"\r\n\r\n");
  }
  const auto p = exchange(kGet, kOk, head);
  const auto in_head = proxy::plan(p, later(-10));
  ASSERT_EQ(in_head.what, What::resume);
  EXPECT_EQ(in_head.owed, kOk.substr(kOk.size() - 10));
  EXPECT_EQ(in_head.rest->from(), 0u);
  EXPECT_EQ(proxy::plan(p, later(1000)).what, What::wait) << "it has all";
  EXPECT_EQ(proxy::plan(p, lost(1000)).what, What::refuse) << "it has all, and has asked again";
  EXPECT_EQ(proxy::plan(p, later(1001)).what, What::reset);
  EXPECT_EQ(proxy::plan(p, lost(500)).what, What::close);
  auto tangled = p;
  tangled.stage = Stage::tangled;
  EXPECT_EQ(proxy::plan(tangled, later(500)).what, What::close);
  EXPECT_EQ(proxy::plan(tangled, later(1000)).what, What::close) << "what it has sent ahead is lost";
  EXPECT_EQ(proxy::plan(exchange("", kOk, head), later(1)).what, What::close);
  EXPECT_EQ(proxy::plan(exchange(kPost, kOk, head), later(1)).what, What::close);
}

TEST(ProxyPlan, AnswersThatCannotBeHadInPart) {
  for (const std::string& answer :
       {ok("Content-Length: 1000\r\n"), ok("Content-Length: 1000\r\nETag: W/\"v1\"\r\n"), ok("Content-Length: 1000\r\nETag: v1\r\n"),
        ok("Content-Length: 1000\r\nETag: \"a\"\r\nETag: \"b\"\r\n"), ok("Content-Length: 1000\r\nETag: \"a\", \"b\"\r\n"),
        ok("Transfer-Encoding: chunked\r\nETag: \"v1\"\r\n"), ok("Content-Length: 1000\r\nETag: \"v1\"\r\nContent-Encoding: gzip\r\n"),
        std::string("HTTP/1.1 206 Partial Content\r\nContent-Length: 1000\r\nETag: \"v1\"\r\n\r\n"),
        std::string("HTTP/1.1 404 Not Found\r\nContent-Length: 1000\r\nETag: \"v1\"\r\n\r\n")})
    EXPECT_EQ(plan(exchange(kGet, answer, static_cast<int64_t>(answer.size())), later(100)).what, What::close) << answer;
}

// After an answer whose end is not known there may be another, and it may be one that ends with the connection: a close would look like its end.
TEST(ProxyPlan, WhereAnEndWouldLookLikeAnEndItIsAReset) {
  const std::string chunked = ok("Transfer-Encoding: chunked\r\n");
  auto p = exchange(kGet, chunked, static_cast<int64_t>(chunked.size()));
  EXPECT_EQ(plan(p, later(5)).what, What::close);
  EXPECT_EQ(plan(p, lost(5)).what, What::reset);
  p.stage = Stage::tangled;
  EXPECT_EQ(plan(p, later(5)).what, What::reset);
  EXPECT_EQ(plan(exchange(kGet, "", 0), later(5)).what, What::reset) << "it began after the checkpoint";
}

TEST(ProxyPlan, LengthsOfAnswers) {
  const std::string none = "HTTP/1.1 204 No Content\r\nETag: \"x\"\r\n\r\n", same = "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n";
  const std::string head_request = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
  EXPECT_EQ(plan(exchange(kGet, none, 0), later(static_cast<int64_t>(none.size()))).what, What::wait);
  EXPECT_EQ(plan(exchange(kGet, same, 0), later(static_cast<int64_t>(same.size()))).what, What::wait);
  EXPECT_EQ(plan(exchange(head_request, kOk, 0), later(static_cast<int64_t>(kOk.size()))).what, What::wait);
  EXPECT_EQ(plan(exchange(head_request, kOk, 0), later(3)).what, What::close);
  const std::string chunked = ok("Transfer-Encoding: chunked\r\n");
  auto whole = exchange(kPost, chunked, 300);  // of 400
  whole.whole = true;
  whole.answer_bytes = 400;
  EXPECT_EQ(plan(whole, later(100)).what, What::wait);
  EXPECT_EQ(plan(whole, later(99)).what, What::close);
  whole.answer.clear();  // its head was too long to be kept
  EXPECT_EQ(plan(whole, later(100)).what, What::wait);
  EXPECT_EQ(plan(whole, later(99)).what, What::close);
}

// --- the new server's answer

const std::string kRest =
    "HTTP/1.1 206 Partial Content\r\nDate: x\r\nContent-Length: 900\r\netag: \"v1\"\r\nContent-Range: bytes 100-999/1000\r\n\r\n";

std::string said(const std::string& head) {
  auto rest = Rest::of(kGet, kOk, 100);
  size_t used = 0;
  return rest->feed(head, used) == Rest::Verdict::wrong ? rest->why() : "";
}
std::string with(std::string head, const std::string& what, const std::string& by) { return head.replace(head.find(what), what.size(), by); }

TEST(ProxyRest, TheRightOneInAnyPieces) {
  for (size_t cut = 0; cut <= kRest.size(); ++cut) {
    auto rest = Rest::of(kGet, kOk, 100);
    ASSERT_TRUE(rest);
    size_t used = 0;
    const std::string bytes = kRest + "\r\n\r\ncontent";
    if (cut < kRest.size()) {
      EXPECT_EQ(rest->feed(bytes.substr(0, cut), used), Rest::Verdict::more);
      EXPECT_EQ(used, cut);
    }
    EXPECT_EQ(rest->feed(cut < kRest.size() ? bytes.substr(cut) : bytes, used), Rest::Verdict::right) << rest->why();
    EXPECT_EQ(used, cut < kRest.size() ? kRest.size() - cut : kRest.size());
  }
}

TEST(ProxyRest, EveryOtherIsRefused) {
  EXPECT_EQ(said(kRest), "");
  EXPECT_NE(said(with(kRest, "206", "200")), "");
  EXPECT_NE(said(with(kRest, "HTTP/1.1 206", "HTTP/1.0 206")), "");
  EXPECT_NE(said("HTTP/1.1 100 Continue\r\n\r\n" + kRest), "");
  EXPECT_NE(said(with(kRest, "\"v1\"", "\"v2\"")), "");
  EXPECT_NE(said(with(kRest, "\"v1\"", "W/\"v1\"")), "");
  EXPECT_NE(said(with(kRest, "etag: \"v1\"\r\n", "")), "");
  EXPECT_NE(said(with(kRest, "etag: \"v1\"\r\n", "etag: \"v1\"\r\netag: \"v1\"\r\n")), "");
  for (const char* range :
       {"bytes 99-999/1000", "bytes 101-999/1000", "bytes 100-998/1000", "bytes 100-999/1001", "bytes 100-999/*", "items 100-999/1000"})
    EXPECT_NE(said(with(kRest, "bytes 100-999/1000", range)), "") << range;
  EXPECT_NE(said(with(kRest, "Content-Range: bytes 100-999/1000\r\n", "")), "");
  EXPECT_NE(said(with(kRest, "900", "899")), "");
  EXPECT_NE(said(with(kRest, "Content-Length: 900", "Transfer-Encoding: chunked")), "");
  EXPECT_NE(said(with(kRest, "Date: x", "Transfer-Encoding: chunked")), "");
  EXPECT_NE(said(with(kRest, "Date: x", "Content-Encoding: gzip")), "");
  EXPECT_NE(said(with(kRest, "Date: x", "X: " + std::string(HttpBoundary::kMaxKept, 'x'))), "");
  EXPECT_NE(said(std::string(HttpBoundary::kMaxKept + 1, 'x')), "");
}

// --- on its way

TEST(ProxyProgress, RoundTripAndRefusals) {
  Progress p = exchange(kGet, kOk, -5);
  p.whole = true;
  p.answered = 0x1234567890;
  p.answer_bytes = 1 << 30;
  const auto bytes = pack(p);
  const auto back = unpack_progress(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->stage, p.stage);
  EXPECT_EQ(back->whole, p.whole);
  EXPECT_EQ(back->answered, p.answered);
  EXPECT_EQ(back->answer_bytes, p.answer_bytes);
  EXPECT_EQ(back->passed, p.passed);
  EXPECT_EQ(back->request, p.request);
  EXPECT_EQ(back->answer, p.answer);
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(unpack_progress({bytes.data(), n}));
  auto longer = bytes;
  longer.push_back(0);
  EXPECT_FALSE(unpack_progress(longer));
  for (const size_t i : {0, 1, 2, 3}) {
    auto other = bytes;
    other[i] ^= 1;
    EXPECT_FALSE(unpack_progress(other));
  }
  EXPECT_LE(pack(Progress{}).size(), 16u) << "an idle client costs hardly anything";
  EXPECT_TRUE(unpack_progress(pack(Progress{})));
}

// Whatever comes: no crash, and what is understood is understood again.
TEST(ProxyProgress, AnyBytes) {
  std::mt19937 random(1);
  const auto good = pack(exchange(kGet, kOk, 77));
  for (int i = 0; i < 20'000; ++i) {
    auto bytes = good;
    for (int n = static_cast<int>(random() % 4); n >= 0; --n) bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
    const auto p = unpack_progress(bytes);
    if (!p) continue;
    EXPECT_EQ(pack(*p), bytes);
    (void)plan(*p, {random() % 3, random() % 2000, random() % 3, random() % 2000});
  }
}

// --- what is kept of the bytes that pass by

using Side = HttpBoundary::Side;

TEST(ProxyHeads, OfTheExchangeThatIsUnderWay) {
  HttpBoundary http(64 << 10, true);
  http.feed(Side::request, kGet.substr(0, 30));
  EXPECT_TRUE(http.request_head().empty());
  EXPECT_FALSE(http.one_outstanding());
  http.feed(Side::request, kGet.substr(30));
  EXPECT_EQ(http.request_head(), kGet);
  EXPECT_TRUE(http.one_outstanding());
  const auto changes = http.changes();
  http.feed(Side::response, kOk.substr(0, 20));
  EXPECT_EQ(http.changes(), changes);
  EXPECT_TRUE(http.answer_head().empty());
  EXPECT_EQ(http.answer_bytes(), 20u);
  http.feed(Side::response, kOk.substr(20) + "0123");
  EXPECT_NE(http.changes(), changes);
  EXPECT_EQ(http.answer_head(), kOk);
  http.skip(Side::response, 996);
  EXPECT_TRUE(http.at_boundary());
  EXPECT_EQ(http.answer_bytes(), kOk.size() + 1000);
  EXPECT_EQ(http.answer_head(), kOk) << "it may still be under way to the client";
  http.feed(Side::request, kGet);
  EXPECT_EQ(http.answer_bytes(), 0u);
  EXPECT_TRUE(http.answer_head().empty());
}

TEST(ProxyHeads, HintsBeforeAnAnswerAreNotTheAnswer) {
  HttpBoundary http(64 << 10, true);
  http.feed(Side::request, kGet);
  http.feed(Side::response, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
  EXPECT_EQ(http.answer_bytes(), 0u);
  EXPECT_TRUE(http.answer_head().empty());
  http.feed(Side::response, kOk);
  EXPECT_EQ(http.answer_head(), kOk);
}

TEST(ProxyHeads, NotOfRequestsWithContentNorLongOnes) {
  HttpBoundary http(64 << 10, true);
  http.feed(Side::request, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
  EXPECT_TRUE(http.one_outstanding());
  EXPECT_TRUE(http.request_head().empty());
  http.feed(Side::response, ok("X: " + std::string(HttpBoundary::kMaxKept, 'x') + "\r\nContent-Length: 0\r\n"));
  EXPECT_TRUE(http.at_boundary());
  EXPECT_TRUE(http.answer_head().empty());
  http.feed(Side::request, kPost);
  EXPECT_EQ(http.request_head(), kPost) << "no content after all";
  http.feed(Side::request, kGet);
  EXPECT_FALSE(http.one_outstanding()) << "two";
}

TEST(ProxyHeads, NothingWhereNobodyAsks) {
  HttpBoundary http(64 << 10);
  http.feed(Side::request, kGet);
  EXPECT_TRUE(http.request_head().empty());
}

}  // namespace
}  // namespace gecko::proxy
