// The lab with its geckods, and what the gecko command says and does about them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "lab/lab.hh"
#include "lab/net_namespace.hh"

namespace gecko::lab {
namespace {

using Json = nlohmann::json;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

class LabSystem : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "namespaces need root";
    LabOptions options;
    options.name = "sys-" + std::to_string(getpid());
    options.ipv4 = GetParam();
    auto lab = Lab::up(options);
    ASSERT_TRUE(lab) << lab.error().message;
    lab_ = std::move(*lab);
  }
  Output on(const std::string& host, const std::vector<std::string>& argv) {
    auto output = lab_->output(host, argv);
    EXPECT_TRUE(output) << output.error().message;
    return output ? *output : Output{-1, "", ""};
  }
  Output gecko(const std::string& host, std::vector<std::string> arguments) {
    char self[4096] = {};
    EXPECT_GT(readlink("/proc/self/exe", self, sizeof self - 1), 0);
    arguments.insert(arguments.begin(), std::filesystem::path(self).parent_path() / "gecko");
    return on(host, arguments);
  }
  // Asks until the exit code is the wanted one: nodes hear of each other's fate after a while.
  Output gecko_until(const std::string& host, const std::vector<std::string>& arguments, int code) {
    Output output;
    for (const Time deadline = monotonic_now() + seconds(20); monotonic_now() < deadline;)
      if (output = gecko(host, arguments); output.code == code) break;
    EXPECT_EQ(output.code, code) << output.out << output.err;
    return output;
  }
  std::unique_ptr<Lab> lab_;
};

TEST_P(LabSystem, StatusKnowsEveryNodeAndSaysWhoIsGone) {
  for (const auto& node : lab_->nodes()) {
    const auto status = gecko(node, {"status", "--json"});
    EXPECT_EQ(status.code, 0) << status.out << status.err;
    EXPECT_EQ(Json::parse(status.out)["groups"][0]["address"], lab_->group_address().str());
  }
  ASSERT_TRUE(lab_->kill("n3"));
  EXPECT_EQ(lab_->state("n3").value_or(NodeState::up), NodeState::down);
  EXPECT_THAT(gecko_until("n1", {"status"}, 2).out, HasSubstr("node n3 is not connected"));
  EXPECT_EQ(gecko("n3", {"status"}).code, 3);
  EXPECT_EQ(gecko("n3", {"connections"}).code, 3);
  ASSERT_TRUE(lab_->start("n3"));
  const auto ready = lab_->wait_ready();
  EXPECT_TRUE(ready) << ready.error().message;
  gecko_until("n1", {"status"}, 0);

  ASSERT_TRUE(lab_->pause("n2"));
  EXPECT_EQ(gecko("n2", {"status"}).code, 124);
  EXPECT_EQ(gecko("n2", {"clean"}).code, 107);  // stopped is not gone
  ASSERT_TRUE(lab_->resume("n2"));
  gecko_until("n2", {"status"}, 0);
}

TEST_P(LabSystem, ContactMovesWhenAsked) {
  const auto moved = gecko("n3", {"contact", "n2", "--json"});
  EXPECT_EQ(moved.code, 0) << moved.err;
  EXPECT_EQ(Json::parse(moved.out)["contact"], "n2");
  EXPECT_EQ(gecko("n1", {"contact", "mars"}).code, 1);
  EXPECT_EQ(gecko("n1", {"handoff", "--client", lab_->find("client")->address.str(), "--to", "n2"}).code, 1);  // it has none
}

TEST_P(LabSystem, CleanTakesOutOfTheKernelWhatGeckodPutThere) {
  const std::string group = lab_->group_address().str();
  const auto kernel = [&] {
    return on("n1", {"ip", "-o", "address"}).out + on("n1", {"tc", "qdisc", "show"}).out + on("n1", {"sysctl", "-a", "-r", "eth0.arp_(ignore|announce)"}).out;
  };
  ASSERT_THAT(kernel(), HasSubstr(group));
  ASSERT_THAT(kernel(), HasSubstr("clsact"));
  EXPECT_EQ(gecko("n1", {"clean"}).code, 107);
  ASSERT_TRUE(lab_->kill("n1"));
  const auto dry = gecko("n1", {"clean", "--dry-run", "--json"});
  EXPECT_EQ(dry.code, 0) << dry.err;
  EXPECT_GE(Json::parse(dry.out)["objects"].size(), 3u);
  ASSERT_THAT(kernel(), HasSubstr(group)) << "a dry run removed something";
  const auto cleaned = gecko("n1", {"clean"});
  EXPECT_EQ(cleaned.code, 0) << cleaned.out << cleaned.err;
  EXPECT_THAT(kernel(), Not(HasSubstr(group)));
  EXPECT_THAT(kernel(), Not(HasSubstr("clsact")));
  EXPECT_THAT(kernel(), HasSubstr("eth0.arp_ignore = 0"));
  EXPECT_THAT(kernel(), HasSubstr("eth0.arp_announce = 0"));
  EXPECT_EQ(gecko("n1", {"clean"}).out, "nothing to remove\n");
  ASSERT_TRUE(lab_->start("n1"));  // and a new geckod starts from nothing
  const auto ready = lab_->wait_ready();
  EXPECT_TRUE(ready) << ready.error().message;
}

TEST_P(LabSystem, DoctorIsContentOnANode) {
  const auto report = gecko("n1", {"doctor", "--json", "-f", lab_->group_file(), "--node", "n1", "--keys", lab_->directory() + "/keys/n1"});
  const auto json = Json::parse(report.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << report.out << report.err;
  EXPECT_EQ(json["ok"], true) << report.out;
  EXPECT_NE(report.code, 1);
}

INSTANTIATE_TEST_SUITE_P(Families, LabSystem, testing::Bool(), [](const auto& which) { return which.param ? "IPv4" : "IPv6"; });

}  // namespace
}  // namespace gecko::lab
