#include "proxy/baggage.hh"

#include <gtest/gtest.h>

#include "proxy/proxy_header.hh"

namespace gecko::proxy {
namespace {

TEST(Baggage, RoundTripAndRefusals) {
  const auto bytes = pack({0x1234567890abcdef, 2});
  const auto back = unpack(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->answered, 0x1234567890abcdefu);
  EXPECT_EQ(back->detours, 2);
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(unpack({bytes.data(), n}));
  auto longer = bytes;
  longer.push_back(0);
  EXPECT_FALSE(unpack(longer));
  for (const size_t i : {0, 1, 2, 3}) {
    auto other = bytes;
    other[i] ^= 1;
    EXPECT_FALSE(unpack(other));
  }
}

TEST(ProxyHeader, Ipv6AndIpv4) {
  const Flow six{*Endpoint::parse("[2001:db8::80]:443"), *Endpoint::parse("[2001:db8:c::7]:4711")};
  const auto a = proxy_header(six);
  ASSERT_EQ(a.size(), 52u);
  EXPECT_EQ(a.substr(0, 12), std::string("\r\n\r\n\0\r\nQUIT\n", 12));
  EXPECT_EQ(a.substr(12, 4), std::string("\x21\x21\x00\x24", 4));
  EXPECT_EQ(a.substr(16, 4), "\x20\x01\x0d\xb8");
  EXPECT_EQ(a[31], 7);
  EXPECT_EQ(a.substr(48), std::string("\x12\x67\x01\xbb", 4));
  const Flow four{*Endpoint::parse("192.0.2.80:443"), *Endpoint::parse("198.51.100.7:4711")};
  const auto b = proxy_header(four);
  EXPECT_EQ(b.substr(12), std::string("\x21\x11\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x50\x12\x67\x01\xbb", 16));
}

}  // namespace
}  // namespace gecko::proxy
