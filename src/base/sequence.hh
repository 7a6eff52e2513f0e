// TCP's sequence numbers and clocks: 32 bits that come round (RFC 9293 section 3.4, RFC 7323 section 5.2).
#pragma once

#include <cstdint>

namespace gecko {

// `a` is later than `b`. Of two numbers that are half a circle apart each is later than the other, as in Linux.
constexpr bool seq_after(uint32_t a, uint32_t b) { return static_cast<int32_t>(b - a) < 0; }

}  // namespace gecko
