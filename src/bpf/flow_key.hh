// A Flow as the map's key and back. Used inside bpf/ and by tests.
#pragma once

#include "base/address.hh"
#include "bpf/steer_shared.h"

namespace gecko::bpf {

gecko_flow_key to_key(const Flow& flow);
Flow from_key(const gecko_flow_key& key);

}  // namespace gecko::bpf
