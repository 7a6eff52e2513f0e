#include "core/contact.hh"

#include <gtest/gtest.h>

namespace gecko::core {
namespace {

TEST(Contact, TheFirstThatIsUp) {
  ContactChoice c(2, {1, 3, 2});
  EXPECT_EQ(c.contact(), 2);
  EXPECT_TRUE(c.is_self());
  c.up(3);
  EXPECT_EQ(c.contact(), 3);
  c.up(1);
  EXPECT_EQ(c.contact(), 1);
  c.down(1);
  EXPECT_EQ(c.contact(), 3);
  c.down(2);  // oneself is always up
  c.down(3);
  EXPECT_EQ(c.contact(), 2);
}

TEST(Contact, NobodyMayBe) {
  ContactChoice c(5, {1, 2});
  EXPECT_FALSE(c.contact());
  EXPECT_FALSE(c.is_self());
  c.up(2);
  EXPECT_EQ(c.contact(), 2);
}

TEST(Contact, AnAppointmentWinsWhileItsNodeIsUp) {
  ContactChoice c(1, {1, 2, 3});
  EXPECT_FALSE(c.appointment());
  const auto message = c.appoint(3);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->term, 1u);
  EXPECT_EQ(c.contact(), 1);  // not up yet
  c.up(3);
  EXPECT_EQ(c.contact(), 3);
  c.down(3);
  EXPECT_EQ(c.contact(), 1);
  EXPECT_EQ(c.appointment()->node, 3);
  EXPECT_EQ(c.appoint(4).error().code, Errc::invalid);
}

TEST(Contact, TheHighestTermWins) {
  ContactChoice c(1, {1, 2, 3});
  c.up(2);
  c.up(3);
  EXPECT_TRUE(c.hear({2, 5}));
  EXPECT_FALSE(c.hear({2, 5}));
  EXPECT_FALSE(c.hear({3, 4}));
  EXPECT_EQ(c.contact(), 2);
  EXPECT_TRUE(c.hear({3, 5}));   // the same term: the higher node
  EXPECT_FALSE(c.hear({2, 5}));
  EXPECT_FALSE(c.hear({9, 99}));  // may not be contact
  EXPECT_FALSE(c.hear({3, 0}));
  EXPECT_EQ(c.contact(), 3);
  EXPECT_EQ(c.appoint(1)->term, 6u);
  EXPECT_EQ(c.contact(), 1);
}

TEST(Contact, TheLastTerm) {
  ContactChoice c(1, {1, 2});
  EXPECT_TRUE(c.hear({2, UINT64_MAX}));
  EXPECT_EQ(c.appoint(1).error().code, Errc::limit);
}

}  // namespace
}  // namespace gecko::core
