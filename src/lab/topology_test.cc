#include "lab/topology.hh"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "lab/journal.hh"

namespace gecko::lab {
namespace {

using testing::HasSubstr;

TEST(Topology, HostsHaveTheirOwnAddressesAndNamespaces) {
  LabOptions options;
  options.nodes = kMaxLabNodes;
  const auto hosts = hosts_of(options);
  ASSERT_EQ(hosts.size(), kMaxLabNodes + 2u);
  std::set<std::string> seen = {group_address(options).str()};
  options.ipv4 = true;
  seen.insert(group_address(options).str());
  for (const auto& host : hosts) {
    EXPECT_TRUE(seen.insert(host.address.str()).second) << host.name;
    EXPECT_TRUE(seen.insert(host.address4.str()).second) << host.name;
    EXPECT_TRUE(seen.insert(host.network_namespace).second) << host.name;
  }
  EXPECT_EQ(hosts[2].address.str(), "2001:db8:1::11");
  EXPECT_EQ(hosts[2].address4.str(), "198.51.100.11");
}

TEST(Topology, GroupFileIsWhatGeckodReads) {
  LabOptions options;
  options.nodes = 2;
  options.ports = {80, 443};
  options.policy = "weighted";
  options.weights = {3, 1};
  options.rebalance = true;
  options.return_path = config::ReturnPath::home;
  for (const bool ipv4 : {false, true}) {
    options.ipv4 = ipv4;
    const auto group = config::parse_group(group_file(options), "group.toml");
    ASSERT_TRUE(group) << group.error().message;
    EXPECT_EQ(group->name, "lab");
    EXPECT_EQ(group->address, group_address(options));
    EXPECT_EQ(group->address.is_v4(), ipv4);
    EXPECT_EQ(group->ports, options.ports);
    EXPECT_EQ(group->policy, "weighted");
    EXPECT_EQ(group->nodes.front().weight, 3u);
    EXPECT_EQ(group->rebalance, config::Rebalance::on_join);
    EXPECT_EQ(group->return_path, config::ReturnPath::home);
    ASSERT_EQ(group->nodes.size(), 2u);
    EXPECT_EQ(group->nodes[1].address.str(), "2001:db8:1::12");
  }
}

TEST(Topology, AWitnessIsOneMoreThatServesNothing) {
  LabOptions options;
  options.nodes = 2;
  options.witness = true;
  options.weights = {3, 1};
  const auto group = config::parse_group(group_file(options), "group.toml");
  ASSERT_TRUE(group) << group.error().message;
  ASSERT_EQ(group->nodes.size(), 3u);
  EXPECT_EQ(group->nodes[2].name, "w");
  EXPECT_TRUE(group->nodes[2].witness);
  EXPECT_EQ(group->serving_nodes(), 2u);
  const auto hosts = hosts_of(options);
  ASSERT_EQ(hosts.size(), 5u);
  EXPECT_TRUE(hosts[4].is_node && hosts[4].is_witness);
  EXPECT_FALSE(hosts[3].is_witness);
  EXPECT_EQ(hosts[4].address.str(), "2001:db8:1::10");
}

TEST(Topology, RefusesWhatItCannotBuild) {
  const auto refusal = [](auto change) {
    LabOptions options;
    change(options);
    const Status status = check_options(options);
    return status ? std::string() : status.error().message;
  };
  EXPECT_EQ(refusal([](LabOptions&) {}), "");
  EXPECT_THAT(refusal([](LabOptions& o) { o.name = "../x"; }), HasSubstr("'../x' is no name"));
  EXPECT_THAT(refusal([](LabOptions& o) { o.name = ""; }), HasSubstr("no name"));
  EXPECT_THAT(refusal([](LabOptions& o) { o.name = std::string(21, 'a'); }), HasSubstr("1 to 20"));
  EXPECT_THAT(refusal([](LabOptions& o) { o.nodes = 0; }), HasSubstr("1 to 32"));
  EXPECT_THAT(refusal([](LabOptions& o) { o.nodes = 33; }), HasSubstr("1 to 32"));
  EXPECT_THAT(refusal([](LabOptions& o) { o.ports = {80, 80}; }), HasSubstr("port 80 is given twice"));
  EXPECT_THAT(refusal([](LabOptions& o) { o.ports = {0}; }), HasSubstr("port 0"));
  EXPECT_THAT(refusal([](LabOptions& o) { o.ports = {}; }), HasSubstr("1 to 64 ports"));
  EXPECT_THAT(refusal([](LabOptions& o) { o.policy = "best"; }), HasSubstr("'best' is no policy"));
  EXPECT_THAT(refusal([](LabOptions& o) { o.weights = {1, 0}; }), HasSubstr("weight 0"));
  EXPECT_THAT(refusal([](LabOptions& o) { o.weights = {1, 1, 1, 1}; }), HasSubstr("4 weights for 3 nodes"));
  EXPECT_THAT(refusal([](LabOptions& o) { o.two_available = o.witness = true; }), HasSubstr("no node goes on alone"));
  EXPECT_THAT(refusal([](LabOptions& o) { o.owner = "a\nnamespace b"; }), HasSubstr("one word"));
}

TEST(Journal, ReadsBackWhatItWrote) {
  Journal journal;
  journal.options.name = "storm";
  journal.options.nodes = 5;
  journal.options.ipv4 = true;
  journal.options.mbit = 100;
  journal.options.ports = {80, 443};
  journal.options.policy = "random";
  journal.options.weights = {2, 3};
  journal.options.rebalance = true;
  journal.options.witness = true;
  journal.options.return_path = config::ReturnPath::home;
  journal.options.daemons = false;
  journal.options.owner = "dev-1";
  journal.namespaces = {"gecko-storm-n1", "gecko-storm-n2"};
  journal.complete = true;
  const Journal again = Journal::parse(journal.text());
  EXPECT_EQ(again.text(), journal.text());
  EXPECT_EQ(again.namespaces, journal.namespaces);
  EXPECT_TRUE(again.complete);
}

TEST(Journal, CutShortAnywhereYieldsOnlyWholeLines) {
  Journal journal;
  journal.namespaces = {"gecko-lab-n1", "gecko-lab-n2"};
  journal.complete = true;
  const std::string text = journal.text();
  for (size_t length = 0; length < text.size(); ++length) {
    const Journal cut = Journal::parse(std::string_view(text).substr(0, length));
    EXPECT_FALSE(cut.complete);
    for (const auto& name : cut.namespaces) EXPECT_TRUE(name == "gecko-lab-n1" || name == "gecko-lab-n2") << name;
  }
}

}  // namespace
}  // namespace gecko::lab
