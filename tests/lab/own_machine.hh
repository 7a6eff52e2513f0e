// A machine of one's own for tests of labs: the test program lives in its own network and mount namespace with fresh /run/netns and /run/gecko, so
// that "the machine before == after" is compared exactly and nobody else's labs are in the picture. Linking this file is enough.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "lab/lab.hh"

namespace gecko::lab {

// Everything that a lab could leave behind.
std::multiset<std::string> machine();

LabOptions plain(const std::string& name, int nodes = 2);  // without daemons

std::string gecko_program();
struct Command {
  int code = -1;
  std::string out, err;
};
Command gecko(std::vector<std::string> arguments);

}  // namespace gecko::lab
