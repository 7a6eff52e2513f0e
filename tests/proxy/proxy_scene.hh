// A lab with three nodes, servers as Debian has them on each, and a geckoproxy before each of them. One for all tests of the program that
// do not damage it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "kit/operator.hh"
#include "lab/lab.hh"

namespace gecko::proxy_test {

using namespace std::chrono_literals;

constexpr uint16_t kWeb = 8080, kRedis = 6379, kSsh = 2022, kBytes = 7000;   // the group's ports: nginx; the others raw
constexpr uint16_t kNginx = 8000, kNginxProxied = 8001;                      // on each node, also on its own address
constexpr uint16_t kOdd = 9000;                                              // servers of single tests

bool eventually(const std::function<bool()>& done, Duration at_most = 5s);
std::string program(const std::string& name);   // beside this one

class Scene {
 public:
  static Result<std::unique_ptr<Scene>> up(const std::string& name);
  ~Scene();
  const lab::Lab& lab() const { return *lab_; }
  kit::Operator& ask() { return *operator_; }
  Endpoint group(uint16_t port) const { return {lab_->group_address(), port}; }
  Endpoint node(const std::string& name, uint16_t port) const { return {lab_->find(name)->address, port}; }
  std::string client() const { return lab_->find("client")->address.str(); }
  std::string url(const std::string& path) const { return "http://" + group(kWeb).str() + path; }
  std::string file(const std::string& name) const { return lab_->directory() + "/" + name; }

  // A program that runs on until the test or the scene ends. Its output goes to a log in the lab's directory.
  Status start(const std::string& host, const std::string& name, const std::vector<std::string>& argv);
  void end(const std::string& host, const std::string& name, int signal);   // and waits for it
  // A geckoproxy of its own for one test; `port` of the group.
  Status proxy(const std::string& host, uint16_t port, const std::string& server, const std::vector<std::string>& more = {});
  Status wait_applications(size_t per_node);
  std::string log(const std::string& host, const std::string& name) const;

  // In the client's namespace.
  lab::Output run(const std::vector<std::string>& argv, std::string_view input = {}, Duration at_most = 60s);
  void inside(const std::function<void()>& work);

  nlohmann::json connections(const std::string& node);
  uint64_t moved();                                        // handoffs so far, all nodes
  size_t owned(const std::string& node) { return connections(node).size(); }

 private:
  Status start_servers();
  std::unique_ptr<lab::Lab> lab_;
  std::unique_ptr<kit::Operator> operator_;
  std::map<std::string, lab::Process> programs_;           // "n1/nginx"
};

class ProxyTest : public ::testing::Test {
 protected:
  void SetUp() override;
  static void TearDownTestSuite();
  Scene& scene() { return *scene_; }
  static std::unique_ptr<Scene> scene_;
};

// Moves everything of the client from node to node, again and again, while something else goes on in front.
class Mover {
 public:
  explicit Mover(Scene& scene);
  uint64_t stop();       // how many connections moved meanwhile

 private:
  Scene& scene_;
  kit::Operator operator_;
  uint64_t before_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace gecko::proxy_test
