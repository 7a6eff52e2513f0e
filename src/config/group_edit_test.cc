#include "config/group_edit.hh"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace gecko::config {
namespace {

using testing::HasSubstr;

constexpr const char* kFile = R"(# the shop
[group]
name = "web"          # not the other one
address = "2001:db8::80"
ports = [80]

[[node]]
name = "n1"
address = "fd00::1"   # rack 3
[[node]]
address = "fd00::2"
name = "n2"   # rack 4
weight = 2
[[node]]
name = "n3"
address = "fd00::3")";   // no line end

Node node(const char* name, const char* address) {
  Node n;
  n.name = name;
  n.address = *Address::parse(address);
  return n;
}

TEST(GroupEdit, ANodeMoreIsTheLastOneAndNothingElseChanges) {
  std::string text = kFile;
  const auto changed = with_node(text.erase(text.find("weight = 2\n"), 11), "web.toml", node("n4", "fd00::4"));
  ASSERT_TRUE(changed) << changed.error().message;
  EXPECT_EQ(*changed, text + "\n\n[[node]]\nname = \"n4\"\naddress = \"fd00::4\"\n");
  const auto group = parse_group(*changed, "web.toml");
  ASSERT_TRUE(group);
  EXPECT_EQ(group->index_of("n4"), 3);
  EXPECT_EQ(group->contact.back(), "n4");
  Node odd = node("n5", "fd00::5");
  odd.link_port = 7000;
  const auto more = with_node(*changed, "web.toml", odd);
  ASSERT_TRUE(more) << more.error().message;
  EXPECT_THAT(*more, testing::EndsWith("address = \"fd00::5\"\nport = 7000\n"));
}

TEST(GroupEdit, AWitnessIsAddedAsOneAndOnlyOne) {
  std::string text = kFile;
  text.erase(text.find("weight = 2\n"), 11);
  Node w = node("w", "fd00::9");
  w.witness = true;
  const auto changed = with_node(text, "web.toml", w);
  ASSERT_TRUE(changed) << changed.error().message;
  EXPECT_EQ(*changed, text + "\n\n[[node]]\nname = \"w\"\naddress = \"fd00::9\"\nwitness = true\n");
  const auto group = parse_group(*changed, "web.toml");
  ASSERT_TRUE(group && group->witness() != nullptr);
  EXPECT_EQ(group->witness()->name, "w");
  EXPECT_EQ(group->contact, (std::vector<std::string>{"n1", "n2", "n3"}));
  Node second = node("v", "fd00::8");
  second.witness = true;
  const auto refused = with_node(*changed, "web.toml", second);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("is the witness already"));
  // One that is removed makes room for another.
  const auto without = without_node(*changed, "web.toml", "w");
  ASSERT_TRUE(without) << without.error().message;
  EXPECT_EQ(parse_group(*without, "web.toml")->witness(), nullptr);
  EXPECT_TRUE(with_node(*without, "web.toml", second));
}

TEST(GroupEdit, ARemovedNodeKeepsItsNumberAndIsNothingElse) {
  for (const std::string name : {"n1", "n3"}) {
    std::string text = kFile;
    text.erase(text.find("weight = 2\n"), 11);
    const auto changed = without_node(text, "web.toml", name);
    ASSERT_TRUE(changed) << changed.error().message;
    const auto group = parse_group(*changed, "web.toml");
    ASSERT_TRUE(group) << group.error().message;
    EXPECT_EQ(group->nodes.size(), 3u);
    EXPECT_EQ(group->present_nodes(), 2u);
    EXPECT_TRUE(group->find(name)->removed);
    EXPECT_EQ(group->contact.size(), 2u);
    EXPECT_THAT(*changed, HasSubstr("name = \"" + name + "\"\nremoved = true\n"));
    EXPECT_THAT(*changed, HasSubstr("# rack 3"));
    EXPECT_NE(digest(*group), digest(*parse_group(text, "web.toml")));
  }
  std::string text = kFile;
  text.replace(text.find("weight = 2"), 10, "port = 7000");
  const auto middle = without_node(text, "web.toml", "n2");
  ASSERT_TRUE(middle) << middle.error().message;
  EXPECT_THAT(*middle, HasSubstr("name = \"n2\"   # rack 4\nremoved = true\nport = 7000\n"));
  EXPECT_EQ(without_node(*middle, "web.toml", "n2").error().code, Errc::exists);
  EXPECT_EQ(without_node(*middle, "web.toml", "n9").error().code, Errc::not_found);
}

TEST(GroupEdit, WhatWouldMeanSomethingElseIsRefused) {
  std::string text = kFile;
  text.erase(text.find("weight = 2\n"), 11);
  EXPECT_EQ(with_node(text, "web.toml", node("n3", "fd00::9")).error().code, Errc::exists);
  EXPECT_EQ(with_node(text, "web.toml", node("n9", "fd00::3")).error().code, Errc::exists);
  EXPECT_EQ(with_node(text, "web.toml", node("n4", "192.0.2.4")).error().code, Errc::invalid);
  EXPECT_EQ(with_node("nonsense", "web.toml", node("n4", "fd00::4")).error().code, Errc::invalid);
  // All in one line, or a contact that is listed: by hand.
  const std::string one_line = "node = [{name = \"a\", address = \"fd00::1\"}, {name = \"b\", address = \"fd00::2\"}]\n"
                               "[group]\nname = \"web\"\naddress = \"2001:db8::80\"\nports = [80]\n";
  ASSERT_TRUE(parse_group(one_line, "web.toml"));
  EXPECT_FALSE(without_node(one_line, "web.toml", "a"));
  EXPECT_FALSE(with_node(one_line, "web.toml", node("c", "fd00::3")));
  std::string listed = text;
  listed.replace(listed.find("ports ="), 0, "contact = [\"n1\", \"n2\"]\n");
  const auto contact = without_node(listed, "web.toml", "n2");
  ASSERT_FALSE(contact);
  EXPECT_THAT(contact.error().message, HasSubstr("contact 'n2' is removed; take it from 'contact'"));
  EXPECT_TRUE(without_node(listed, "web.toml", "n3"));
  // A group of nobody.
  const std::string single = "[group]\nname = \"web\"\naddress = \"2001:db8::80\"\nports = [80]\n[[node]]\nname = \"a\"\naddress = \"fd00::1\"\n";
  ASSERT_FALSE(without_node(single, "web.toml", "a"));
  EXPECT_THAT(without_node(single, "web.toml", "a").error().message, HasSubstr("every [[node]] is removed"));
}

TEST(GroupEdit, AFileIsReplacedInOneStepWithItsModeAndThroughALink) {
  char directory[] = "/tmp/gecko-edit-test-XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  const std::string file = std::string(directory) + "/web.toml", link = std::string(directory) + "/link.toml";
  std::ofstream(file) << "before";
  ASSERT_EQ(::chmod(file.c_str(), 0640), 0);
  std::filesystem::create_symlink("web.toml", link);
  ASSERT_TRUE(replace_group_file(link, "after"));
  EXPECT_EQ(*read_group_file(file), "after");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  struct stat info{};
  ASSERT_EQ(::stat(file.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory), std::filesystem::directory_iterator()), 2);
  EXPECT_FALSE(replace_group_file(std::string(directory) + "/none.toml", "x"));
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace gecko::config
