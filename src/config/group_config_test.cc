// testdata/good: must load. testdata/bad/X.toml: must fail with exactly the text of X.err. GECKO_UPDATE_GOLDEN=1 rewrites the
// .err files; read the difference before committing it.
#include "config/group_config.hh"

#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "config/words.hh"

namespace gecko::config {
namespace {

using testing::HasSubstr;

const std::string kTestdata = GECKO_TESTDATA;

std::vector<std::string> files_in(const std::string& dir) {
  std::vector<std::string> out;
  DIR* handle = opendir(dir.c_str());
  if (handle == nullptr) return out;
  while (const dirent* entry = readdir(handle))
    if (std::string_view(entry->d_name).ends_with(".toml")) out.push_back(std::string(entry->d_name, std::strlen(entry->d_name) - 5));
  closedir(handle);
  std::sort(out.begin(), out.end());
  return out;
}

std::string slurp(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(GroupConfig, EveryKey) {
  const auto group = load_group(kTestdata + "/good/full.toml");
  ASSERT_TRUE(group) << group.error().message;
  EXPECT_EQ(group->file, kTestdata + "/good/full.toml");
  EXPECT_EQ(group->name, "web");
  EXPECT_EQ(group->address.str(), "2001:db8:f::80");
  EXPECT_EQ(group->ports, (std::vector<uint16_t>{80, 443}));
  EXPECT_EQ(group->contact, (std::vector<std::string>{"n1", "n3"}));
  EXPECT_EQ(group->policy, "hash-bytes");
  EXPECT_EQ(group->first_bytes, 2048u);
  EXPECT_EQ(group->first_bytes_timeout_ms, 300u);
  EXPECT_EQ(group->rebalance, Rebalance::on_join);
  EXPECT_EQ(group->recovery, Recovery::fast);
  EXPECT_EQ(group->after_close, AfterClose::sticky);
  EXPECT_EQ(group->return_path, ReturnPath::home);
  EXPECT_EQ(group->home_agent->str(), "2001:db8:f::1");
  EXPECT_EQ(group->interface, "eth0");
  EXPECT_EQ(group->keys, "/srv/keys/web");
  EXPECT_EQ(group->outbound_first, 30000);
  EXPECT_EQ(group->outbound_last, 39999);
  EXPECT_EQ(group->max_connections, 5000u);
  EXPECT_EQ(group->max_held_bytes, 128u << 20);
  EXPECT_EQ(group->max_held_packets, 1000u);
  EXPECT_EQ(group->handoff_timeout_ms, 2000u);
  EXPECT_EQ(group->drain_timeout_ms, 0u);
  EXPECT_EQ(group->two_nodes, TwoNodes::safe);
  EXPECT_EQ(group->lease_ms, 120u);
  EXPECT_EQ(group->heartbeat_ms, 25u);
  EXPECT_EQ(group->misses, 2u);
  EXPECT_EQ(group->serve, (std::vector<std::string>{"www-data", "#1000"}));
  EXPECT_EQ(group->admin, (std::vector<std::string>{"ops"}));
  ASSERT_EQ(group->nodes.size(), 4u);
  EXPECT_EQ(group->serving_nodes(), 3u);
  EXPECT_TRUE(group->nodes[3].witness);
  EXPECT_FALSE(group->nodes[0].witness);
  EXPECT_EQ(group->nodes[0].link_port, 7471);
  EXPECT_EQ(group->nodes[1].link_port, 7470);
  EXPECT_EQ(group->nodes[0].weight, 3u);
  EXPECT_EQ(group->nodes[1].weight, 1u);
  EXPECT_EQ(group->index_of("n3"), 2);
  EXPECT_EQ(group->index_of("n9"), -1);
  EXPECT_EQ(group->find("n2")->address.str(), "2001:db8:a::2");
}

TEST(GroupConfig, Defaults) {
  const auto group = load_group(kTestdata + "/good/smallest.toml");
  ASSERT_TRUE(group) << group.error().message;
  GroupConfig wanted;
  wanted.file = kTestdata + "/good/smallest.toml";
  wanted.name = "db";
  wanted.address = *Address::parse("192.0.2.80");
  wanted.ports = {5432};
  wanted.contact = {"a", "b"};
  wanted.keys = "/etc/gecko/keys/db";
  wanted.nodes = {{"a", *Address::parse("fd00::1"), 7470}, {"b", *Address::parse("fd00::2"), 7470}};
  EXPECT_EQ(*group, wanted);
}

TEST(GroupConfig, AWitnessIsNoContactUnlessToldOtherwise) {
  const std::string text = R"([group]
name = "web"
address = "fd00::80"
ports = [80]
[[node]]
name = "w"
address = "fd00::3"
witness = true
[[node]]
name = "a"
address = "fd00::1"
[[node]]
name = "b"
address = "fd00::2"
witness = false
)";
  const auto group = parse_group(text, "x");
  ASSERT_TRUE(group) << group.error().message;
  EXPECT_EQ(group->contact, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(group->is_witness(0));
  EXPECT_FALSE(group->is_witness(1));
  EXPECT_FALSE(group->is_witness(3)) << "there is none";
  EXPECT_EQ(parse_group(text + "[membership]\ntwo_nodes = \"available\"\n", "x").error().code, Errc::invalid);
}

// As many as a view has members; the places of those that are gone count for the file alone.
TEST(GroupConfig, ThirtyTwoNodesServeAndAWitnessVotes) {
  std::string text = "[group]\nname = \"web\"\naddress = \"fd00:1::80\"\nports = [80]\n";
  for (size_t i = 0; i < kMaxNodes; ++i)
    text += "[[node]]\nname = \"n" + std::to_string(i) + "\"\naddress = \"fd00::" + std::to_string(i + 1) + "\"\n" +
            (i < kMaxServing ? "" : i == kMaxServing ? "witness = true\n" : "removed = true\n");
  const auto group = parse_group(text, "x");
  ASSERT_TRUE(group) << group.error().message;
  EXPECT_EQ(group->nodes.size(), kMaxNodes);
  EXPECT_EQ(group->serving_nodes(), kMaxServing);
  EXPECT_EQ(group->present_nodes(), kMaxServing + 1);
}

TEST(GroupConfig, TwoNodesMayGoOnAlone) {
  std::string text = slurp(kTestdata + "/good/smallest.toml") + "\n[membership]\ntwo_nodes = \"available\"\n";
  const auto group = parse_group(text, "x");
  ASSERT_TRUE(group) << group.error().message;
  EXPECT_EQ(group->two_nodes, TwoNodes::available);
}

TEST(GroupConfig, GoldenErrors) {
  const auto names = files_in(kTestdata + "/bad");
  ASSERT_GE(names.size(), 40u);
  const bool update = getenv("GECKO_UPDATE_GOLDEN") != nullptr;
  for (const auto& name : names) {
    SCOPED_TRACE(name);
    const std::string base = kTestdata + "/bad/" + name;
    const auto group = parse_group(slurp(base + ".toml"), name + ".toml");
    ASSERT_FALSE(group);
    EXPECT_EQ(group.error().code, Errc::invalid);
    const std::string text = group.error().message + "\n";
    if (update) std::ofstream(base + ".err") << text;
    EXPECT_EQ(text, slurp(base + ".err"));
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      EXPECT_TRUE(line.starts_with(name + ".toml:")) << line;
      EXPECT_TRUE(std::all_of(line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x20; })) << line;
    }
  }
}

TEST(GroupConfig, ReportsAtMostFiftyErrors) {
  std::string text = "[group]\nname = \"web\"\naddress = \"fd00::80\"\nports = [";
  for (int i = 0; i < 500; ++i) text += "0, ";
  text += "]\n[[node]]\nname = \"a\"\naddress = \"fd00::1\"\n";
  const auto group = parse_group(text, "x.toml");
  ASSERT_FALSE(group);
  EXPECT_EQ(std::count(group.error().message.begin(), group.error().message.end(), '\n'), 50);
  EXPECT_THAT(group.error().message, HasSubstr("x.toml: and 450 more errors"));
}

TEST(GroupConfig, FilesThatCannotBeRead) {
  const auto missing = load_group(kTestdata + "/none.toml");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::not_found);
  EXPECT_THAT(missing.error().message, HasSubstr("none.toml"));
  EXPECT_THAT(load_group(kTestdata).error().message, HasSubstr("not a regular file"));
  EXPECT_THAT(load_group("/dev/null").error().message, HasSubstr("not a regular file"));
  char name[] = "/tmp/gkt-net-XXXXXX";
  const int fd = mkstemp(name);
  ASSERT_EQ(ftruncate(fd, kMaxConfigBytes + 1), 0);
  close(fd);
  EXPECT_EQ(load_group(name).error().code, Errc::limit);
  unlink(name);
}

