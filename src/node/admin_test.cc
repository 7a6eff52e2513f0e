#include "node/admin.hh"

#include <gtest/gtest.h>

#include "wire/api.hh"

namespace gecko::node {
namespace {

TEST(Admin, AnAnswerTooLongForAMessageBecomesAnError) {
  const std::string fits(wire::kMaxJson, ' ');
  EXPECT_EQ(fitting(fits), fits);
  const std::string error = fitting(fits + ' ');
  EXPECT_NE(error.find("gecko.error/1"), std::string::npos);
  EXPECT_NE(error.find("16777217 bytes"), std::string::npos) << error;
}

}  // namespace
}  // namespace gecko::node
