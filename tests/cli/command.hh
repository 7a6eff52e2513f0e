// The gecko command run as a user runs it, and what a fake geckod may answer to it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lab/process.hh"

namespace gecko::tests {

lab::Output gecko(std::vector<std::string> arguments);

// A group that asks for recovery, as its nodes, a view and its mirrors make it; the tests change what matters to them.
nlohmann::json protected_group(size_t nodes);
std::string status_of(const nlohmann::json& groups, nlohmann::json reasons = nlohmann::json::array());

// Tests of commands that read and write files.
class Files : public testing::Test {
 protected:
  void SetUp() override {
    char directory[] = "/tmp/gecko-cli-test-XXXXXX";
    ASSERT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string directory_;
};

}  // namespace gecko::tests
