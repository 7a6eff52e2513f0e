// The kernel's TCP counters of one network namespace: what a whole node or the client did, whoever's connection it was.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "lab/lab.hh"

namespace gecko::kit {

// "Tcp.RetransSegs", "Tcp.OutRsts", "TcpExt.TCPTimeouts" ... from /proc/net/snmp and netstat.
Result<std::map<std::string, uint64_t>> net_counters(const lab::Lab& lab, const std::string& host);
// Bytes on each interface of the host, both ways together, headers included: /proc/net/dev.
Result<std::map<std::string, uint64_t>> link_bytes(const lab::Lab& lab, const std::string& host);
// Sum over several hosts, of one counter. 0 for a counter this kernel does not have.
Result<uint64_t> net_counter(const lab::Lab& lab, const std::vector<std::string>& hosts, const std::string& name);

}  // namespace gecko::kit
