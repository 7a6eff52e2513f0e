// Commands that work on files: gecko check, node, key and clean.
#include <gmock/gmock.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "command.hh"
#include "fake_geckod.hh"

namespace gecko::tests {
namespace {

using Json = nlohmann::json;
using Manner = FakeGeckod::Manner;
using testing::HasSubstr;
using testing::Not;

TEST_F(Files, CheckSaysWhereItIsWrong) {
  std::ofstream(directory_ + "/good.toml")
      << "[group]\nname = \"web\"\naddress = \"2001:db8::80\"\nports = [80]\n[[node]]\nname = \"n1\"\naddress = \"2001:db8:1::1\"\n";
  std::ofstream(directory_ + "/bad.toml") << "[group]\nnmae = \"web\"\n";
  const auto good = gecko({"check", "-f", directory_ + "/good.toml", "--json"});
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_EQ(Json::parse(good.out)["files"][0]["group"], "web");
  const auto bad = gecko({"check", directory_ + "/bad.toml"});
  EXPECT_EQ(bad.code, 65);
  EXPECT_THAT(bad.err, HasSubstr("bad.toml:2:1"));
  EXPECT_EQ(gecko({"check", "-f", directory_ + "/none.toml"}).code, 66);
}

TEST_F(Files, NodesAreAddedAndRemovedInTheGroupFile) {
  const std::string file = directory_ + "/web.toml";
  std::ofstream(file) << "# ours\n[group]\nname = \"web\"\naddress = \"2001:db8::80\"\nports = [80]\n[[node]]\nname = \"n1\"\naddress = \"2001:db8:1::11\"\n";
  const auto text = [&] { return (std::ostringstream() << std::ifstream(file).rdbuf()).str(); };
  const auto added = gecko({"node", "add", "n2", "2001:db8:1::12", "-f", file});
  EXPECT_EQ(added.code, 0) << added.err;
  EXPECT_THAT(added.out, HasSubstr("web.toml is with n2 now. What is left to do:"));
  EXPECT_THAT(added.out, HasSubstr("gecko key sign n2"));
  EXPECT_THAT(added.out, HasSubstr("systemctl restart geckod (connections go on)"));
  EXPECT_THAT(text(), testing::EndsWith("[[node]]\nname = \"n2\"\naddress = \"2001:db8:1::12\"\n"));
  const std::string with_two = text();
  EXPECT_EQ(gecko({"node", "add", "n2", "2001:db8:1::13", "-f", file}).code, 1);
  EXPECT_EQ(gecko({"node", "add", "n3", "192.0.2.3", "-f", file}).code, 65);
  EXPECT_EQ(gecko({"node", "add", "N3", "2001:db8:1::13", "-f", file}).code, 64);
  EXPECT_EQ(gecko({"node", "add", "n3", "nowhere", "-f", file}).code, 64);
  EXPECT_EQ(gecko({"node", "add", "n3", "2001:db8:1::13", "-f", directory_ + "/none.toml"}).code, 1);
  // Whether it is a member is asked first.
  EXPECT_EQ(gecko({"node", "remove", "n2", "-f", file, "--socket", "/nonexistent/geckod.sock"}).code, 3);
  const FakeGeckod geckod(Manner::answers, [&](const std::string&) { return status_of(Json::array({protected_group(2)})); });
  const auto member = gecko({"node", "remove", "n2", "-f", file, "--socket", geckod.socket()});
  EXPECT_EQ(member.code, 107);
  EXPECT_THAT(member.err, HasSubstr("is still a member of group web: 'gecko drain n2 --wait'"));
  EXPECT_EQ(text(), with_two);
  const FakeGeckod without(Manner::answers, [&](const std::string&) { return status_of(Json::array({protected_group(1)})); });
  EXPECT_EQ(gecko({"node", "remove", "n7", "-f", file, "--socket", without.socket()}).code, 1);
  const auto removed = gecko({"node", "remove", "n2", "-f", file, "--socket", without.socket(), "--json"});
  EXPECT_EQ(removed.code, 0) << removed.err;
  EXPECT_EQ(Json::parse(removed.out)["number"], 1);
  EXPECT_THAT(text(), HasSubstr("name = \"n2\"\nremoved = true\n"));
  EXPECT_EQ(gecko({"node", "remove", "n1", "-f", file, "--force"}).code, 65);   // nobody would be left
}

TEST_F(Files, AWitnessIsAddedAndRemovedWithItsOwnService) {
  const std::string file = directory_ + "/web.toml";
  std::ofstream(file) << "[group]\nname = \"web\"\naddress = \"2001:db8::80\"\nports = [80]\n[[node]]\nname = \"n1\"\naddress = \"2001:db8:1::11\"\n"
                         "[[node]]\nname = \"n2\"\naddress = \"2001:db8:1::12\"\n";
  const auto text = [&] { return (std::ostringstream() << std::ifstream(file).rdbuf()).str(); };
  const auto steps = [](const lab::Output& output) {   // "what on whom", of those about a service
    EXPECT_EQ(output.code, 0) << output.err;
    std::vector<std::string> all;
    const auto reply = Json::parse(output.out, nullptr, false);
    for (const auto& step : reply["steps"])
      if (step["do"].get<std::string>().starts_with("systemctl")) all.push_back(step["do"].get<std::string>() + " on " + step["on"].get<std::string>());
    return all;
  };
  EXPECT_EQ(gecko({"node", "add", "w", "2001:db8:1::99", "--witness", "--weight", "3", "-f", file}).code, 64);
  const auto added = gecko({"node", "add", "w", "2001:db8:1::99", "--witness", "-f", file, "--json"});
  EXPECT_EQ(steps(added), (std::vector<std::string>{"systemctl restart geckod (connections go on) on the nodes that run, one after the other",
                                                    "systemctl enable --now geckod-witness on w, last"}));
  EXPECT_THAT(added.out, HasSubstr("chown -R gecko: /etc/gecko/keys/web"));
  EXPECT_THAT(text(), testing::EndsWith("[[node]]\nname = \"w\"\naddress = \"2001:db8:1::99\"\nwitness = true\n"));
  EXPECT_EQ(gecko({"node", "add", "v", "2001:db8:1::98", "--witness", "-f", file}).code, 65);   // there is one
  // Others come beside it.
  const auto node = gecko({"node", "add", "n4", "2001:db8:1::14", "-f", file, "--json"});
  EXPECT_EQ(steps(node), (std::vector<std::string>{"systemctl restart geckod (connections go on) on the nodes that run, one after the other",
                                                   "systemctl restart geckod-witness on w", "systemctl enable --now geckod on n4, last"}));
  // It has nothing to be drained.
  Json group = protected_group(2);
  group["nodes"].push_back({{"name", "w"}, {"address", "2001:db8:1::99"}, {"witness", true}, {"state", "ok"}, {"member", true}});
  const FakeGeckod geckod(Manner::answers, [&](const std::string&) { return status_of(Json::array({group})); });
  const auto refused = gecko({"node", "remove", "w", "-f", file, "--socket", geckod.socket()});
  EXPECT_EQ(refused.code, 107);
  EXPECT_THAT(refused.err, HasSubstr("is still a member of group web: 'systemctl disable --now geckod-witness' there"));
  EXPECT_THAT(refused.err, Not(HasSubstr("drain")));
  const auto removed = gecko({"node", "remove", "w", "-f", file, "--force", "--json"});
  EXPECT_EQ(steps(removed), (std::vector<std::string>{"systemctl restart geckod (connections go on) on the nodes that are left, one after the other"}));
  EXPECT_THAT(text(), HasSubstr("name = \"w\"\nremoved = true\n"));
  EXPECT_EQ(gecko({"node", "add", "v", "2001:db8:1::98", "--witness", "-f", file}).code, 0);
}

TEST_F(Files, KeysFromFirstToRevoked) {
  const std::string ca = directory_ + "/ca";
  const auto json = [](const lab::Output& output) {
    EXPECT_EQ(output.code, 0) << output.err;
    return Json::parse(output.out, nullptr, false);
  };
  EXPECT_EQ(json(gecko({"key", "init", "web", "--ca", ca, "--json"}))["certificate"]["group"], "web");
  EXPECT_EQ(gecko({"key", "init", "web", "--ca", ca}).code, 1);
  EXPECT_EQ(gecko({"key", "rotate", "n1", "--ca", ca}).code, 1);
  const auto first = json(gecko({"key", "sign", "n1", "--ca", ca, "--json"}));
  EXPECT_EQ(first["certificate"]["node"], "n1");
  const auto second = json(gecko({"key", "rotate", "n1", "--ca", ca, "--json"}));
  EXPECT_EQ(second["replaces"], first["certificate"]["serial"]);
  EXPECT_NE(second["certificate"]["serial"], first["certificate"]["serial"]);
  EXPECT_EQ(json(gecko({"key", "revoke", first["certificate"]["serial"], "--ca", ca, "--json"}))["serials"].size(), 1u);
  EXPECT_EQ(json(gecko({"key", "show", ca, ca + "/nodes/n1", "--json"}))["certificates"].size(), 2u);
  EXPECT_EQ(gecko({"key", "show", directory_ + "/none"}).code, 66);
  const auto all = gecko({"key", "sign", "n2", "--ca", ca});
  EXPECT_THAT(all.out + all.err, Not(HasSubstr("PRIVATE")));
}

TEST_F(Files, CleanListsTheJournalAndRefusesWhileGeckodRuns) {
  std::ofstream(directory_ + "/kernel.journal") << "tun gecko-hold\naddress 2001:db8::80 lo\naddress 2001:db8::80 lo\nfilter eth9\n";
  const auto dry = gecko({"clean", "--dry-run", "--runtime-dir", directory_});
  EXPECT_EQ(dry.code, 0) << dry.err;
  EXPECT_THAT(dry.out, testing::StartsWith("would remove filter eth9\nwould remove address 2001:db8::80 lo\nwould remove tun gecko-hold\n"));
  EXPECT_TRUE(std::filesystem::exists(directory_ + "/kernel.journal"));
  if (geteuid() != 0) {
    EXPECT_EQ(gecko({"clean", "--runtime-dir", directory_}).code, 77);
    return;
  }
  const FakeGeckod geckod(Manner::never_accepts, {});
  const auto refused = gecko({"clean", "--runtime-dir", std::filesystem::path(geckod.socket()).parent_path()});
  EXPECT_EQ(refused.code, 107);
  EXPECT_THAT(refused.err, HasSubstr("--force"));
}

}  // namespace
}  // namespace gecko::tests
