#include <gecko/gecko.hh>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>

#include "api/test_group.hh"

namespace gecko::test {
namespace {

TEST(Framework, SaysWhatToDoWhenGeckodIsNotRunning) {
  Framework::Options options;
  options.daemon = "/nonexistent/geckod.sock";
  const auto framework = Framework::open("web", options);
  ASSERT_FALSE(framework);
  EXPECT_EQ(framework.error().code, Errc::unavailable);
  EXPECT_THAT(framework.error().message, testing::HasSubstr("geckod is not running at /nonexistent/geckod.sock"));
  EXPECT_THAT(framework.error().message, testing::HasSubstr("GECKO_SOCKET"));
}

TEST(Framework, JoinsAndKnowsItsGroup) {
  Group group;
  Framework fw = group.join("n1");
  EXPECT_EQ(fw.node(), "n1");
  EXPECT_EQ(fw.address(), "::1");
  EXPECT_EQ(fw.group(), "web");
  EXPECT_EQ(fw.ports(), std::vector<uint16_t>{80});
  const auto members = fw.members();
  ASSERT_TRUE(members) << members.error().message;
  ASSERT_EQ(members->size(), 1u);
  EXPECT_TRUE(members->front().self);
}

TEST(Framework, EchoesAndHandsOffWaitingForTheOutcome) {
  Group group;
  Framework one = group.join("n1"), two = group.join("n2");
  ServerSocket server = group.listen(one), other = group.listen(two);
  Client client(server.port());
  auto here = server.accept();
  ASSERT_TRUE(here) << here.error().message;
  client.send("hello");
  EXPECT_EQ(read_some(*here), "hello");
  ASSERT_TRUE(here->write("world"));
  EXPECT_EQ(client.receive(5), "world");
  const std::string id = here->id();
  ASSERT_TRUE(here->set_state(std::vector<uint8_t>{1, 2, 3}));
  client.send("unread");
  const auto moved = here->handoff("n2");
  ASSERT_TRUE(moved) << moved.error().message;
  char byte = 0;
  EXPECT_EQ(here->read(&byte, 1).error().code, Errc::moved);
  EXPECT_EQ(here->write("x").error().code, Errc::moved);
  auto there = other.accept();
  ASSERT_TRUE(there) << there.error().message;
  EXPECT_EQ(there->id(), id);
  EXPECT_EQ(there->from(), "n1");
  EXPECT_EQ(there->state(), (std::vector<uint8_t>{1, 2, 3}));
  EXPECT_EQ(there->peer_name(), client.name());
  EXPECT_EQ(read_some(*there), "unread");
  here->close();
  ASSERT_TRUE(there->write("still here"));
  EXPECT_EQ(client.receive(10), "still here");
}

}  // namespace
}  // namespace gecko::test
