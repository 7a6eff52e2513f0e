#include "node/given_away.hh"

namespace gecko::node {

void GivenAway::add(const core::Owner& to, core::MirroredConnection connection, Time now) {
  const Flow flow = connection.tcp.flow;
  if (const auto before = all_.find(flow); before != all_.end()) forget(before);
  const size_t bytes = (connection.saved ? connection.saved->blob.size() : 0) + (connection.replica ? connection.replica->bytes() : 0);
  all_.emplace(flow, Given{to, std::move(connection), next_, bytes});
  order_.push_back({now, next_++, flow});
  bytes_ += bytes;
  expire(now);
}

std::vector<core::MirroredConnection> GivenAway::take(const core::Owner& dead, Time now) {
  expire(now);
  std::vector<core::MirroredConnection> taken;
  for (auto it = all_.begin(); it != all_.end();) {
    const auto given = it++;
    if (given->second.to != dead) continue;
    taken.push_back(std::move(given->second.connection));
    forget(given);
  }
  return taken;
}

void GivenAway::expire(Time now) {
  for (; !order_.empty() && (order_.front().when + kept_ < now || bytes_ > kMostBytes); order_.pop_front()) {
    const auto at = all_.find(order_.front().flow);
    if (at != all_.end() && at->second.number == order_.front().number) forget(at);
  }
}

void GivenAway::clear() {
  all_.clear();
  order_.clear();
  bytes_ = 0;
}

void GivenAway::forget(std::unordered_map<Flow, Given>::iterator at) {
  bytes_ -= at->second.bytes;
  all_.erase(at);
}

}  // namespace gecko::node
