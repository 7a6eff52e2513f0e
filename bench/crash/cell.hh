// One crash of a node under Gecko: a lab whose clients' connections are all at one node, the fault, and what each client saw of it.
#pragma once

#include "clients.hh"
#include "fault.hh"

namespace gecko::bench {

struct CrashOptions {
  Fault fault = Fault::kill;
  Victim victim = Victim::owner;
  std::string recovery = "fast";   // of the group
  bool ipv4 = false;
  CrashClients clients;
};

struct CrashResult {
  Gaps server_speaks, client_speaks;
  kit::Totals totals;
  std::string first_failure;
  void add(const CrashResult& other);
};

Result<CrashResult> crash(const CrashOptions& options);

}  // namespace gecko::bench
