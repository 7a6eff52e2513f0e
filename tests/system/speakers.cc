#include "speakers.hh"

#include <algorithm>
#include <cstdio>
#include <set>

namespace gecko::system_test {
namespace {

std::string words_of(const lab_test::Tapped& packet, BootTime since) {
  char text[96];
  std::snprintf(text, sizeof text, " seq %u ack %u flags %02x, %.2f ms later", packet.seq, packet.ack, packet.flags,
                std::chrono::duration<double, std::milli>(packet.at - since).count());
  return packet.flow.str() + text;
}

}  // namespace

Result<std::unique_ptr<Speakers>> Speakers::listen(const lab::Lab& lab) {
  std::unique_ptr<Speakers> speakers(new Speakers(lab.group_address()));
  for (const auto& node : lab.nodes()) {
    // The router's port is named like the node.
    GECKO_TRY(speakers->taps_[node], lab_test::WireTap::start(lab.find("router")->network_namespace, node.c_str()));
  }
  return speakers;
}

Status Speakers::stop() {
  size_t lost = 0;
  for (auto& [node, tap] : taps_) {
    auto& heard = heard_[node] = tap->stop();
    lost += tap->lost();
    std::erase_if(heard, [&](const auto& packet) { return packet.flow.local.address != group_; });   // links between nodes
    std::ranges::stable_sort(heard, {}, &lab_test::Tapped::at);   // of two processors
  }
  taps_.clear();
  if (lost != 0) return make_error(Errc::internal, "the taps have lost " + std::to_string(lost) + " packets");
  return {};
}

size_t Speakers::said(const std::string& node, BootTime from, BootTime until) const {
  return static_cast<size_t>(std::ranges::count_if(heard_.at(node), [&](const auto& packet) { return packet.at >= from && packet.at < until; }));
}

size_t Speakers::said_of_former(const std::string& node, BootTime owned, BootTime from, BootTime until, std::string* first) const {
  std::set<Flow> former;
  size_t said = 0;
  for (const auto& packet : heard_.at(node)) {
    if (packet.at < owned) former.insert(packet.flow);
    if (packet.at < from || packet.at >= until || !former.contains(packet.flow)) continue;
    if (said++ == 0 && first != nullptr) *first = words_of(packet, from);
  }
  return said;
}

std::string Speakers::taken_back() const {
  struct Heard {
    const lab_test::Tapped* packet;
    const std::string* node;
  };
  std::map<Flow, std::vector<Heard>> by_flow;
  for (const auto& [node, heard] : heard_)
    for (const auto& packet : heard) by_flow[packet.flow].push_back({&packet, &node});
  std::string words;
  size_t more = 0;
  for (auto& [flow, heard] : by_flow) {
    std::ranges::stable_sort(heard, {}, [](const Heard& h) { return h.packet->at; });
    std::set<std::string> former;
    const Heard* speaker = nullptr;
    for (const auto& h : heard) {
      if (speaker != nullptr && *h.node != *speaker->node) former.insert(*speaker->node);
      if (!former.contains(*h.node)) {
        speaker = &h;
        continue;
      }
      if (words.empty()) words = *h.node + " speaks again after " + *speaker->node + " has: " + words_of(*h.packet, speaker->packet->at);
      else ++more;
      break;
    }
  }
  if (more != 0) words += "; and " + std::to_string(more) + " connections more";
  return words;
}

}  // namespace gecko::system_test
