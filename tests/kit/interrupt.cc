#include "kit/interrupt.hh"

#include <signal.h>

#include <initializer_list>

namespace gecko::kit {
namespace {
volatile sig_atomic_t g_signal = 0;
void note(int number) { g_signal = number; }
}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) (void)sigaction(number, &action, nullptr);
  (void)signal(SIGPIPE, SIG_IGN);
}

bool interrupted() { return g_signal != 0; }
int interrupting_signal() { return g_signal; }

}  // namespace gecko::kit
