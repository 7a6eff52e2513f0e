#include "lab/journal.hh"

#include <charconv>

namespace gecko::lab {
namespace {

template <class T>
void read_number(std::string_view text, T& to) {
  T value{};
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc{}) to = value;
}

}  // namespace

std::string Journal::text() const {
  std::string text = "lab " + options.name + "\n"
                     "nodes " + std::to_string(options.nodes) + "\n"
                     "ipv4 " + std::to_string(options.ipv4) + "\n"
                     "mbit " + std::to_string(options.mbit) + "\n"
                     "policy " + options.policy + "\n"
                     "home " + std::to_string(options.return_path == config::ReturnPath::home) + "\n"
                     "daemons " + std::to_string(options.daemons) + "\n";
  for (const uint32_t weight : options.weights) text += "weight " + std::to_string(weight) + "\n";
  if (options.rebalance) text += "rebalance 1\n";
  if (options.witness) text += "witness 1\n";
  if (options.lease_ms != 0) text += "lease_ms " + std::to_string(options.lease_ms) + "\n";
  if (options.recovery != "none") text += "recovery " + options.recovery + "\n";
  if (options.backups != 1) text += "backups " + std::to_string(options.backups) + "\n";
  for (const uint16_t port : options.ports) text += "port " + std::to_string(port) + "\n";
  if (!options.owner.empty()) text += "owner " + options.owner + "\n";
  for (const auto& name : namespaces) text += "namespace " + name + "\n";
  if (complete) text += "complete\n";
  return text;
}

Journal Journal::parse(std::string_view text) {
  Journal journal;
  journal.options.ports.clear();
  for (size_t end; (end = text.find('\n')) != std::string_view::npos; text.remove_prefix(end + 1)) {
    const std::string_view line = text.substr(0, end);
    const size_t space = line.find(' ');
    const std::string_view key = line.substr(0, space), value = space == std::string_view::npos ? "" : line.substr(space + 1);
    LabOptions& o = journal.options;
    if (key == "lab") o.name = value;
    else if (key == "nodes") read_number(value, o.nodes);
    else if (key == "ipv4") o.ipv4 = value == "1";
    else if (key == "mbit") read_number(value, o.mbit);
    else if (key == "policy") o.policy = value;
    else if (key == "weight") read_number(value, o.weights.emplace_back());
    else if (key == "rebalance") o.rebalance = value == "1";
    else if (key == "witness") o.witness = value == "1";
    else if (key == "recovery") o.recovery = value;
    else if (key == "backups") read_number(value, o.backups);
    else if (key == "lease_ms") read_number(value, o.lease_ms);
    else if (key == "home") o.return_path = value == "1" ? config::ReturnPath::home : config::ReturnPath::direct;
    else if (key == "daemons") o.daemons = value == "1";
    else if (key == "port") read_number(value, o.ports.emplace_back());
    else if (key == "owner") o.owner = value;
    else if (key == "namespace") journal.namespaces.emplace_back(value);
    else if (key == "complete") journal.complete = true;
  }
  return journal;
}

}  // namespace gecko::lab
