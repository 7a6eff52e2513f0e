// The eBPF maps of a running program, for tests that look at what it has told its kernel half, or make it forget.
#pragma once

#include <sys/types.h>

#include <string_view>

#include "base/fd.hh"

namespace gecko::system_test {

// The first of this name that the program has a descriptor of; an empty descriptor: it has none. Needs CAP_BPF.
Fd map_of(pid_t program, std::string_view name);

// Looks at each key; a map that changes meanwhile may show one twice, or not at all. `visit` may delete the key; false ends it.
template <class Key, class Visit>
void for_each_key(const Fd& map, Visit visit);

}  // namespace gecko::system_test

#include <bpf/bpf.h>

template <class Key, class Visit>
void gecko::system_test::for_each_key(const Fd& map, Visit visit) {
  Key key{}, next{};
  bool more = bpf_map_get_next_key(map.get(), nullptr, &next) == 0;
  while (more) {
    key = next;
    more = bpf_map_get_next_key(map.get(), &key, &next) == 0;
    if (!visit(key)) return;
  }
}
