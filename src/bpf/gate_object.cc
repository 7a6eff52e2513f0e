#include "bpf/gate_object.hh"

// clang-format off
asm(".section .rodata\n"
    ".balign 16\n"
    "gecko_gate_object_begin:\n"
    ".incbin \"" GECKO_GATE_OBJECT "\"\n"
    "gecko_gate_object_end:\n"
    ".byte 0\n"
    ".previous\n");
// clang-format on

extern "C" {
extern const uint8_t gecko_gate_object_begin[] __attribute__((visibility("hidden")));
extern const uint8_t gecko_gate_object_end[] __attribute__((visibility("hidden")));
}

namespace gecko::bpf {

std::span<const uint8_t> gate_object() { return {gecko_gate_object_begin, gecko_gate_object_end}; }

}  // namespace gecko::bpf
