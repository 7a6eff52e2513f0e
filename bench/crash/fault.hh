// The ways in which a node of a lab dies here, and which part it had.
#pragma once

#include <string>

#include "lab/lab.hh"

namespace gecko::bench {

enum class Fault { kill, cut, pause };        // SIGKILL to all of the node; its cable pulled; SIGSTOP to all of it
enum class Victim { owner, contact, both };   // of the clients' connections; the contact alone; one node that is both

std::string name_of(Fault fault);
std::string name_of(Victim victim);
Status strike(const lab::Lab& lab, Fault fault, const std::string& node);

}  // namespace gecko::bench
