#include "config/group_config.hh"

#include <openssl/evp.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "base/identity.hh"
#include "config/group_edit.hh"
#include "config/words.hh"
#include "config/section.hh"

namespace gecko::config {
namespace {

// Connections per node: what the flow table of the steering program holds (GECKO_MAX_FLOWS).
constexpr int64_t kMostConnections = 262144;
// A segment that is held is at most 64 KiB (GSO); fewer bytes than this could not hold one window of one connection.
constexpr uint64_t kLeastHeldBytes = 1u << 20;
constexpr uint64_t kMostHeldBytes = 64ull << 30;

// What a policy may wait for before it places a client: the head of a request, well below what the kernel buffers unread.
constexpr int64_t kMostFirstBytes = 65536;

// Each costs a copy of every mirror; more nodes than this at once are a disaster, not a failure.
constexpr int64_t kMostBackups = 4;

class GroupReader {
 public:
  GroupReader(const toml::table& root, const std::string& file) : root_(root), errors_(file) { group_.file = file; }

  Result<GroupConfig> read() {
    report_unknown(errors_, root_, "the file", {"group", "node", "limits", "membership", "rights"});
    read_nodes();
    read_group();
    read_limits();
    read_membership();
    read_rights();
    if (!errors_.empty()) return make_error(Errc::invalid, errors_.str());
    return std::move(group_);
  }

 private:
  // The table [name]; a missing one reads as empty, another type is an error.
  Section section(const char* name, bool required) {
    const auto* node = root_.get(name);
    const std::string written = std::string("[") + name + "]";
    if (node == nullptr) {
      if (required) errors_.add({1, 1}, written + " is missing: a group file has [group] and one [[node]] per node");
      return Section(errors_, nullptr, written, {1, 1});
    }
    if (node->as_table() == nullptr) errors_.add(node->source().begin, "'" + std::string(name) + "' must be a table: write " + written);
    return Section(errors_, node->as_table(), written, node->source().begin);
  }

  void check_unicast(const char* what, const Located<Address>& address) {
    const auto& bytes = address.value.bytes;
    const bool v4 = address.value.is_v4();
    const char* why = nullptr;
    if (address.value.is_unspecified() || (v4 && bytes[12] == 0)) why = "is the unspecified address";
    else if (v4 ? bytes[12] >= 224 : bytes[0] == 0xff) why = "is a multicast or broadcast address";
    else if (v4 ? bytes[12] == 169 && bytes[13] == 254 : bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80) why = "is link-local, it has no meaning on other links";
    if (why != nullptr)
      errors_.add(address.where, std::string(what) + " " + address.value.str() + " " + why + "; use a global or unique local unicast address");
  }

  void read_nodes() {
    const auto* node = root_.get("node");
    if (node == nullptr) {
      errors_.add({1, 1}, "[[node]] is missing: write one [[node]] with name and address per node");
      return;
    }
    const auto* array = node->as_array();
    if (array == nullptr || !array->is_array_of_tables()) {
      errors_.add(node->source().begin, "'node' must be written as [[node]], with two brackets, once per node");
      return;
    }
    if (array->size() > kMaxNodes)
      errors_.add(array->get(kMaxNodes)->source().begin,
                  "a group has at most " + std::to_string(kMaxNodes) + " nodes, this is number " + std::to_string(kMaxNodes + 1));
    for (const auto& element : *array) read_node(*element.as_table());
    if (!group_.nodes.empty() && group_.present_nodes() == 0)
      errors_.add(array->source().begin, "every [[node]] is removed: none would serve; take 'removed' from one of them");
    else if (!group_.nodes.empty() && group_.serving_nodes() == 0)
      errors_.add(witness_where_, group_.present_nodes() == group_.nodes.size()
                                      ? "every [[node]] is a witness: none would serve; take 'witness' from one of them"
                                      : "every [[node]] is removed or a witness: none would serve; take 'removed' or 'witness' from one of them");
  }

