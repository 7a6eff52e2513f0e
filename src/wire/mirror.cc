#include "wire/mirror.hh"

namespace gecko::wire {

Status validate(const Mirror& m) {
  if (m.handle == 0) return make_error(Errc::invalid, "mirror of " + m.tcp.flow.str() + " refused: it has no handle");
  if (m.epoch == 0) return make_error(Errc::invalid, "mirror of " + m.tcp.flow.str() + " refused: it has no epoch");
  return validate(m.tcp);
}

}  // namespace gecko::wire
