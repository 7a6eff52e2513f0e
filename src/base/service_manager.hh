// What a service manager wants to hear (the protocol of sd_notify(3)): that a service is ready, what it does, that it lives. Datagrams to the
// socket that the environment names; without one every call does nothing. By hand, because the library that has it would be in a process
// that parses the network, for four words.
//
// The socket is connected when it is found: after that a process may give up its rights, and needs no system call but sendto. Never blocks; a
// word that finds no room is lost, so `alive` and `status` are to be said again from time to time.
#pragma once

#include <string>
#include <string_view>

#include "base/clock.hh"
#include "base/fd.hh"
#include "base/result.hh"

namespace gecko {

class ServiceManager {
 public:
  ServiceManager() = default;   // there is none
  // $NOTIFY_SOCKET (a path, or "@name" in the abstract namespace), $WATCHDOG_USEC, $WATCHDOG_PID. Nothing there: none, and no error.
  static Result<ServiceManager> find();

  bool listens() const { return static_cast<bool>(socket_); }
  // Without a sign of life of this process for so long it is killed and started again; zero: nobody waits for one.
  Duration watchdog() const { return watchdog_; }

  void ready(std::string_view status) const;   // also: the reload is over
  void reloading() const;
  void stopping() const;
  void alive() const;
  void status(std::string_view text) const;    // one line

 private:
  void say(const std::string& words) const;
  Fd socket_;
  Duration watchdog_{};
};

}  // namespace gecko
