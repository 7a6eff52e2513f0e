#include "base/result.hh"

namespace gecko {

Error os_error(std::string_view doing, int err) {
  Errc code = Errc::internal;
  switch (err) {
    case ENOENT: case ESRCH: case ENODEV: case ENXIO: code = Errc::not_found; break;
    case EACCES: case EPERM: code = Errc::permission; break;
    case EADDRINUSE: case EEXIST: code = Errc::exists; break;
    case ECONNREFUSED: case ECONNRESET: case EPIPE: case EHOSTUNREACH: case ENETUNREACH: code = Errc::unavailable; break;
    case ETIMEDOUT: code = Errc::timeout; break;
    case EMFILE: case ENFILE: case ENOMEM: case ENOBUFS: case ENOSPC: code = Errc::limit; break;
    case EINVAL: code = Errc::invalid; break;
    case ENOTCONN: case ECONNABORTED: code = Errc::closed; break;
    case ENOSYS: case EOPNOTSUPP: case ENOPROTOOPT: code = Errc::unsupported; break;
    default: break;
  }
  return Error{code, std::string(doing) + ": " + std::strerror(err)};
}

void assertion_failed(const char* what, const char* file, int line) {
  std::fprintf(stderr, "gecko: bug: assertion '%s' failed at %s:%d; please report it with this line\n", what, file, line);
  std::abort();
}

}  // namespace gecko
