// The second scene: servers as Debian has them (nginx, sshd, redis) behind geckoproxy, clients that know nothing of Gecko. HTTP clients are moved
// between their requests all the time, then their node is drained and serves again; an ssh session and redis clients live through it beside them.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/result.hh"
#include "screen.hh"

namespace gecko::demo {

struct ServerRow {
  std::string server, client;
  uint64_t requests = 0;         // ssh: lines typed and echoed; redis: commands
  uint64_t failed = 0;           // without an answer, or with a wrong one
  uint64_t bytes = 0;            // received, all of them compared; 0: nobody compares
  bool whole = true;             // what was compared is equal
  uint64_t moves = 0;
  double longest_pause_ms = 0;   // between a request and its answer; 0: not measured
  std::string problem = {};
  bool well(bool moving) const { return problem.empty() && whole && failed == 0 && requests > 0 && (!moving || moves > 0); }
};

struct ServersAct {
  std::vector<ServerRow> rows;   // wrk, curl, ssh, redis
  uint64_t drained = 0;          // connections that left n1
  double drain_seconds = 0;
  std::string drain_words;       // what `gecko drain n1 --wait` said
  uint64_t resets = 0;           // that the client's kernel got
  std::string problem;
  bool well() const;
  std::string table() const;
  nlohmann::json json() const;
};

// `seconds`: how long HTTP clients are moved. Errors: what makes going on pointless; a harmed client is a result.
Result<ServersAct> perform_servers(double seconds, Screen& screen, const std::function<bool()>& interrupted);

}  // namespace gecko::demo
