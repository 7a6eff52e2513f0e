// Lists that may be longer than one message allows: outcomes of a client's connections, in move_result and client_result. A full list
// (kMaxHints entries) is followed by another message of the same request; a shorter one, maybe empty, is the last.
#pragma once

#include <algorithm>
#include <iterator>
#include <vector>

#include "wire/link.hh"

namespace gecko::wire {

template <class T, class Send>
void in_parts(std::vector<T> all, Send send) {
  for (size_t at = 0;; at += kMaxHints) {
    const size_t count = std::min(kMaxHints, all.size() - at);
    const auto from = std::make_move_iterator(all.begin() + static_cast<ptrdiff_t>(at));
    send(std::vector<T>(from, from + static_cast<ptrdiff_t>(count)));
    if (count < kMaxHints) return;
  }
}

}  // namespace gecko::wire
