// gecko lab link: delay, loss and worse between two hosts of a lab. For lab.cc.
#pragma once

#include "cli/command.hh"
#include "lab/lab.hh"

namespace gecko::cli {

void add_lab_link(CLI::App& lab, Context& context, const std::shared_ptr<const std::string>& lab_name);
Json describe_links(const std::vector<lab::LinkReport>& links);

}  // namespace gecko::cli
