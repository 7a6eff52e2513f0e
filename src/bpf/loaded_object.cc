#include "bpf/loaded_object.hh"

#include <fcntl.h>
#include <sys/utsname.h>

namespace gecko::bpf {
namespace {

std::string kernel_release() {
  utsname name{};
  return uname(&name) == 0 ? name.release : "of this machine";
}

}  // namespace

Result<Fd> dup_fd(int fd, std::string_view what) {
  Fd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy) return os_error("duplicate descriptor of " + std::string(what));
  return copy;
}

Error load_error(const std::string& what, int err, const LibbpfLog& log) {
  const std::string doing = "load " + what + ": ";
  const std::string needs = "Gecko's " + what +
                            " need Linux >= 6.1 with CONFIG_BPF_SYSCALL, CONFIG_BPF_JIT, CONFIG_NET_CLS_BPF, CONFIG_NET_SCH_INGRESS "
                            "(this is " +
                            kernel_release() + ")";
  if (err == EPERM || err == EACCES)
    return make_error(Errc::permission, doing + "not permitted; the privileged process needs CAP_BPF and CAP_NET_ADMIN (or root). " + needs +
                                            "; kernel said: " + log.tail(600));
  if (err == ENOSYS) return make_error(Errc::unsupported, doing + "this kernel has no bpf(). " + needs);
  if (err == ENOMEM || err == E2BIG) return make_error(Errc::limit, doing + std::string(std::strerror(err)) + "; kernel said: " + log.tail());
  return make_error(Errc::unsupported, doing + std::string(std::strerror(err)) + ". " + needs + "; kernel said: " + log.tail());
}

}  // namespace gecko::bpf
