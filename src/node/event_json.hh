// What is said of an event in JSON: schema gecko.event/1 (docs/schema/gecko.event-1.json).
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "config/group_config.hh"
#include "node/events.hh"

namespace gecko::node {

// `self`: this node's name, which is the same in all its groups.
nlohmann::ordered_json event_json(const Event& event, const std::vector<config::GroupConfig>& groups, const std::string& self);
// "2026-11-22T05:10:03.123456Z"
std::string utc(WallTime when);
std::string life_text(uint64_t incarnation);   // 16 hex digits
// The connection that an event is about, if it is about one. Lives as long as the event.
struct AboutConnection {
  const ConnId& id;
  const Flow& flow;
};
std::optional<AboutConnection> about_connection(const Event& event);

}  // namespace gecko::node
