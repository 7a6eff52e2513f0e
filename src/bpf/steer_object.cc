#include "bpf/steer_object.hh"

// clang-format off
asm(".section .rodata\n"
    ".balign 16\n"
    "gecko_steer_object_begin:\n"
    ".incbin \"" GECKO_STEER_OBJECT "\"\n"
    "gecko_steer_object_end:\n"
    ".byte 0\n"
    ".previous\n");
// clang-format on

extern "C" {
extern const uint8_t gecko_steer_object_begin[] __attribute__((visibility("hidden")));
extern const uint8_t gecko_steer_object_end[] __attribute__((visibility("hidden")));
}

namespace gecko::bpf {

std::span<const uint8_t> steer_object() { return {gecko_steer_object_begin, gecko_steer_object_end}; }

}  // namespace gecko::bpf
