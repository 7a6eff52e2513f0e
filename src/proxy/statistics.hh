// What a worker counts. Plain numbers: each worker has its own, they are added up when somebody asks.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace gecko::proxy {

struct Statistics {
  uint64_t accepted = 0;          // new clients
  uint64_t arrived = 0;           // from other nodes
  uint64_t moved = 0;             // to other nodes
  uint64_t postponed = 0;         // asked for in a request; they follow at its end
  uint64_t move_failed = 0;       // came back
  uint64_t detours = 0;           // moved because the local server refused them
  uint64_t requests = 0;          // HTTP requests answered whole
  uint64_t bytes_in = 0, bytes_out = 0;   // from clients, to clients
  uint64_t server_failed = 0;     // connections to the server that could not be made
  uint64_t reset = 0;             // resets passed on, either way
  uint64_t waited = 0;            // times that accepting stopped at max_connections
  uint64_t recovered = 0;         // their node has died: the sum of the next five, but for those that wait for a new server's answer
  uint64_t continued = 0;         // between two requests
  uint64_t repeated = 0;          // the request was sent again
  uint64_t resumed = 0;           // the rest of the answer came from another server
  uint64_t refused = 0;           // 503
  std::map<std::string, uint64_t> cut;            // closed or reset, by reason
  std::map<std::string, uint64_t> unmovable;      // HTTP connections that became raw, by reason

  void add(const Statistics& other);
};

}  // namespace gecko::proxy
