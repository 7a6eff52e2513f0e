// The last scene: nodes die. While conversations, films and uploads (replicated: recovery = "replicated"), a download from nginx and an ssh session run, a
// node is killed, another one's cable is pulled, then the contact is killed. Clients know nothing of Gecko and notice nothing but a pause.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hh"
#include "screen.hh"

namespace gecko::demo {

struct DeathsAct {
  struct Row {
    std::string client;            // what it is, and how many
    uint64_t bytes = 0;            // received, all of them compared; of uploads: sent
    std::vector<double> gap_ms;    // the longest silence around each fault; empty: not measured
    double alone_ms = 0;           // the longest one before the first
    std::optional<uint64_t> stalls;   // of films: the player had nothing to show
    std::string problem;           // empty: whole, to the last byte
  };
  std::vector<std::string> faults; // "n2 killed", ...
  std::vector<Row> rows;
  uint64_t recovered = 0;          // connections that went on at another node
  uint64_t resets = 0;             // that the client's kernel got
  bool well() const;
  std::string table() const;
  nlohmann::json json() const;
};

// Errors: what makes going on pointless; a harmed client is a result.
Result<DeathsAct> perform_deaths(Screen& screen, const std::function<bool()>& interrupted);

}  // namespace gecko::demo
