#include "proxy/http_boundary.hh"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "proxy/test_corpus.hh"

namespace gecko::proxy {
namespace {

using Side = HttpBoundary::Side;
using namespace test;
HttpBoundary whole(const Exchange& e) {
  HttpBoundary http(kMaxHead);
  EXPECT_EQ(http.feed(Side::request, e.request), e.request.size());
  EXPECT_EQ(http.feed(Side::response, e.response), e.response.size());
  return http;
}

TEST(HttpBoundary, UnderstandsWhatEveryServerReadsAlike) {
  for (const auto& e : understood()) {
    const auto http = whole(e);
    EXPECT_TRUE(http.known()) << e.name << ": " << http.reason();
    EXPECT_TRUE(http.at_boundary()) << e.name;
    EXPECT_FALSE(http.fresh());
  }
}

TEST(HttpBoundary, KnowsNothingAfterAnythingElse) {
  for (const auto& e : not_understood()) {
    const auto http = whole(e);
    EXPECT_FALSE(http.known()) << e.name;
    EXPECT_FALSE(http.at_boundary()) << e.name;
    const std::string wanted = e.reason;
    const auto bar = wanted.find('|');
    EXPECT_TRUE(http.reason().find(wanted.substr(0, bar)) != std::string::npos ||
                (bar != std::string::npos && http.reason().find(wanted.substr(bar + 1)) != std::string::npos))
        << e.name << ": " << http.reason();
  }
}

TEST(HttpBoundary, NoPrefixIsABoundary) {
  for (const auto& e : understood()) {
    if (std::string(e.name) == "pipelined") continue;
    for (size_t n = 1; n < e.request.size(); ++n) {
      HttpBoundary http(kMaxHead);
      http.feed(Side::request, e.request.substr(0, n));
      EXPECT_FALSE(http.at_boundary()) << e.name << " " << n;
    }
    for (size_t n = 0; n < e.response.size(); ++n) {
      HttpBoundary http(kMaxHead);
      http.feed(Side::request, e.request);
      http.feed(Side::response, e.response.substr(0, n));
      EXPECT_FALSE(http.at_boundary()) << e.name << " " << n;
    }
  }
}

// However the bytes are cut, with contents seen or skipped: the same facts.
TEST(HttpBoundary, PiecesDoNotMatter) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    for (const auto* list : {&understood(), &not_understood()}) {
      for (const auto& e : *list) {
        const auto once = whole(e);
        HttpBoundary http(kMaxHead);
        for (const Side side : {Side::request, Side::response}) {
          std::string_view left = side == Side::request ? e.request : e.response;
          while (!left.empty()) {
            size_t n = 1 + random() % std::min<size_t>(left.size(), 1u << (random() % 8));
            const uint64_t sure = http.content_ahead(side);
            if (sure != 0 && random() % 2 == 0) {
              n = static_cast<size_t>(std::min<uint64_t>(n, sure));
              http.skip(side, n);
            } else {
              http.feed(side, left.substr(0, n));
            }
            left.remove_prefix(n);
          }
        }
        EXPECT_EQ(http.reason(), once.reason()) << e.name;
        EXPECT_EQ(http.at_boundary(), once.at_boundary()) << e.name;
        EXPECT_EQ(http.answered(), once.answered()) << e.name;
      }
    }
  }
}

TEST(HttpBoundary, OneMessageAtATime) {
  HttpBoundary http(kMaxHead);
  const std::string two = post("Content-Length: 5\r\n", "hello") + kGet;
  EXPECT_EQ(http.feed(Side::request, two.substr(0, 10), true), 10u);
  EXPECT_EQ(http.feed(Side::request, two.substr(10), true), two.size() - kGet.size() - 10);
  EXPECT_EQ(http.feed(Side::request, kGet, true), 0u) << "an answer is missing";
  http.feed(Side::response, kOk);
  EXPECT_TRUE(http.at_boundary());
  EXPECT_EQ(http.feed(Side::request, kGet + kGet, true), kGet.size());
}

TEST(HttpBoundary, AnswerBeforeTheRequestHasEnded) {
  HttpBoundary http(kMaxHead);
  http.feed(Side::request, post("Content-Length: 5\r\n", "he"));
  http.feed(Side::response, answer("413 Too Large", "Content-Length: 0\r\n"));
  EXPECT_TRUE(http.known());
  EXPECT_FALSE(http.at_boundary());
  http.feed(Side::request, "llo");
  EXPECT_TRUE(http.at_boundary());
}

TEST(HttpBoundary, TooManyRequestsAhead) {
  HttpBoundary http(kMaxHead);
  for (size_t i = 0; i < HttpBoundary::kMaxAhead; ++i) http.feed(Side::request, kGet);
  EXPECT_TRUE(http.known());
  EXPECT_EQ(http.ahead(), HttpBoundary::kMaxAhead);
  http.feed(Side::request, kGet);
  EXPECT_FALSE(http.known());
}

TEST(HttpBoundary, LongLivedPipelinesTakeNoMemory) {
  HttpBoundary http(kMaxHead);
  http.feed(Side::request, kGet);
  for (int i = 0; i < 100000; ++i) {   // never idle
    http.feed(Side::request, kGet);
    http.feed(Side::response, kOk);
    ASSERT_FALSE(http.at_boundary());
  }
  http.feed(Side::response, kOk);
  EXPECT_TRUE(http.at_boundary());
  EXPECT_EQ(http.answered(), 100001u);
}

}  // namespace
}  // namespace gecko::proxy
