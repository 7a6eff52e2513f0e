// What the service manager hears of geckod: ready, what it does, that it lives (base/service_manager.hh; packaging/geckod.service).
//
// geckod lives while both halves do: a sign of life is an answer of the privileged half to a question of this one, asked and told from the
// event loops that do all the work. A half that is stopped, or stuck in a loop, gives none, and all of geckod is started again. The lease
// keeper is not asked: whether it lives is the other nodes' business, and its death is not mended by a restart.
#pragma once

#include <string>

#include "base/service_manager.hh"
#include "net/loop.hh"

namespace gecko::node {

class Daemon;

class VitalSigns {
 public:
  VitalSigns(Daemon& daemon, ServiceManager manager) : daemon_(daemon), manager_(std::move(manager)) {}
  void start();         // the groups have been started
  void reloading();
  void reloaded();
  void stopping();

 private:
  void look();
  void ask();
  Daemon& daemon_;
  ServiceManager manager_;
  bool ready_ = false, asked_ = false;
  std::string said_;
};

}  // namespace gecko::node
