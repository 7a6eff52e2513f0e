// The operator's commands, as JSON on the API socket (docs/protocol/api.md, "admin"): every reply has a versioned schema.
#pragma once

#include <functional>
#include <string>

#include "net/channel.hh"

namespace gecko::node {

class Daemon;

// What is too long for a message becomes an error that says so.
std::string fitting(std::string json);
void administer(Daemon& daemon, const net::PeerCred& who, const std::string& json, std::function<void(std::string)> reply);

}  // namespace gecko::node
