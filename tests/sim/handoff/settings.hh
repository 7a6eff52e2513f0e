// One simulated group: its size, its speeds, and how often its parts fail by themselves (not by the fault injector).
#pragma once

#include <string>

#include "core/handoff.hh"
#include "sim/engine/network.hh"

namespace gecko::sim {

struct Settings {
  uint16_t nodes = 3;
  NetworkShape network;
  core::HandoffLimits limits;
  Duration command_min = std::chrono::microseconds(20), command_max = std::chrono::microseconds(200);  // freeze, restore, ...
  Duration api_delay = std::chrono::microseconds(50);             // application <-> daemon
  Duration think_max = std::chrono::milliseconds(2);              // application, per request
  Duration client_pause = std::chrono::milliseconds(100);         // between requests of one client
  Duration register_max = std::chrono::milliseconds(1500);        // after a daemon's restart
  Duration contact_change = std::chrono::milliseconds(50);
  double command_fails = 0.01;     // freeze, restore, activate, check; a yield is refused twice as often
  std::string fails_once;          // scripted: this command fails the first time it is given
  double command_is_slow = 0.003;  // beyond the step's timeout
  double late_segment = 0.5;       // of the segments that come to a frozen connection: was past all filters, is taken and acknowledged
};

}  // namespace gecko::sim
