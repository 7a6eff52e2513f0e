// geckod as the lab runs it: where its program is, how it is started on a node, and when it is ready. Used by the lab's own files only.
#pragma once

#include "lab/lab.hh"

namespace gecko::lab {

// One of ours: beside the running program, else in PATH. Errors: not_found.
Result<std::string> find_program(const std::string& name);
Status start_geckod(const Lab& lab, const Host& host, const std::string& program);
// Processes of the namespace that run geckod: its two halves. The lease keeper, which outlives them for a moment, does not count.
std::vector<pid_t> geckods_in(const std::string& network_namespace);
// One look: does geckod on `node` answer, and does it see all of `among`? The error says what is missing.
Status look_ready(const Lab& lab, const std::string& node, const std::vector<std::string>& among);
std::string last_line(const std::string& file);   // that is not empty

}  // namespace gecko::lab
