// The compiled steering programs (steer.bpf.c), embedded in this binary: an ELF object for libbpf. Used by steering.cc only.
#pragma once

#include <cstdint>
#include <span>

namespace gecko::bpf {

std::span<const uint8_t> steer_object();

}  // namespace gecko::bpf
