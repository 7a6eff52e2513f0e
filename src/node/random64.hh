// 64 random bits from the kernel, for names of lives, disks and views.
#pragma once

#include <cstring>

#include "base/address.hh"

namespace gecko::node {

inline uint64_t random64() {
  uint64_t value = 0;
  std::memcpy(&value, ConnId::random().bytes.data(), sizeof value);
  return value;
}

}  // namespace gecko::node
