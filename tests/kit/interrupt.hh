// ^C (and TERM, HUP) as a question instead of an end: programs that own a lab look now and then, return from main, and so clean up.
// A second signal ends the process at once; the lab's journal is enough for `gecko lab down` then.
#pragma once

namespace gecko::kit {

void catch_interrupts();
bool interrupted();
int interrupting_signal();  // 0: none yet. For the exit code: 128 + signal

}  // namespace gecko::kit
