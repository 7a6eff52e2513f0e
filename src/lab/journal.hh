// What a lab is made of, written to /run/gecko/lab/NAME/journal before any of it exists: whoever comes later, also after kill -9,
// can remove all of it. One "key value" per line; the last line, "complete", is added when everything stands.
#pragma once

#include <string>
#include <vector>

#include "lab/topology.hh"

namespace gecko::lab {

struct Journal {
  LabOptions options;
  std::vector<std::string> namespaces;
  bool complete = false;

  std::string text() const;
  // Never fails: a journal cut short by a crash yields what it has (nothing can have been created after its missing part).
  static Journal parse(std::string_view text);
};

}  // namespace gecko::lab