  void read_node(const toml::table& table) {
    Section section(errors_, &table, "[[node]]", table.source().begin);
    const auto name = section.text("name", Section::required);
    const auto address = section.address("address", Section::required);
    const auto port = section.integer("port", 1, 65535);
    const auto weight = section.integer("weight", 1, kMaxWeight);
    const auto removed = section.boolean("removed");
    const auto witness = section.boolean("witness");
    section.finish();
    Node node;
    if (name) {
      node.name = name->value;
      if (!valid_name(node.name)) errors_.add(name->where, "node name " + shown(node.name) + ": " + std::string(kNameRule));
      else if (group_.find(node.name) != nullptr) errors_.add(name->where, "node name " + shown(node.name) + " is used twice");
    }
    if (address) {
      node.address = address->value;
      check_unicast("node address", *address);
      if (node.address.is_v4())
        errors_.add(
            address->where,
            "node address " + node.address.str() +
                " is IPv4; node links and encapsulation are IPv6 (a unique local address does: fd00::1), only the group's address may be IPv4");
      for (const auto& other : group_.nodes)
        if (other.address == node.address)
          errors_.add(address->where, "node address " + node.address.str() + " belongs to node " + shown(other.name) + " already");
    }
    if (port) node.link_port = static_cast<uint16_t>(port->value);
    if (weight) node.weight = static_cast<uint32_t>(weight->value);
    if (weight && !weighed_) weighed_ = weight->where;
    node.removed = removed && removed->value;
    if (witness && witness->value) read_witness(node, *witness, weight ? std::optional(weight->where) : std::nullopt);
    if (node.serves() && group_.serving_nodes() == kMaxServing)
      errors_.add(table.source().begin, "node " + shown(node.name) + " is number " + std::to_string(kMaxServing + 1) +
                                            " of those that serve, a group has at most " + std::to_string(kMaxServing) +
                                            " and a witness; make a second group, or write 'removed = true' into the [[node]] of one that is gone");
    // Kept even when something is wrong with it: contacts that name it are not a second error.
    if (name) group_.nodes.push_back(node);
  }

  void read_witness(Node& node, const Located<bool>& witness, std::optional<Position> weight) {
    node.witness = true;
    if (node.removed) return;   // its place may be another one's
    witness_where_ = witness.where;
    if (weight) errors_.add(*weight, "'weight' has no effect on a witness: it gets no connections; leave it out");
    for (const auto& other : group_.nodes)
      if (other.witness && !other.removed)
        errors_.add(witness.where, "node " + shown(other.name) + " is the witness already; a second one would make a majority harder to reach, not easier");
  }

  void read_group() {
    Section section = this->section("group", true);
    if (root_.get("group") == nullptr || root_.get("group")->as_table() == nullptr) return;  // said already
    if (const auto name = section.text("name", Section::required)) {
      group_.name = name->value;
      if (!valid_name(group_.name)) errors_.add(name->where, "group name " + shown(group_.name) + ": " + std::string(kNameRule));
    }
    if (const auto address = section.address("address", Section::required)) {
      group_.address = address->value;
      check_unicast("group address", *address);
      const bool loopback = group_.address.is_v4() ? group_.address.bytes[12] == 127 : group_.address == *Address::parse("::1");
      if (loopback) errors_.add(address->where, "group address " + group_.address.str() + " is a loopback address: no client can reach it");
      for (const auto& node : group_.nodes)
        if (node.address == group_.address)
          errors_.add(address->where, "group address " + group_.address.str() + " is also the address of node " + shown(node.name) +
                                          "; the group needs one of its own");
    }
    const auto ports = section.integers("ports", 1, 65535, Section::required);
    if (ports) read_ports(*ports);
    if (const auto contact = section.texts("contact", false)) read_contact(*contact);
    else
      for (const auto& node : group_.nodes)
        if (node.serves()) group_.contact.push_back(node.name);
    const std::vector<std::string> policies(std::begin(kPolicies), std::end(kPolicies));
    if (const auto policy = section.word("policy", policies)) group_.policy = policies[*policy];
    // With "none" an application's own policy may go by them.
    if (weighed_ && group_.policy != "none" && group_.policy != "weighted" && group_.policy != "hash-client" && group_.policy != "hash-bytes")
      errors_.add(*weighed_, "'weight' has no effect with policy \"" + group_.policy +
                                 "\"; set policy = \"weighted\" (or hash-client, hash-bytes), or leave the weights out");
    if (const auto bytes = section.integer("first_bytes", 1, kMostFirstBytes)) group_.first_bytes = static_cast<uint32_t>(bytes->value);
    if (const auto patience = section.duration_ms("first_bytes_timeout", 1, 60'000)) group_.first_bytes_timeout_ms = patience->value;
    if (const auto when = section.word("rebalance", {"off", "on-join"})) group_.rebalance = static_cast<Rebalance>(*when);
    if (const auto recovery = section.word("recovery", {"none", "fast", "replicated"})) group_.recovery = static_cast<Recovery>(*recovery);
    if (const auto backups = section.integer("backups", 1, kMostBackups)) group_.backups = static_cast<uint32_t>(backups->value);
    if (const auto interval = section.duration_ms("mirror_interval", 1, 1000)) group_.mirror_interval_ms = interval->value;
    if (const auto after = section.word("after_close", {"clear", "sticky"})) group_.after_close = static_cast<AfterClose>(*after);
    if (const auto path = section.word("return", {"direct", "home"})) group_.return_path = static_cast<ReturnPath>(*path);
    if (const auto agent = section.address("home_agent")) {
      group_.home_agent = agent->value;
      check_unicast("home agent", *agent);
      if (agent->value.is_v4() || group_.address.is_v4()) errors_.add(agent->where, "'home_agent' is for Mobile IPv6: it and the group's address must be IPv6");
    }
    if (const auto interface = section.text("interface")) {
      group_.interface = interface->value;
      const auto& name = group_.interface;
      const bool fits = !name.empty() && name.size() <= 15 && name != "." && name != "..";
      if (!fits || !std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7f && c != '/' && c != ':'; }))
        errors_.add(interface->where,
                    "'interface' is " + shown(name) + "; an interface name has 1 to 15 characters without spaces, '/' and ':', for example \"eth0\"");
    }
    group_.keys = "/etc/gecko/keys/" + group_.name;
    if (const auto keys = section.text("keys")) {
      group_.keys = keys->value;
      if (group_.keys.empty() || group_.keys.front() != '/' || group_.keys.find('\0') != std::string::npos)
        errors_.add(keys->where, "'keys' is " + shown(group_.keys) + "; write an absolute path, for example \"/etc/gecko/keys/web\"");
    }
    if (const auto outbound = section.text("outbound")) read_outbound(*outbound);
    check_outbound(ports ? *ports : std::vector<Located<int64_t>>{});
    section.finish();
  }

