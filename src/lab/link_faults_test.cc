#include "lab/link_faults.hh"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gecko::lab {
namespace {

using testing::HasSubstr;

TEST(LinkFaults, TimesAndSharesAsPeopleWriteThem) {
  for (const auto& [text, us] : std::initializer_list<std::pair<const char*, uint32_t>>{
           {"20ms", 20'000}, {"1.5ms", 1'500}, {"300us", 300}, {"1s", 1'000'000}, {"10s", 10'000'000}, {"0ms", 0}, {"0.4us", 0}})
    EXPECT_EQ(parse_link_time(text).value_or(1), us) << text;
  for (const auto& [text, ppm] :
       std::initializer_list<std::pair<const char*, uint32_t>>{{"1%", 10'000}, {"0.05%", 500}, {"100%", 1'000'000}, {"0%", 0}, {"33.3333%", 333'333}})
    EXPECT_EQ(parse_share(text).value_or(1), ppm) << text;
}

TEST(LinkFaults, WhatIsWrongIsSaid) {
  const auto time_error = [](const char* text) { return parse_link_time(text) ? std::string("accepted") : parse_link_time(text).error().message; };
  const auto share_error = [](const char* text) { return parse_share(text) ? std::string("accepted") : parse_share(text).error().message; };
  EXPECT_THAT(time_error("20"), HasSubstr("'20' has no unit"));
  EXPECT_THAT(share_error("0.01"), HasSubstr("'0.01' has no unit: a share is written 1%"));
  EXPECT_THAT(time_error("11s"), HasSubstr("at most 10s"));
  EXPECT_THAT(time_error("99999999999999999999999s"), HasSubstr("at most 10s"));
  EXPECT_THAT(share_error("100.1%"), HasSubstr("at most 100%"));
  for (const char* text : {"", "ms", "-1ms", "nan ms", "inf", "nanms", "1 ms", "1ms ", "1m", "1h", "1e3ms", "0x10ms", "20%", ".5ms"})
    EXPECT_THAT(time_error(text), HasSubstr("is no time")) << text;
  for (const char* text : {"", "%", "-1%", "1ms", "1%%"}) EXPECT_THAT(share_error(text), HasSubstr("is no share")) << text;
}

TEST(LinkFaults, BeyondItsLimitIsRefused) {
  EXPECT_TRUE(check_faults({.delay_us = kMaxLinkTime_us, .jitter_us = kMaxLinkTime_us, .loss_ppm = kMillion}));
  EXPECT_THAT(check_faults({.delay_us = kMaxLinkTime_us + 1}).error().message, HasSubstr("delay"));
  EXPECT_THAT(check_faults({.jitter_us = UINT32_MAX}).error().message, HasSubstr("jitter"));
  EXPECT_THAT(check_faults({.corrupt_ppm = kMillion + 1}).error().message, HasSubstr("corrupt of 100.0001%"));
}

TEST(LinkFaults, TextSaysWhatIsSet) {
  EXPECT_EQ(text_of(LinkFaults{}), "0ms, seed 1");
  EXPECT_EQ(text_of(LinkFaults{.delay_us = 20'000, .jitter_us = 1'500, .loss_ppm = 10'000, .seed = 7}), "20ms, jitter 1.5ms, loss 1%, seed 7");
  EXPECT_EQ(text_of(LinkFaults{.delay_us = 300, .duplicate_ppm = 500, .reorder_ppm = 1'000'000, .corrupt_ppm = 1}),
            "300us, duplicate 0.05%, reorder 100%, corrupt 0.0001%, seed 1");
  EXPECT_EQ(time_text(9'999'999), "9999.999ms");
}

}  // namespace
}  // namespace gecko::lab
