// Who may be connected to geckod's UNIX socket, which every local user can open: nobody can take the places of others.
#pragma once

#include <cstdint>
#include <map>

#include "base/result.hh"

namespace gecko::node {

class ProgramSlots {
 public:
  struct Limits {
    size_t all = 256;
    size_t not_root = 248;         // the last ones are for whoever has to repair something
    size_t strangers = 64;         // users that no [rights] list names, all together: they can ask for the status
    size_t one_stranger = 16;      // and each of them
  };
  ProgramSlots() : ProgramSlots(Limits{}) {}
  explicit ProgramSlots(Limits limits) : limits_(limits) {}

  // Takes a place. `listed`: some group's [rights] name this user. Errors: limit.
  Status take(uint32_t uid, bool listed);
  void give_back(uint32_t uid);

 private:
  struct User { size_t programs = 0, as_stranger = 0; };
  const Limits limits_;
  size_t all_ = 0, strangers_ = 0;
  std::map<uint32_t, User> users_;
};

}  // namespace gecko::node
