#include "base/result.hh"

namespace gecko {

std::string_view to_string(Errc code) {
  switch (code) {
    case Errc::internal: return "internal";
    case Errc::invalid: return "invalid";
    case Errc::not_found: return "not-found";
    case Errc::refused: return "refused";
    case Errc::busy: return "busy";
    case Errc::unavailable: return "unavailable";
    case Errc::timeout: return "timeout";
    case Errc::permission: return "permission";
    case Errc::limit: return "limit";
    case Errc::unsupported: return "unsupported";
    case Errc::closed: return "closed";
    case Errc::moved: return "moved";
    case Errc::exists: return "exists";
    case Errc::version: return "version";
  }
  return "unknown";
}

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
