#include "base/identity.hh"

#include <gtest/gtest.h>

namespace gecko {
namespace {

TEST(Identity, RoundTrip) {
  for (const char* uri : {"gecko://web/node/n1", "gecko://web/ca", "gecko://0/node/0-0"}) {
    const auto identity = Identity::parse(uri);
    ASSERT_TRUE(identity) << uri;
    EXPECT_EQ(identity->uri(), uri);
  }
  EXPECT_TRUE(Identity::parse("gecko://web/ca")->is_authority());
  EXPECT_EQ(Identity::parse("gecko://web/node/ca")->node, "ca");
}

TEST(Identity, NothingElseIsAccepted) {
  const std::string zero("gecko://web/node/n1\0", 20), zero_inside("gecko://we\0b/node/n1", 20);
  for (const std::string& uri :
       {std::string(), std::string("gecko://"), std::string("gecko://web"), std::string("gecko://web/"), std::string("gecko:///node/n1"),
        std::string("gecko://web/node/"), std::string("gecko://web/node/n1/"), std::string("gecko://web/node/n1/x"), std::string("gecko://web/ca/"),
        std::string("gecko://Web/node/n1"), std::string("GECKO://web/node/n1"), std::string("gecko://web/node/n1?x"),
        std::string("gecko://web/node/-n1"), std::string("https://web/node/n1"), std::string(" gecko://web/node/n1"),
        std::string("gecko://u@web/node/n1"), zero, zero_inside})
    EXPECT_FALSE(Identity::parse(uri)) << uri;
}

TEST(Identity, Names) {
  EXPECT_TRUE(valid_name("n1") && valid_name("0-a") && valid_name(std::string(63, 'a')));
  EXPECT_FALSE(valid_name("") || valid_name("-a") || valid_name("A") || valid_name("a_b") || valid_name(std::string(64, 'a')));
}

}  // namespace
}  // namespace gecko
