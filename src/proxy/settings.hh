// What geckoproxy was told to do; the same for all workers, unchanged while they run.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/address.hh"

namespace gecko::proxy {

enum class Mode { http, raw };   // http: connections can leave between requests; raw: they stay where they were placed

struct Settings {
  std::string group;                              // the group's file or name
  Endpoint server;                                // the unmodified server
  uint16_t port = 0;                              // of the group; 0: its only one
  Mode mode = Mode::http;
  bool proxy_protocol = false;
  std::string policy = "none";                    // of libgecko, at accept; the group's own works at the SYN already
  unsigned workers = 0;                            // on the command line 0: one per processor
  size_t max_connections = 0;                     // of this process; 0: what its descriptors allow
  size_t max_head = 64 << 10;                     // bytes of an HTTP head that are followed
  std::chrono::seconds connect_timeout{5};        // to the server
  std::chrono::seconds grace{10};                 // at SIGTERM: until requests in progress are cut off
  bool json = false;
};

}  // namespace gecko::proxy
