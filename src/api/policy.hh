// Where connections go: the application's policy or a built-in one behind one interface, for the session.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "wire/api.hh"

namespace gecko::api {

class Connection;

// Built in: random, round-robin, least-connections. Pure: the state is in the object.
class BuiltinPolicy {
 public:
  enum class Kind { random, round_robin, least_connections };
  static Result<Kind> parse(const std::string& name);
  explicit BuiltinPolicy(Kind kind) : kind_(kind), random_(std::random_device{}()) {}
  // Index into members (nodes that can take a connection), -1 if there is none.
  int select(const std::vector<wire::Member>& members);

 private:
  Kind kind_;
  std::mt19937_64 random_;
  std::string last_;    // round-robin: the node chosen last, by name: members come and go
};

// Calls are serialised.
class PolicyHolder {
 public:
  using Select = std::function<int(Connection&, const std::vector<wire::Member>&)>;   // index, -1: stay
  using Notify = std::function<void(const std::string& target, const Error&)>;
  PolicyHolder(Select select, Notify notify, bool new_clients) : on_accept(new_clients), select_(std::move(select)), notify_(std::move(notify)) {}
  static std::shared_ptr<PolicyHolder> builtin(BuiltinPolicy::Kind kind, bool on_accept);

  const bool on_accept;   // asked about new clients too

  int select(Connection& connection, const std::vector<wire::Member>& members);
  void notify(const std::string& target, const Error& error);

 private:
  std::recursive_mutex one_at_a_time_;
  Select select_;
  Notify notify_;
};

}  // namespace gecko::api
