// Who a certificate speaks for: "gecko://GROUP/node/NODE" for a node, "gecko://GROUP/ca" for a group's authority. One parser for
// everybody who reads or writes it; the names are those of the group file.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hh"

namespace gecko {

// A group or node name: [a-z0-9][a-z0-9-]{0,62}, so that it fits a DNS label, an SNI and a file name.
bool valid_name(std::string_view name);
inline constexpr std::string_view kNameRule = "a name is 1 to 63 of a-z, 0-9 and '-', not starting with '-'";

struct Identity {
  std::string group;
  std::string node;  // empty: the group's certificate authority

  bool is_authority() const { return node.empty(); }
  std::string uri() const;
  static Result<Identity> parse(std::string_view uri);
  bool operator==(const Identity&) const = default;
};

}  // namespace gecko
