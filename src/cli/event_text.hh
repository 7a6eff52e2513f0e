// One event (gecko.event/1) as a line for people: what `gecko events` and `gecko why` print.
#pragma once

#include "cli/command.hh"

namespace gecko::cli {

std::string event_time(const Json& event);   // "2026-11-22 05:10:03.123Z"
// Of another version's kinds only their name. Throws Json::exception where something is missing that belongs to its kind.
std::string event_text(const Json& event);
std::string event_phases(const Json& handoff);   // "prepare 0.21 ms, capture 0.12 ms, ..."

}  // namespace gecko::cli
