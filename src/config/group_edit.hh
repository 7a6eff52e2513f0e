// Changes of a group file as its owner would make them by hand: comments, order and everything else stay as they are (docs/adr/0027). Pure: text
// in, text out. What comes out has been read again and says exactly what was wished, or the change is refused with what to write by hand.
#pragma once

#include "config/group_config.hh"

namespace gecko::config {

// One more [[node]], the last one: the numbers of the others stay. Errors: exists (name or address), invalid (the file, the node).
Result<std::string> with_node(std::string_view text, const std::string& file, const Node& node);
// 'removed = true' in that node's table: its number stays taken. Errors: not_found, exists (removed already), invalid.
Result<std::string> without_node(std::string_view text, const std::string& file, const std::string& name);

// The file's bytes, as load_group reads them.
Result<std::string> read_group_file(const std::string& file);
// In one step, so that nobody reads half of it, with the owner and mode that the file has.
Status replace_group_file(const std::string& file, std::string_view text);

}  // namespace gecko::config