  void read_ports(const std::vector<Located<int64_t>>& ports) {
    for (const auto& port : ports) {
      const auto number = static_cast<uint16_t>(port.value);
      if (std::find(group_.ports.begin(), group_.ports.end(), number) != group_.ports.end())
        errors_.add(port.where, "port " + std::to_string(number) + " is listed twice");
      else
        group_.ports.push_back(number);
    }
    if (group_.ports.size() > kMaxPorts)
      errors_.add(ports[kMaxPorts].where, "a group has at most " + std::to_string(kMaxPorts) + " ports, this list has " + std::to_string(group_.ports.size()));
  }

  void read_contact(const std::vector<Located<std::string>>& contact) {
    std::vector<std::string> names;
    for (const auto& node : group_.nodes)
      if (node.serves()) names.push_back(node.name);
    for (const auto& one : contact) {
      const auto* node = group_.find(one.value);
      if (node != nullptr && node->removed)
        errors_.add(one.where, "contact " + shown(one.value) + " is removed; take it from 'contact'");
      else if (node != nullptr && node->witness)
        errors_.add(one.where, "contact " + shown(one.value) + " is the witness, which serves nothing; list nodes that serve");
      else if (node == nullptr)
        errors_.add(one.where, "contact " + shown(one.value) + " is no [[node]] of this file" + did_you_mean(one.value, names));
      else if (std::find(group_.contact.begin(), group_.contact.end(), one.value) != group_.contact.end())
        errors_.add(one.where, "contact " + shown(one.value) + " is listed twice");
      else
        group_.contact.push_back(one.value);
    }
  }

  void read_outbound(const Located<std::string>& outbound) {
    const std::string& text = outbound.value;
    const char* end = text.data() + text.size();
    uint16_t first = 0, last = 0;
    const auto low = std::from_chars(text.data(), end, first);
    const bool dash = low.ec == std::errc{} && low.ptr != end && *low.ptr == '-';
    const auto high = dash ? std::from_chars(low.ptr + 1, end, last) : low;
    if (!dash || high.ec != std::errc{} || high.ptr != end || first < 1024 || first > last) {
      errors_.add(outbound.where, "'outbound' is " + shown(text) + "; write a range of ports from 1024 to 65535, for example \"40000-59999\"");
      return;
    }
    group_.outbound_first = first;
    group_.outbound_last = last;
    outbound_where_ = outbound.where;
  }

