// All entries of a table of connections. What flow_table.cc and gate_table.cc share; inside bpf/ only.
#pragma once

#include <bpf/bpf.h>

#include <functional>
#include <string_view>
#include <vector>

#include "base/result.hh"
#include "bpf/flow_key.hh"

namespace gecko::bpf {

// In batches: 262144 entries are 64 system calls instead of half a million. `most`: max_entries of the map; `doing`: for the error.
template <class Entry>
Status for_each_entry(int map, uint32_t most, std::string_view doing, const std::function<void(const Flow&, const Entry&)>& visit) {
  // A batch holds whole hash buckets, so it must be larger than the fullest bucket (the kernel answers ENOSPC otherwise).
  uint32_t batch_size = 4096;
  std::vector<gecko_flow_key> keys(batch_size);
  std::vector<Entry> entries(batch_size);
  uint32_t position = 0;
  bool first = true;
  for (;;) {
    uint32_t count = batch_size;
    LIBBPF_OPTS(bpf_map_batch_opts, opts);
    const int failed = bpf_map_lookup_batch(map, first ? nullptr : &position, &position, keys.data(), entries.data(), &count, &opts);
    if (failed != 0 && errno == ENOSPC && batch_size < most) {
      batch_size *= 2;
      keys.resize(batch_size);
      entries.resize(batch_size);
      continue;
    }
    if (failed != 0 && errno != ENOENT) return os_error(std::string(doing));
    const bool last = failed != 0;
    for (uint32_t i = 0; i < count; ++i) visit(from_key(keys[i]), entries[i]);
    if (last) return {};
    first = false;
  }
}

}  // namespace gecko::bpf