TEST(GroupConfig, DigestCoversWhatMustAgree) {
  const std::string full = slurp(kTestdata + "/good/full.toml");
  const auto digest_of = [](const std::string& text) {
    const auto group = parse_group(text, "x");
    EXPECT_TRUE(group) << group.error().message;
    return group ? digest(*group) : std::string();
  };
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = full;
    const auto at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return digest_of(text.replace(at, from.size(), to));
  };
  const std::string base = digest_of(full);
  EXPECT_EQ(base.size(), 64u);
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{{"\"web\"", "\"wob\""},
                                                                                 {"f::80", "f::81"},
                                                                                 {"443", "444"},
                                                                                 {"[\"n1\", \"n3\"]", "[\"n3\", \"n1\"]"},
                                                                                 {"hash-bytes", "weighted"},
                                                                                 {"= 2048", "= 2049"},
                                                                                 {"300ms", "301ms"},
                                                                                 {"on-join", "off"},
                                                                                 {"weight = 3", "weight = 4"},
                                                                                 {"\"fast\"", "\"replicated\""},
                                                                                 {"sticky", "clear"},
                                                                                 {"\"home\"", "\"direct\""},
                                                                                 {"f::1\"", "f::2\""},
                                                                                 {"39999", "39998"},
                                                                                 {"misses = 2", "misses = 3"},
                                                                                 {"7471", "7472"},
                                                                                 {"a::2", "a::4"},
                                                                                 {"witness = true", "witness = false"},
                                                                                 {"name = \"n2\"", "name = \"n4\""}})
    EXPECT_NE(with(from, to), base) << from;
  // What may differ from node to node, or means the same.
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"eth0", "eth1"}, {"/srv", "/etc"}, {"5000", "5001"}, {"www-data", "nobody"}, {"[80, 443]", "[443, 80]"}, {"# Every", "# Any"}})
    EXPECT_EQ(with(from, to), base) << from;
}

