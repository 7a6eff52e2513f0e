// The compiled gate (gate.bpf.c), embedded in this binary: an ELF object for libbpf. Used by gate.cc only.
#pragma once

#include <cstdint>
#include <span>

namespace gecko::bpf {

std::span<const uint8_t> gate_object();

}  // namespace gecko::bpf
