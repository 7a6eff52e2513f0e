#include "api/policy.hh"

#include <algorithm>
#include <numeric>
#include <random>

#include "api/connection.hh"
#include "base/client_hash.hh"
#include "core/placement_hash.hh"

namespace gecko::api {

using core::PolicyKind;

Result<PolicyKind> BuiltinPolicy::parse(const std::string& name) {
  const auto kind = core::policy_named(name);
  if (kind == PolicyKind::locality)
    return make_error(Errc::invalid, "'locality' needs what geckod measures: write policy = \"locality\" in the group file, and set no policy here");
  if (kind && kind != PolicyKind::none) return *kind;
  return make_error(Errc::invalid, "'" + name + "' is not a policy; write random, round-robin, least-connections, weighted, hash-client or hash-bytes");
}

BuiltinPolicy::BuiltinPolicy(PolicyKind kind) : kind_(kind) { state_.random = std::random_device{}(); }

int BuiltinPolicy::select(const std::vector<Candidate>& members, std::optional<uint64_t> key) {
  // By name, so that turns go the same way whatever the order is.
  std::vector<size_t> order(members.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return members[a].name < members[b].name; });
  state_.last.reset();
  std::vector<core::Load> loads;
  for (size_t i = 0; i < order.size(); ++i) {
    const Candidate& m = members[order[i]];
    if (m.name <= last_) state_.last = static_cast<core::NodeIndex>(i);
    loads.push_back({.node = static_cast<core::NodeIndex>(i), .up = true, .connections = m.connections, .applications = 1, .weight = m.weight,
                     .name_hash = core::hash_of(m.name)});
  }
  const auto chosen = core::choose(kind_, loads, state_, {}, key);
  if (!chosen) return -1;
  last_ = members[order[*chosen]].name;
  return static_cast<int>(order[*chosen]);
}

std::optional<uint64_t> BuiltinPolicy::key_of(const Connection& connection, size_t most_bytes) const {
  if (kind_ == PolicyKind::hash_client) return client_hash(connection.flow().peer.address);
  if (kind_ != PolicyKind::hash_bytes) return std::nullopt;
  std::string bytes(most_bytes, '\0');
  const auto n = connection.peek(bytes.data(), bytes.size());
  if (!n || *n == 0) return std::nullopt;
  bytes.resize(*n);
  return core::hash_of(core::request_key(bytes).value_or(bytes));
}

std::shared_ptr<PolicyHolder> PolicyHolder::builtin(PolicyKind kind, bool asked, Terms limits) {
  limits.when = asked ? When::asked : kind == PolicyKind::hash_bytes ? When::first_bytes : When::accept;
  limits.only_unplaced = true;
  limits.enough = [](std::string_view bytes) { return core::request_key(bytes).has_value(); };
  auto select = [policy = std::make_shared<BuiltinPolicy>(kind), most = limits.first_bytes](const Question& q) {
    const auto key = policy->key_of(q.connection, most);
    if (policy->kind() == PolicyKind::hash_bytes && !key && q.placed) return -1;   // silent, and as good here as anywhere
    return policy->select(q.members, key);
  };
  return std::make_shared<PolicyHolder>(std::move(select), nullptr, std::move(limits));
}

int PolicyHolder::select(const Question& question) {
  const std::lock_guard lock(one_at_a_time_);
  const int chosen = select_ ? select_(question) : -1;
  return chosen >= 0 && static_cast<size_t>(chosen) < question.members.size() ? chosen : -1;
}

bool PolicyHolder::enough(std::string_view bytes) {
  if (bytes.empty()) return false;
  if (!terms.enough || bytes.size() >= terms.first_bytes) return true;
  const std::lock_guard lock(one_at_a_time_);
  return terms.enough(bytes);
}

void PolicyHolder::notify(const std::string& target, const Error& error) {
  const std::lock_guard lock(one_at_a_time_);
  if (notify_) notify_(target, error);
}

}  // namespace gecko::api
