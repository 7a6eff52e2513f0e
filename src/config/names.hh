// Names that operators write: which are allowed, how they are shown in messages, what was probably meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gecko::config {

// A group or node name: [a-z0-9][a-z0-9-]{0,62}, so that it fits a DNS label, an SNI and a file name.
bool valid_name(std::string_view name);
inline constexpr std::string_view kNameRule = "a name is 1 to 63 of a-z, 0-9 and '-', not starting with '-'";

// 'text' for a message: quoted, control characters as \xNN, at most 80 characters.
std::string shown(std::string_view text);

// "; did you mean 'contact'?" for the nearest of `known` by edit distance, or "" if nothing is near.
std::string did_you_mean(std::string_view written, const std::vector<std::string>& known);

}  // namespace gecko::config
