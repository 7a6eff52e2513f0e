// One simulated group of a recovery run: its members and links, its clients' network, how its connections are protected.
#pragma once

#include "sim/engine/network.hh"
#include "sim/membership/settings.hh"

namespace gecko::sim {

struct RecoverySettings {
  MemberSettings group;
  NetworkShape links;                                             // between geckods: TLS over TCP, in order, cut as a whole
  uint16_t backups = 1;                                           // k
  bool replicated = true;                                         // else recovery = "fast"
  Duration mirror_interval = std::chrono::milliseconds(5);
  Duration api_delay = std::chrono::microseconds(30);             // application <-> geckod
  Duration command_max = std::chrono::microseconds(300);          // the privileged half's restore and activate
  Duration client_delay_min = std::chrono::microseconds(200), client_delay_max = std::chrono::milliseconds(3);   // packets overtake each other
  double client_loss = 0.01, client_doubled = 0.01;
  double astray = 0.02;                                           // of the clients' packets: steered to any node
  double checkpoints = 0.3;                                       // of the program's answers
};

}  // namespace gecko::sim
