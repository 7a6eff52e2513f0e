// One crash: a lab whose clients' connections are all at one node, the fault, and what each client saw of it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "kit/client.hh"
#include "kit/statistics.hh"

namespace gecko::bench {

enum class Fault { kill, cut, pause };          // SIGKILL to all of the node; its cable pulled; SIGSTOP to all of it
enum class Victim { owner, contact, both };     // of the clients' connections; the contact alone; one node that is both

std::string name_of(Fault fault);
std::string name_of(Victim victim);

struct CrashOptions {
  Fault fault = Fault::kill;
  Victim victim = Victim::owner;
  int clients = 6;              // of each kind
  bool ipv4 = false;
};

// Milliseconds. A gap is the longest silence that overlaps the three seconds after the fault; baseline: the same over three seconds before.
struct CrashResult {
  kit::Samples server_speaks_ms, client_speaks_ms, baseline_server_ms, baseline_client_ms;
  kit::Totals totals;
  std::string first_failure;
  void add(const CrashResult& other);
  nlohmann::json json() const;
};

Result<CrashResult> crash(const CrashOptions& options);

// `connections` idle ones of a node that is killed; then all their clients speak. Milliseconds from the kill until the last answer.
struct ManyResult {
  size_t connections = 0, answered = 0;
  double last_served_ms = 0;
  std::string first_failure;
};
Result<ManyResult> crash_with_many(size_t connections);

}  // namespace gecko::bench
