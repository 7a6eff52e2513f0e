// Words that operators write: how they are shown in messages, what was probably meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gecko::config {

// 'text' for a message: quoted, control characters as \xNN, at most 80 characters.
std::string shown(std::string_view text);

// "; did you mean 'contact'?" for the nearest of `known` by edit distance, or "" if nothing is near.
std::string did_you_mean(std::string_view written, const std::vector<std::string>& known);

}  // namespace gecko::config
