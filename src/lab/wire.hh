// The wire: the process that carries the packets of a lab's links (docs/adr/0023). One per lab that has links, in the router's namespace, so that
// `down` ends it with everything else there; it ends by itself when the last link is cleared. Started by Lab::link as `gecko lab wire`.
//
// For each direction of a link it has a device, into which the router's rules (link_rules.hh) put the packets, and a Line (line.hh) that says when
// they come out; then they are sent at the port of the host they are for. The device takes no offloads: the kernel cuts large packets and fills in
// checksums before the wire sees them, so that a fate is the fate of one packet as a cable would carry it, and a turned bit is noticed.
#pragma once

#include "lab/lab.hh"

namespace gecko::lab {

std::string wire_socket(const Lab& lab);

// Serves until the last link is cleared. Call it on a thread that has entered the router's namespace. Errors: exists (there is one already).
Status run_wire(const Lab& lab);

}  // namespace gecko::lab
