#include "node/confine.hh"

#include <cap-ng.h>
#include <grp.h>
#include <pwd.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <span>
#include <vector>

namespace gecko::node {
namespace {

Status no_new_privileges() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return os_error("prctl(PR_SET_NO_NEW_PRIVS)");
  // No core file, no ptrace by other processes of the same user: keys are in this memory (S1).
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return os_error("prctl(PR_SET_DUMPABLE)");
  return {};
}

// What an event loop over sockets and pipes needs. Everything else returns EPERM: an error that the log shows, rather than a death
// that drops connections.
constexpr int kLoopCalls[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendto),
    SCMP_SYS(close),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(socket),
    SCMP_SYS(bind),
    SCMP_SYS(listen),
    SCMP_SYS(connect),
    SCMP_SYS(accept4),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(shutdown),
    SCMP_SYS(ioctl),
    SCMP_SYS(fcntl),
    SCMP_SYS(dup),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(sched_yield),
    SCMP_SYS(getrandom),
    SCMP_SYS(futex),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(mprotect),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(openat),
    SCMP_SYS(open),
    SCMP_SYS(fstat),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(readlink),
    SCMP_SYS(lseek),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),   // the membership's state file, open already
    SCMP_SYS(fdatasync),
    SCMP_SYS(getdents64),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(tgkill),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(signalfd4),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(rseq),
    SCMP_SYS(getcpu),
    SCMP_SYS(wait4),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(set_robust_list),
};

constexpr int kTableCalls[] = {SCMP_SYS(bpf)};   // flow tables

// Sockets are accepted, never made; memory is needed for the gate's leases (mapped) and the allocator.
constexpr int kKeeperCalls[] = {
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(accept4),
    SCMP_SYS(getsockopt),
    SCMP_SYS(fcntl),
    SCMP_SYS(close),
    SCMP_SYS(write),   // the log
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(sched_yield),
    SCMP_SYS(futex),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

Status allow_only(std::initializer_list<std::span<const int>> lists) {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
  if (filter == nullptr) return make_error(Errc::internal, "seccomp_init failed");
  int error = 0;
  for (const auto& calls : lists)
    for (size_t i = 0; i < calls.size() && error == 0; ++i) error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
  if (error == 0) error = seccomp_load(filter);
  seccomp_release(filter);
  if (error != 0) return os_error("load the system call filter", -error);
  return {};
}

Status become(const std::string& user) {
  const passwd* entry = ::getpwnam(user.c_str());
  if (entry == nullptr)
    return make_error(Errc::not_found, "user '" + user + "' does not exist; create it ('adduser --system --group " + user + "') or name another with --user");
  if (entry->pw_uid == 0) return make_error(Errc::permission, "what reads the network must not run as root; name another user with --user");
  // The name service's libraries are loaded now: afterwards [rights] is looked up through them.
  if (::setgroups(0, nullptr) != 0 || ::setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) != 0 ||
      ::setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) != 0)
    return os_error("become user '" + user + "'");
  return {};
}

// For good: no capability, and only these system calls.
Status lock_up(std::initializer_list<std::span<const int>> calls) {
  capng_clear(CAPNG_SELECT_BOTH);
  if (capng_apply(CAPNG_SELECT_CAPS) != 0) return make_error(Errc::internal, "dropping all capabilities failed");
  GECKO_CHECK(no_new_privileges());
#ifdef GECKO_ASAN
  (void)calls;
  return {};   // the sanitizer's own system calls are many
#else
  return allow_only(calls);
#endif
}

}  // namespace

Status confine_unprivileged(const std::string& user) {
  GECKO_CHECK(become(user));
  return lock_up({kLoopCalls, kTableCalls});
}

Status confine_witness(const std::string& user) {
  if (::geteuid() == 0) GECKO_CHECK(become(user));
  return lock_up({kLoopCalls});
}

Status confine_privileged() {
  std::vector<int> kept{CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_NET_BIND_SERVICE, CAP_CHOWN, CAP_DAC_OVERRIDE};
  for (const int wish : {CAP_SYS_NICE, CAP_IPC_LOCK})
    if (capng_have_capability(CAPNG_PERMITTED, static_cast<unsigned>(wish)) != 0) kept.push_back(wish);
  capng_clear(CAPNG_SELECT_BOTH);
  for (const int capability : kept)
    capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED), static_cast<unsigned>(capability));
  if (capng_apply(CAPNG_SELECT_CAPS) != 0) return make_error(Errc::internal, "dropping capabilities failed");
  return no_new_privileges();
}

Status confine_keeper() { return lock_up({kKeeperCalls}); }

}  // namespace gecko::node
