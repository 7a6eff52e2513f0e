// What the operator's commands share (admin*.cc): requests are read, replies are made of bounded lists, and the same thing looks the same everywhere.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "base/clock.hh"
#include "base/result.hh"
#include "wire/api.hh"

namespace gecko::node {

class Daemon;
class Group;
struct Connection;

using Json = nlohmann::ordered_json;
using Reply = std::function<void(std::string)>;

// Names come from files and programs: bytes that are no UTF-8 are replaced.
inline std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

inline void fail(const Reply& reply, const Error& e) {
  reply(dump({{"schema", "gecko.error/1"}, {"code", std::string(to_string(e.code))}, {"message", e.message}}));
}

// Rows of a reply, as many as fit into one message (wire::kMaxJson) and are built before anybody notices the wait; the rest is counted.
class Rows {
 public:
  template <class Make>
  void add(size_t text, Make make) {   // `text`: of free length in the row
    if (rows_.size() >= kMost || (bytes_ += kTypicalRow + text) > wire::kMaxJson / 2) ++omitted_;
    else rows_.push_back(make());
  }
  void into(Json& reply, const char* key) {
    reply[key] = std::move(rows_);
    reply["omitted"] = omitted_;
  }

 private:
  static constexpr size_t kMost = 25'000, kTypicalRow = 300;
  Json rows_ = Json::array();
  size_t bytes_ = 0, omitted_ = 0;
};

inline std::string text(const nlohmann::json& request, const char* key) {
  const auto it = request.find(key);
  return it != request.end() && it->is_string() ? it->get<std::string>() : std::string();
}

inline bool flag(const nlohmann::json& request, const char* key) {
  const auto it = request.find(key);
  return it != request.end() && it->is_boolean() && it->get<bool>();
}

Json connection_row(Daemon& daemon, const Group& group, const Connection& connection, Time now);           // of gecko.connections/1

}  // namespace gecko::node
