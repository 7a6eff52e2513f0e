// What geckod was told on its command line, and the group files it read: fixed for the life of the process.
#pragma once

#include <string>
#include <vector>

#include "base/log.hh"
#include "config/group_config.hh"

namespace gecko::node {

struct Options {
  std::string node;                        // this node's name in every group file
  std::vector<config::GroupConfig> groups;
  std::string runtime_dir = "/run/gecko";  // API socket, journal, key copies
  std::string state_dir = "/var/lib/gecko";   // who is a member, as of this node's last word: outlives the machine
  std::string keys;                        // key directory; empty: the group's own, or /etc/gecko/keys/GROUP
  std::string user;                        // the unprivileged half runs as this user
  int cpu = -1;                            // both halves on this CPU; -1: the scheduler's choice
  bool witness = false;                    // votes only (docs/adr/0029)
  int spin_us = 50;                        // poll without sleeping for so long after each step of a handoff in flight; 0: never
};

// The index of a node address across all groups of this node: what the steering program knows nodes by.
class NodeNumbers {
 public:
  explicit NodeNumbers(const std::vector<config::GroupConfig>& groups);
  uint16_t of(const Address& underlay) const;                 // must exist

 private:
  std::vector<Address> addresses_;
};

// The slice of the outbound range that belongs to the node at `index`, which serves.
struct PortSlice { uint16_t first = 0, count = 0; };
PortSlice outbound_slice(const config::GroupConfig& group, size_t index);

// Whether `flow` can belong to `group`: on its address, at a service port or in the outbound range.
bool belongs(const config::GroupConfig& group, const Flow& flow);

}  // namespace gecko::node