// The man page is what operators copy from: its examples load, and it names every key there is (testdata/good/full.toml has them all).
TEST(GroupConfig, TheManPageIsTrue) {
  const std::string page = slurp(GECKO_DOCS "/man/gecko-group.toml.5.scd");
  int examples = 0;
  for (size_t at = page.find("```\n"); at != std::string::npos; at = page.find("```\n", at)) {
    at += 4;
    const size_t end = page.find("```", at);
    ASSERT_NE(end, std::string::npos);
    const auto group = parse_group(page.substr(at, end - at), "example");
    EXPECT_TRUE(group) << group.error().message;
    ++examples;
    at = end + 4;
  }
  EXPECT_GE(examples, 2);
  std::istringstream full(slurp(kTestdata + "/good/full.toml"));
  for (std::string line; std::getline(full, line);) {
    if (line.starts_with('[')) { EXPECT_THAT(page, HasSubstr("\n# " + line + "\n")); }
    const size_t equals = line.find(" =");
    if (equals != std::string::npos) { EXPECT_THAT(page, HasSubstr("\n*" + line.substr(0, equals) + "* = ")); }
  }
}

TEST(Words, Suggestions) {
  const std::vector<std::string> known = {"name", "address", "ports", "contact", "policy"};
  EXPECT_EQ(did_you_mean("adress", known), "; did you mean 'address'?");
  EXPECT_EQ(did_you_mean("port", known), "; did you mean 'ports'?");
  EXPECT_EQ(did_you_mean("contcat", known), "; did you mean 'contact'?");
  EXPECT_EQ(did_you_mean("zebra", known), "");
  EXPECT_EQ(did_you_mean("", known), "");
  EXPECT_EQ(did_you_mean(std::string(100000, 'a'), known), "");
  EXPECT_EQ(shown("a\nb\x1b"), "'a\\x0ab\\x1b'");
  EXPECT_EQ(shown(std::string(81, 'x')), "'" + std::string(80, 'x') + "...'");
}

}  // namespace
}  // namespace gecko::config
