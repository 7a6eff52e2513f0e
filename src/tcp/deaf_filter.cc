#include "tcp/deaf_filter.hh"

#include <linux/bpf.h>
#include <linux/filter.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace gecko::tcp {
namespace {

int load_program() {
  bpf_insn instructions[2] = {};
  instructions[0].code = BPF_ALU64 | BPF_MOV | BPF_K;  // r0 = 0: keep no byte of the packet
  instructions[1].code = BPF_JMP | BPF_EXIT;
  static const char license[] = "Dual BSD/GPL";
  bpf_attr attr{};
  attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attr.insns = reinterpret_cast<uintptr_t>(instructions);
  attr.insn_cnt = 2;
  attr.license = reinterpret_cast<uintptr_t>(license);
  __builtin_memcpy(attr.prog_name, "gecko_deaf", 11);
  return static_cast<int>(::syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr));  // the kernel makes it close-on-exec
}

int program() {
  static const int fd = load_program();
  return fd;
}

}  // namespace

bool prepare_deaf_filter() { return program() >= 0; }

bool make_deaf(int fd) {
  const int fast = program();
  if (fast >= 0 && ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &fast, sizeof fast) == 0) return true;
  sock_filter drop_all{BPF_RET | BPF_K, 0, 0, 0};
  const sock_fprog classic{1, &drop_all};
  return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &classic, sizeof classic) == 0;
}

bool make_hearing(int fd) {
  const int unused = 0;
  return ::setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused) == 0 || errno == ENOENT;
}

FilterKind attached_filter(int fd) {
  socklen_t instructions = 0;  // asks only for the length
  if (::getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, nullptr, &instructions) != 0)
    return errno == EACCES ? FilterKind::ebpf : FilterKind::none;  // an eBPF program has no classic form to show
  return instructions != 0 ? FilterKind::classic : FilterKind::none;
}

}  // namespace gecko::tcp
