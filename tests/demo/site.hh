// A lab whose nodes run servers as Debian has them (nginx, sshd, redis), each behind geckoproxy; what the demo's scenes with unmodified servers share.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kit/operator.hh"
#include "lab/lab.hh"
#include "session.hh"

namespace gecko::demo {

struct SiteOptions {
  std::string name;                       // of the lab; a process id is appended
  int nodes = 3;
  std::string recovery = "none";
  bool redis = true;
  std::vector<uint16_t> more_ports = {};  // of the group, for other programs
};

class Site {
 public:
  static constexpr uint16_t kWeb = 8080, kSsh = 2022, kRedis = 6379;   // of the group

  // `interrupted` is asked while it waits. Errors: the lab's; timeout: a server does not listen.
  static Result<std::unique_ptr<Site>> up(const SiteOptions& options, const std::function<bool()>& interrupted);
  ~Site();   // whoever reads from its programs sees their end

  lab::Lab& lab() { return *lab_; }
  kit::Operator& ask() { return *operator_; }
  std::string file(const std::string& name) const { return lab_->directory() + "/" + name; }
  // What nginx serves under this name, on every node.
  Status publish(const std::string& name, const std::string& content) const;
  std::string url(const std::string& name) const { return "http://" + Endpoint{lab_->group_address(), kWeb}.str() + "/" + name; }
  static std::string program(const std::string& name);   // of ours: beside the running one

  // Dies with the site.
  Status start(const std::string& node, const std::string& name, const std::vector<std::string>& argv);
  Result<lab::Process> client(const std::vector<std::string>& argv, bool input) const;
  Result<std::unique_ptr<Session>> ssh() const;          // to the node that is the contact
  Status contact(const std::string& node);
  Status wait_until(const std::string& what, const std::function<bool()>& done) const;

 private:
  explicit Site(std::function<bool()> interrupted) : interrupted_(std::move(interrupted)) {}
  Status wait_listening(const std::string& node, uint16_t port) const;
  Status start_servers(const std::string& node, bool redis);
  void write_configuration() const;

  const std::function<bool()> interrupted_;
  std::unique_ptr<lab::Lab> lab_;
  std::unique_ptr<kit::Operator> operator_;
  std::vector<lab::Process> servers_;
  bool made_run_sshd_ = false;
};

}  // namespace gecko::demo
