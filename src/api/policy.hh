// Where connections go: the application's policy or a built-in one behind one interface, for the session.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.hh"
#include "core/policy.hh"
#include "wire/api.hh"

namespace gecko::api {

class Connection;

// A node that could take a connection.
struct Candidate : wire::ApiMember {
  uint32_t weight = 1;
};

// random, round-robin, least-connections, weighted, hash-client, hash-bytes: core/policy.hh, by names instead of numbers. Pure: the state is
// in the object.
class BuiltinPolicy {
 public:
  static Result<core::PolicyKind> parse(const std::string& name);   // locality and none are no policies of an application
  explicit BuiltinPolicy(core::PolicyKind kind);
  // Index into members (nodes that can take a connection), -1 if there is none. `key`: core::choose().
  int select(const std::vector<Candidate>& members, std::optional<uint64_t> key);
  // What the connection says to this policy; nothing: it says nothing (yet). May look at its unread bytes.
  std::optional<uint64_t> key_of(const Connection& connection, size_t most_bytes) const;
  core::PolicyKind kind() const { return kind_; }

 private:
  core::PolicyKind kind_;
  core::PolicyState state_;
  std::string last_;    // round-robin: the node chosen last, by name: members come and go
};

// Calls are serialised.
class PolicyHolder {
 public:
  struct Question {
    Connection& connection;
    const std::vector<Candidate>& members;
    bool placed;                       // the group's policy has spread new clients already
  };
  using Select = std::function<int(const Question&)>;   // index, -1: stay
  using Notify = std::function<void(const std::string& target, const Error&)>;
  using Enough = std::function<bool(std::string_view)>;
  enum class When { asked, accept, first_bytes };
  // When it is asked about new clients, and with first_bytes what it waits for.
  struct Terms {
    When when = When::accept;
    bool only_unplaced = false;        // not about those that the group's policy has placed
    size_t first_bytes = 4096;
    Duration patience = std::chrono::seconds(1);
    Enough enough = {};                // empty: any byte is
  };
  PolicyHolder(Select select, Notify notify, Terms with) : terms(std::move(with)), select_(std::move(select)), notify_(std::move(notify)) {}
  // `asked`: not about new clients. Otherwise hash-bytes waits for first bytes, the others do not.
  static std::shared_ptr<PolicyHolder> builtin(core::PolicyKind kind, bool asked, Terms limits);
  static std::shared_ptr<PolicyHolder> builtin(core::PolicyKind kind, bool asked) { return builtin(kind, asked, Terms{}); }

  const Terms terms;

  int select(const Question& question);
  bool enough(std::string_view bytes);
  void notify(const std::string& target, const Error& error);

 private:
  std::recursive_mutex one_at_a_time_;
  Select select_;
  Notify notify_;
};

}  // namespace gecko::api
