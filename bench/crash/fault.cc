#include "fault.hh"

namespace gecko::bench {

std::string name_of(Fault fault) { return fault == Fault::kill ? "kill" : fault == Fault::cut ? "cut" : "pause"; }
std::string name_of(Victim victim) { return victim == Victim::owner ? "owner" : victim == Victim::contact ? "contact" : "both"; }

Status strike(const lab::Lab& lab, Fault fault, const std::string& node) {
  GECKO_TRY(const auto mine, lab::Lab::open(lab.options().name));   // a scene's own is not to be changed by others
  switch (fault) {
    case Fault::kill: return mine->kill(node);
    case Fault::cut: return mine->cut(node);
    case Fault::pause: return mine->pause(node);
  }
  return {};
}

}  // namespace gecko::bench
