// Any text: a group that satisfies the promises of group_config.hh, or errors that begin with the file's name.
#include <algorithm>

#include "base/identity.hh"
#include "config/group_config.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gecko;
  using namespace gecko::config;
  const auto group = parse_group({reinterpret_cast<const char*>(data), size}, "f");
  if (!group) {
    GECKO_ASSERT(group.error().message.starts_with("f:"));
    return 0;
  }
  GECKO_ASSERT(valid_name(group->name));
  GECKO_ASSERT(!group->nodes.empty() && group->nodes.size() <= kMaxNodes);
  GECKO_ASSERT(!group->ports.empty() && group->ports.size() <= kMaxPorts);
  GECKO_ASSERT(!group->contact.empty());
  for (const auto& name : group->contact) GECKO_ASSERT(group->find(name) != nullptr);
  for (const auto port : group->ports) GECKO_ASSERT(port != 0 && (port < group->outbound_first || port > group->outbound_last));
  for (const auto& node : group->nodes) {
    GECKO_ASSERT(valid_name(node.name) && !node.address.is_v4() && node.address != group->address && node.link_port != 0);
    GECKO_ASSERT(node.weight >= 1 && node.weight <= kMaxWeight);
    GECKO_ASSERT(&*group->find(node.name) == &node);
  }
  GECKO_ASSERT(group->outbound_first <= group->outbound_last);
  GECKO_ASSERT(group->interface.size() <= 15 && group->keys.starts_with('/'));
  GECKO_ASSERT(digest(*group).size() == 64);
  return 0;
}
