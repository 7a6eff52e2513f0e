// The filter that makes a socket deaf: every packet is dropped silently, no acknowledgement, no reset, while the kernel
// keeps the socket in its tables. For freeze, restore, thaw and activate.
//
// One eBPF program is loaded once per process and only referenced by each socket (0.6 us measured); where the process
// may not load one, a classic filter is compiled for every socket (7 us). Thread-safe.
#pragma once

#include "base/result.hh"

namespace gecko::tcp {

// Loads the program now, for processes that give up bpf(2) later (seccomp, capabilities). Not an error if refused: says
// whether the fast path is available.
bool prepare_deaf_filter();

bool make_deaf(int fd);      // false: errno says why
bool make_hearing(int fd);   // a socket without a filter is not an error

enum class FilterKind { none, classic, ebpf };
// What is attached now, whoever attached it.
FilterKind attached_filter(int fd);

}  // namespace gecko::tcp
