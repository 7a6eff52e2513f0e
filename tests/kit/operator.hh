// The operator's commands, typed: what `gecko handoff`, `gecko contact` and `gecko status` ask a node's geckod. Blocking; one thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "lab/lab.hh"
#include "net/admin_client.hh"

namespace gecko::kit {

struct Handoffs {
  size_t moved = 0, refused = 0;
  std::map<std::string, size_t> from;  // donors of the moved ones
  std::string first_refusal;
  std::map<std::string, size_t> refusals;   // by reason, without the connection's names
  Time asked{}, answered{};
  Duration took() const { return answered - asked; }
};

class Operator {
 public:
  explicit Operator(const lab::Lab& lab) : lab_(lab) {}

  // `client`: one connection ("[addr]:port") or all of an address ("addr"). Asked at node `via`.
  // Nothing matching is no error: moved and refused are 0.
  Result<Handoffs> handoff(const std::string& via, const std::string& client, const std::string& to, Duration at_most = std::chrono::seconds(30));
  Status contact(const std::string& via, const std::string& node);
  Result<std::string> contact_now(const std::string& via);
  Result<nlohmann::json> ask(const std::string& via, const nlohmann::json& question, Duration at_most = std::chrono::seconds(5));
  // Waits until each node's group has an application for every port (it can be a target then).
  Status wait_applications(size_t per_node, Duration at_most);
  // Waits until each node is a member of a view of all of them, and holds its lease: what is protected may speak.
  Status wait_leases(Duration at_most);

 private:
  Result<net::AdminClient*> at(const std::string& node);
  // Until no node's status misses anything; `missing` says what in words, "": nothing.
  Status wait_nodes(const std::function<std::string(const std::string& node, const nlohmann::json& status)>& missing, Duration at_most);

  const lab::Lab& lab_;
  std::map<std::string, std::unique_ptr<net::AdminClient>> clients_;
};

}  // namespace gecko::kit
