#include "proxy/statistics.hh"

namespace gecko::proxy {

void Statistics::add(const Statistics& o) {
  accepted += o.accepted;
  arrived += o.arrived;
  moved += o.moved;
  postponed += o.postponed;
  move_failed += o.move_failed;
  detours += o.detours;
  requests += o.requests;
  bytes_in += o.bytes_in;
  bytes_out += o.bytes_out;
  server_failed += o.server_failed;
  reset += o.reset;
  waited += o.waited;
  recovered += o.recovered;
  continued += o.continued;
  repeated += o.repeated;
  resumed += o.resumed;
  refused += o.refused;
  for (const auto& [reason, count] : o.cut) cut[reason] += count;
  for (const auto& [reason, count] : o.unmovable) unmovable[reason] += count;
}

}  // namespace gecko::proxy
