#include "api/policy.hh"

#include <algorithm>

namespace gecko::api {

Result<BuiltinPolicy::Kind> BuiltinPolicy::parse(const std::string& name) {
  if (name == "random") return Kind::random;
  if (name == "round-robin") return Kind::round_robin;
  if (name == "least-connections") return Kind::least_connections;
  return make_error(Errc::invalid, "'" + name + "' is not a policy; write random, round-robin or least-connections");
}

int BuiltinPolicy::select(const std::vector<wire::Member>& members) {
  if (members.empty()) return -1;
  switch (kind_) {
    case Kind::random:
      return static_cast<int>(std::uniform_int_distribution<size_t>(0, members.size() - 1)(random_));
    case Kind::round_robin: {
      // The next name after the last one, in the order of names.
      int next = -1, first = 0;
      for (size_t i = 0; i < members.size(); ++i) {
        const auto& name = members[i].name;
        if (name < members[static_cast<size_t>(first)].name) first = static_cast<int>(i);
        if (name > last_ && (next < 0 || name < members[static_cast<size_t>(next)].name)) next = static_cast<int>(i);
      }
      if (next < 0) next = first;
      last_ = members[static_cast<size_t>(next)].name;
      return next;
    }
    case Kind::least_connections: {
      uint32_t least = members.front().connections;
      for (const auto& m : members) least = std::min(least, m.connections);
      std::vector<int> best;
      for (size_t i = 0; i < members.size(); ++i)
        if (members[i].connections == least) best.push_back(static_cast<int>(i));
      return best[std::uniform_int_distribution<size_t>(0, best.size() - 1)(random_)];
    }
  }
  return -1;
}

std::shared_ptr<PolicyHolder> PolicyHolder::builtin(BuiltinPolicy::Kind kind, bool on_accept) {
  return std::make_shared<PolicyHolder>(
      [policy = std::make_shared<BuiltinPolicy>(kind)](Connection&, const std::vector<wire::Member>& members) { return policy->select(members); },
      nullptr, on_accept);
}

int PolicyHolder::select(Connection& connection, const std::vector<wire::Member>& members) {
  const std::lock_guard lock(one_at_a_time_);
  const int chosen = select_ ? select_(connection, members) : -1;
  return chosen >= 0 && static_cast<size_t>(chosen) < members.size() ? chosen : -1;
}

void PolicyHolder::notify(const std::string& target, const Error& error) {
  const std::lock_guard lock(one_at_a_time_);
  if (notify_) notify_(target, error);
}

}  // namespace gecko::api