  // Connections made from the group address are told from those to a service by their port, and the range is divided among the nodes.
  void check_outbound(const std::vector<Located<int64_t>>& ports) {
    const std::string range = std::to_string(group_.outbound_first) + "-" + std::to_string(group_.outbound_last);
    for (const auto& port : ports)
      if (port.value >= group_.outbound_first && port.value <= group_.outbound_last)
        errors_.add(port.where, "port " + std::to_string(port.value) + " lies in the range of outbound connections, " + range +
                                    "; set 'outbound' to another range");
    const size_t width = static_cast<size_t>(group_.outbound_last) - group_.outbound_first + 1;
    if (width < group_.nodes.size())
      errors_.add(outbound_where_, "'outbound' has " + std::to_string(width) + " ports for " + std::to_string(group_.nodes.size()) +
                                       " nodes; each needs at least one");
  }

  void read_limits() {
    Section section = this->section("limits", false);
    if (const auto value = section.integer("connections", 1, kMostConnections)) group_.max_connections = static_cast<uint32_t>(value->value);
    if (const auto value = section.size("held_bytes", kLeastHeldBytes, kMostHeldBytes)) group_.max_held_bytes = value->value;
    if (const auto value = section.integer("held_packets", 16, 16'777'216)) group_.max_held_packets = static_cast<uint32_t>(value->value);
    if (const auto value = section.duration_ms("handoff_timeout", 10, 60'000)) group_.handoff_timeout_ms = value->value;
    if (const auto value = section.duration_ms("drain_timeout", 0, 10'000)) group_.drain_timeout_ms = value->value;
    section.finish();
  }

  void read_membership() {
    Section section = this->section("membership", false);
    if (const auto mode = section.word("two_nodes", {"safe", "available"})) group_.two_nodes = static_cast<TwoNodes>(*mode);
    if (group_.two_nodes == TwoNodes::available && group_.serving_nodes() != group_.present_nodes())
      errors_.add(witness_where_,
                  "a witness and two_nodes = \"available\" contradict each other: with the witness no node goes on alone; leave one of the two out");
    const auto lease = section.duration_ms("lease", 10, 10'000);
    const auto heartbeat = section.duration_ms("heartbeat", 1, 2'500);
    const auto misses = section.integer("misses", 1, 20);
    if (lease) group_.lease_ms = lease->value;
    if (heartbeat) group_.heartbeat_ms = heartbeat->value;
    if (misses) group_.misses = static_cast<uint32_t>(misses->value);
    // Whoever has not been suspected yet shall still have its lease.
    const uint32_t least = (group_.misses + 1) * group_.heartbeat_ms;
    if (group_.lease_ms < least)
      errors_.add(lease ? lease->where : heartbeat ? heartbeat->where : misses ? misses->where : Position{1, 1},
                  "'lease' (" + std::to_string(group_.lease_ms) + "ms) is shorter than " + std::to_string(group_.misses + 1) + " times 'heartbeat' (" +
                      std::to_string(group_.heartbeat_ms) + "ms), one more than 'misses': it would end before anybody is suspected; make it " +
                      std::to_string(least) + "ms or longer");
    section.finish();
  }

  void read_users(Section& section, const char* key, std::vector<std::string>& users) {
    const auto written = section.texts(key, true);
    if (!written) return;
    for (const auto& user : *written) {
      const std::string_view name = user.value;
      const auto plain = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' || c == '$';
      };
      bool good = !name.empty() && name.size() <= 32 && name.front() != '-' && std::all_of(name.begin(), name.end(), plain);
      if (!name.empty() && name.front() == '#') {
        uint32_t uid = 0;
        const auto [end, ec] = std::from_chars(name.data() + 1, name.data() + name.size(), uid);
        good = name.size() > 1 && ec == std::errc{} && end == name.data() + name.size() && uid != UINT32_MAX;
      }
      if (!good)
        errors_.add(user.where, std::string("'") + key + "' holds " + shown(name) + "; write a local user's name, or \"#1000\" for a number");
      else if (std::find(users.begin(), users.end(), user.value) != users.end())
        errors_.add(user.where, "user " + shown(name) + " is listed twice in '" + key + "'");
      else
        users.push_back(user.value);
    }
  }

  void read_rights() {
    Section section = this->section("rights", false);
    read_users(section, "serve", group_.serve);
    read_users(section, "admin", group_.admin);
    section.finish();
  }

  const toml::table& root_;
  Diagnostics errors_;
  GroupConfig group_;
  Position outbound_where_{1, 1}, witness_where_{1, 1};
  std::optional<Position> weighed_;   // the first weight
};

std::string hex(const unsigned char* data, size_t size) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (size_t i = 0; i < size; ++i) {
    out += kDigits[data[i] >> 4];
    out += kDigits[data[i] & 15];
  }
  return out;
}

}  // namespace

const Node* GroupConfig::find(std::string_view node) const {
  const int i = index_of(node);
  return i < 0 ? nullptr : &nodes[static_cast<size_t>(i)];
}

int GroupConfig::index_of(std::string_view node) const {
  for (size_t i = 0; i < nodes.size(); ++i)
    if (nodes[i].name == node) return static_cast<int>(i);
  return -1;
}

size_t GroupConfig::present_nodes() const {
  return static_cast<size_t>(std::count_if(nodes.begin(), nodes.end(), [](const Node& node) { return !node.removed; }));
}

const Node* GroupConfig::witness() const {
  const auto at = std::ranges::find_if(nodes, [](const Node& node) { return node.witness && !node.removed; });
  return at == nodes.end() ? nullptr : &*at;
}

size_t GroupConfig::serving_nodes() const {
  return static_cast<size_t>(std::ranges::count_if(nodes, &Node::serves));
}

Result<GroupConfig> parse_group(std::string_view text, const std::string& file) {
  // toml++ reports by exception; nothing thrown leaves this function.
  try {
    const toml::table root = toml::parse(text, file);
    return GroupReader(root, file).read();
  } catch (const toml::parse_error& e) {
    Diagnostics errors(file);
    errors.add(e.source().begin, std::string("not valid TOML: ") + std::string(e.description()));
    return make_error(Errc::invalid, errors.str());
  } catch (const std::exception& e) {
    return make_error(Errc::invalid, file + ": cannot be read as TOML: " + e.what());
  }
}

Result<GroupConfig> load_group(const std::string& file) {
  GECKO_TRY(const std::string text, read_group_file(file));
  return parse_group(text, file);
}

std::string digest(const GroupConfig& group) {
  // One field per line; no field can contain a newline (names, addresses and words are checked).
  std::string text = "gecko.group/1\n" + group.name + "\n" + group.address.str() + "\nports";
  auto ports = group.ports;  // their order means nothing
  std::sort(ports.begin(), ports.end());
  for (const auto port : ports) text += " " + std::to_string(port);
  text += "\ncontact";
  for (const auto& name : group.contact) text += " " + name;
  text += "\npolicy " + group.policy;
  text += "\nrecovery " + std::to_string(static_cast<int>(group.recovery));
  text += "\nafter_close " + std::to_string(static_cast<int>(group.after_close));
  text += "\nreturn " + std::to_string(static_cast<int>(group.return_path));
  text += "\nhome_agent " + (group.home_agent ? group.home_agent->str() : std::string("-"));
  text += "\noutbound " + std::to_string(group.outbound_first) + "-" + std::to_string(group.outbound_last);
  // What is at its default is left out: a node of an older version digests the same file to the same.
  const GroupConfig usual;
  if (group.first_bytes != usual.first_bytes) text += "\nfirst_bytes " + std::to_string(group.first_bytes);
  if (group.backups != usual.backups) text += "\nbackups " + std::to_string(group.backups);
  if (group.first_bytes_timeout_ms != usual.first_bytes_timeout_ms) text += "\nfirst_bytes_timeout " + std::to_string(group.first_bytes_timeout_ms);
  if (group.rebalance != usual.rebalance) text += "\nrebalance " + std::to_string(static_cast<int>(group.rebalance));
  if (group.two_nodes != usual.two_nodes) text += "\ntwo_nodes " + std::to_string(static_cast<int>(group.two_nodes));
  if (group.lease_ms != usual.lease_ms) text += "\nlease " + std::to_string(group.lease_ms);
  if (group.misses != usual.misses) text += "\nmisses " + std::to_string(group.misses);
  if (group.heartbeat_ms != usual.heartbeat_ms) text += "\nheartbeat " + std::to_string(group.heartbeat_ms);
  for (const auto& node : group.nodes) {
    text += "\nnode " + node.name + " " + node.address.str() + " " + std::to_string(node.link_port);
    if (node.weight != 1) text += " " + std::to_string(node.weight);
    if (node.witness) text += " witness";
    if (node.removed) text += " removed";
  }
  unsigned char sum[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  GECKO_ASSERT(EVP_Digest(text.data(), text.size(), sum, &size, EVP_sha256(), nullptr) == 1);
  return hex(sum, size);
}

}  // namespace gecko::config
