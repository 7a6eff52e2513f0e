#include "bpf/steering.hh"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_ether.h>

#include <algorithm>
#include <map>

#include "bpf/flow_key.hh"
#include "bpf/libbpf_log.hh"
#include "bpf/loaded_object.hh"
#include "bpf/neighbour.hh"
#include "bpf/steer_object.hh"
#include "bpf/tc_filter.hh"

namespace gecko::bpf {
namespace {

std::array<uint8_t, 16> bytes_of(const Address& address) { return address.bytes; }

gecko_group_key group_key(const Address& address, uint16_t port) {
  gecko_group_key key{};
  std::memcpy(key.address, address.bytes.data(), sizeof key.address);
  key.port = htons(port);
  return key;
}

uint16_t flags_of(const GroupSteering& g) {
  return static_cast<uint16_t>((g.is_contact ? GECKO_GROUP_F_CONTACT : 0) | (g.return_home ? GECKO_GROUP_F_RETURN_HOME : 0) |
                               (g.syn_slots.empty() ? 0 : GECKO_GROUP_F_SYN_POLICY));
}

// Only nodes of the slot table can be a fallback; where none of them serves the port, the packet stays here and the kernel answers.
void set_serving(const GroupSteering& g, uint16_t port, gecko_group& group) {
  const auto known = g.serving.find(port);
  group.fallback = g.self;
  if (known == g.serving.end()) {
    std::ranges::fill(group.serves, UINT64_MAX);
    return;
  }
  std::ranges::fill(group.serves, 0);
  for (const uint16_t node : known->second)
    if (node < GECKO_MAX_NODES) group.serves[node / 64] |= uint64_t{1} << (node % 64);
  const auto able = std::ranges::find_if(known->second, [&](uint16_t node) { return std::ranges::find(g.syn_slots, node) != g.syn_slots.end(); });
  if (able != known->second.end()) group.fallback = *able;
}

Status validate(const GroupSteering& g) {
  const std::string name = "steering of group " + g.address.str() + ": ";
  if (g.address.is_unspecified()) return make_error(Errc::invalid, name + "it has no address");
  if (g.index >= GECKO_MAX_GROUPS)
    return make_error(Errc::limit, name + "index " + std::to_string(g.index) + " of at most " + std::to_string(GECKO_MAX_GROUPS - 1));
  if (g.syn_slots.size() > GECKO_SYN_SLOTS) return make_error(Errc::limit, name + "more than " + std::to_string(GECKO_SYN_SLOTS) + " slots");
  for (const auto& [port, slots] : g.port_slots)
    if (slots.empty() || slots.size() > GECKO_SYN_SLOTS || !std::ranges::all_of(slots, [](uint16_t n) { return n < GECKO_MAX_NODES; }))
      return make_error(Errc::limit, name + "port " + std::to_string(port) + ": 1 to " + std::to_string(GECKO_SYN_SLOTS) + " slots with nodes below " +
                                         std::to_string(GECKO_MAX_NODES));
  if (g.outbound_nodes.size() > GECKO_MAX_NODES) return make_error(Errc::limit, name + "more than " + std::to_string(GECKO_MAX_NODES) + " outbound slices");
  if (g.outbound_first + g.outbound_each * g.outbound_nodes.size() > 65536)
    return make_error(Errc::invalid, name + "the outbound port range ends above 65535; lower its start or the ports per node");
  const auto is_node = [](uint16_t n) { return n < GECKO_MAX_NODES; };
  if (!is_node(g.self) || !is_node(g.contact) || !std::ranges::all_of(g.syn_slots, is_node) || !std::ranges::all_of(g.outbound_nodes, is_node))
    return make_error(Errc::limit, name + "a node index is not below " + std::to_string(GECKO_MAX_NODES));
  return {};
}

// An IPv4-in-IPv6 TCP segment: what gecko_probe tries to unpack.
std::array<uint8_t, 94> probe_packet() {
  std::array<uint8_t, 94> packet{};
  packet[12] = 0x86, packet[13] = 0xdd;
  packet[14] = 0x60, packet[19] = 40, packet[20] = IPPROTO_IPIP, packet[21] = 64;
  packet[54] = 0x45, packet[57] = 40, packet[62] = 64, packet[63] = IPPROTO_TCP;
  return packet;
}

}  // namespace

struct Steering::Impl {
  ObjectPtr object;
  int flows = -1, groups = -1, addresses = -1, slots = -1, port_slots = -1, nears = -1, nodes = -1, underlays = -1, config = -1, counters = -1;
  int ingress = -1, egress = -1, hold = -1, probe = -1, set = -1;
  gecko_config settings{};
  std::vector<GroupSteering> known;
  std::array<Address, GECKO_MAX_NODES> node_address{};
  struct Attached {
    int ifindex;
    bool clsact_is_ours;
  };
  std::vector<Attached> attached;

  Status find_parts();
  Status write_settings();
  Status write_node(uint16_t index);
  Status refresh_underlay(uint16_t node);
  Status write_address(const GroupSteering& group);
  Status prepare(int ifindex);
  Status find_predecessors(int ifindex, Hook hook, std::map<uint32_t, FlowTable>& tables) const;
  Result<size_t> adopt(const FlowTable& from) const;
};

Steering::Steering() : impl_(std::make_unique<Impl>()) {}
Steering::Steering(Steering&&) noexcept = default;
Steering& Steering::operator=(Steering&&) noexcept = default;
Steering::~Steering() = default;

Status Steering::Impl::find_parts() {
  const auto map = [&](const char* name, int& fd) { return (fd = bpf_object__find_map_fd_by_name(object.get(), name)) >= 0; };
  const auto program = [&](const char* name, int& fd) {
    const bpf_program* found = bpf_object__find_program_by_name(object.get(), name);
    return found != nullptr && (fd = bpf_program__fd(found)) >= 0;
  };
  GECKO_ASSERT(map("gecko_flows", flows) && map("gecko_groups", groups) && map("gecko_addresses", addresses) && map("gecko_slots", slots) &&
               map("gecko_port_slots", port_slots) && map("gecko_nears", nears) && map("gecko_nodes", nodes) &&
               map("gecko_underlays", underlays) && map("gecko_config", config) && map("gecko_counts", counters));
  GECKO_ASSERT(program("gecko_ingress", ingress) && program("gecko_egress", egress) && program("gecko_hold", hold) && program("gecko_probe", probe) &&
               program("gecko_set", set));
  return {};
}

Status Steering::Impl::write_settings() {
  const uint32_t zero = 0;
  if (bpf_map_update_elem(config, &zero, &settings, BPF_ANY) != 0) return os_error("write steering configuration");
  return {};
}

Result<Steering> Steering::load() {
  Steering s;
  Impl& impl = *s.impl_;
  const LibbpfLog log;
  const auto bytes = steer_object();
  LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "gecko_steer");
  impl.object.reset(bpf_object__open_mem(bytes.data(), bytes.size(), &opts));
  if (!impl.object) return load_error("steering programs", errno, log);
  if (const int error = bpf_object__load(impl.object.get()); error != 0) return load_error("steering programs", -error, log);
  GECKO_CHECK(impl.find_parts());

  const auto packet = probe_packet();
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = packet.data(), .data_size_in = packet.size());
  if (bpf_prog_test_run_opts(impl.probe, &run) == 0 && run.retval == 0) impl.settings.flags |= GECKO_CONFIG_F_DECAP_FLAGS;
  GECKO_CHECK(impl.write_settings());

  GECKO_TRY(Fd flows, s.dup_flow_map());
  GECKO_TRY(Fd setter, s.dup_flow_setter());
  s.flows_ = FlowTable(std::move(flows), std::move(setter));
  return s;
}

// Flow tables of the programs that our filter there runs now, if they are not our own.
Status Steering::Impl::find_predecessors(int ifindex, Hook hook, std::map<uint32_t, FlowTable>& tables) const {
  GECKO_TRY(const std::optional<uint32_t> program, our_program(ifindex, hook));
  if (!program) return {};
  const Fd program_fd(bpf_prog_get_fd_by_id(*program));
  if (!program_fd) return {};  // gone since
  std::array<uint32_t, 64> ids{};
  bpf_prog_info info{};
  info.nr_map_ids = ids.size();
  info.map_ids = reinterpret_cast<uint64_t>(ids.data());
  uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(program_fd.get(), &info, &size) != 0) return os_error("read maps of the previous steering program");
  bpf_map_info mine{};
  size = sizeof mine;
  if (bpf_obj_get_info_by_fd(flows, &mine, &size) != 0) return os_error("read flow map");
  for (uint32_t i = 0; i < std::min<uint32_t>(info.nr_map_ids, ids.size()); ++i) {
    Fd map(bpf_map_get_fd_by_id(ids[i]));
    bpf_map_info theirs{};
    size = sizeof theirs;
    if (!map || bpf_obj_get_info_by_fd(map.get(), &theirs, &size) != 0) continue;
    if (theirs.id == mine.id || std::string_view(theirs.name) != "gecko_flows") continue;
    // Another layout is another version of Gecko: the owners tell us again what they own.
    if (theirs.key_size != sizeof(gecko_flow_key) || theirs.value_size != sizeof(gecko_flow)) continue;
    tables.emplace(theirs.id, FlowTable(std::move(map)));
  }
  return {};
}

// Copies the entries that are not known here yet.
Result<size_t> Steering::Impl::adopt(const FlowTable& from) const {
  size_t copied = 0;
  int failed = 0;
  GECKO_CHECK(from.for_each([&](const Flow& flow, const gecko_flow& entry) {
    const gecko_flow_key key = to_key(flow);
    if (bpf_map_update_elem(flows, &key, &entry, BPF_NOEXIST) == 0)
      ++copied;
    else if (errno != EEXIST)
      failed = errno;
  }));
  if (failed != 0) return os_error("adopt the flow entries of the previous daemon", failed);
  return copied;
}

Status Steering::Impl::prepare(int ifindex) {
  if (std::ranges::find(attached, ifindex, &Attached::ifindex) != attached.end()) return {};
  GECKO_TRY(const bool created, ensure_clsact(ifindex));
  attached.push_back({ifindex, created});  // from here on detach() cleans up
  for (const Hook hook : {Hook::ingress, Hook::egress}) {
    GECKO_TRY(const auto old, our_program(ifindex, hook));
    if (old) attached.back().clsact_is_ours = true;
  }
  return {};
}

Status Steering::attach(int ifindex, int hold_ifindex) {
  Impl& impl = *impl_;
  const LibbpfLog log;
  GECKO_CHECK(must_be_ethernet(ifindex));
  impl.settings.nic_ifindex = static_cast<uint32_t>(ifindex);
  impl.settings.hold_ifindex = static_cast<uint32_t>(hold_ifindex);
  GECKO_CHECK(impl.write_settings());
  GECKO_CHECK(refresh_routes());

  struct Place {
    int ifindex;
    Hook hook;
    int program;
  };
  std::vector<Place> places = {{ifindex, Hook::ingress, impl.ingress}, {ifindex, Hook::egress, impl.egress}};
  if (hold_ifindex != 0) places.push_back({hold_ifindex, Hook::ingress, impl.hold});
  for (const Place& place : places) GECKO_CHECK(impl.prepare(place.ifindex));
  // Before the switch, so that no connection is unknown for a moment, and after it for what the old programs learnt meanwhile.
  std::map<uint32_t, FlowTable> predecessors;
  for (const Place& place : places) GECKO_CHECK(impl.find_predecessors(place.ifindex, place.hook, predecessors));
  for (int pass = 0; pass < 2; ++pass) {
    if (pass == 1)
      for (const Place& place : places) GECKO_CHECK(put_filter(place.ifindex, place.hook, place.program));
    for (const auto& [id, table] : predecessors) {
      GECKO_TRY(const size_t copied, impl.adopt(table));
      adopted_ += copied;
    }
  }
  return {};
}

Status Steering::holder_lives() {
  impl_->settings.holder_seen_ns = static_cast<uint64_t>(monotonic_now().time_since_epoch().count());
  return impl_->write_settings();
}

Status Steering::detach() {
  Status first;
  for (const Impl::Attached& a : impl_->attached) {
    for (const Hook hook : {Hook::ingress, Hook::egress})
      if (Status s = remove_filter(a.ifindex, hook); !s && first) first = s;
    if (a.clsact_is_ours)
      if (Status s = remove_unused_clsact(a.ifindex); !s && first) first = s;
  }
  if (first) impl_->attached.clear();
  return first;
}

Status Steering::detach_from(int ifindex) {
  const LibbpfLog log;
  bool found = false;
  for (const Hook hook : {Hook::ingress, Hook::egress}) {
    GECKO_TRY(const std::optional<uint32_t> program, our_program(ifindex, hook));
    if (!program) continue;
    found = true;
    GECKO_CHECK(remove_filter(ifindex, hook));
  }
  return found ? remove_unused_clsact(ifindex) : Status();
}

Status Steering::Impl::write_address(const GroupSteering& g) {
  gecko_address address{};
  address.outbound_first = g.outbound_first;
  address.outbound_each = g.outbound_each;
  address.outbound_nodes = static_cast<uint16_t>(g.outbound_nodes.size());
  address.self = g.self;
  address.flags = static_cast<uint16_t>(flags_of(g) & (GECKO_GROUP_F_CONTACT | GECKO_GROUP_F_RETURN_HOME));
  address.contact = g.contact;
  address.mss_max = g.mss_max;
  address.encap_mtu = g.encap_mtu;
  std::ranges::copy(g.outbound_nodes, address.outbound_node);
  const auto key = bytes_of(g.address);
  if (bpf_map_update_elem(addresses, key.data(), &address, BPF_ANY) != 0) return os_error("write steering of address " + g.address.str());
  return {};
}

Status Steering::set_group(const GroupSteering& g) {
  GECKO_CHECK(validate(g));
  Impl& impl = *impl_;
  const std::string name = "write steering of group " + g.address.str();

  const auto write_slots = [&](int map, const void* key, const std::vector<uint16_t>& nodes) -> Status {
    gecko_slots slots{};
    (void)bpf_map_lookup_elem(map, key, &slots);   // whose turn it is stays: tables are written often
    slots.count = static_cast<uint16_t>(nodes.size());
    slots.mode = g.syn_mode;
    std::ranges::copy(nodes, slots.node);
    if (bpf_map_update_elem(map, key, &slots, BPF_ANY) != 0) return os_error(name);
    return {};
  };
  const uint32_t row = g.index;
  GECKO_CHECK(write_slots(impl.slots, &row, g.syn_slots));
  GECKO_CHECK(impl.write_address(g));

  gecko_group group{};
  group.index = g.index;
  group.contact = g.contact;
  group.self = g.self;
  group.mss_max = g.mss_max;
  group.encap_mtu = g.encap_mtu;
  for (const uint16_t port : g.ports) {
    const gecko_group_key key = group_key(g.address, port);
    set_serving(g, port, group);
    group.flags = flags_of(g);
    const auto own = g.port_slots.find(port);
    if (own != g.port_slots.end()) {   // there before a packet is told to look there, and gone after
      GECKO_CHECK(write_slots(impl.port_slots, &key, own->second));
      group.flags |= GECKO_GROUP_F_PORT_SLOTS;
    }
    if (bpf_map_update_elem(impl.groups, &key, &group, BPF_ANY) != 0) return os_error(name + " port " + std::to_string(port));
    if (own == g.port_slots.end()) (void)bpf_map_delete_elem(impl.port_slots, &key);
  }
  // What the group had before under this index and has no more.
  const auto old = std::ranges::find(impl.known, g.index, &GroupSteering::index);
  GroupSteering before = g;
  if (old != impl.known.end()) {
    before = std::exchange(*old, g);
    for (const uint16_t port : before.ports) {
      if (before.address == g.address && std::ranges::find(g.ports, port) != g.ports.end()) continue;
      const gecko_group_key key = group_key(before.address, port);
      bpf_map_delete_elem(impl.groups, &key);
      bpf_map_delete_elem(impl.port_slots, &key);
    }
    if (before.address != g.address && std::ranges::find(impl.known, before.address, &GroupSteering::address) == impl.known.end())
      bpf_map_delete_elem(impl.addresses, bytes_of(before.address).data());
  } else {
    impl.known.push_back(g);
  }
  GECKO_CHECK(impl.refresh_underlay(before.self));
  return impl.refresh_underlay(g.self);
}

Status Steering::set_near(uint16_t group_index, const Address& prefix, const std::vector<uint16_t>& nodes) {
  gecko_near_key key{};
  std::memcpy(key.prefix, prefix.bytes.data(), sizeof key.prefix);
  key.group = group_index;
  if (nodes.empty()) {
    if (bpf_map_delete_elem(impl_->nears, &key) != 0 && errno != ENOENT) return os_error("forget who is near " + prefix.str());
    return {};
  }
  gecko_near near{};
  for (const uint16_t node : nodes) {
    if (node >= GECKO_MAX_NODES) return make_error(Errc::limit, "a node index is not below " + std::to_string(GECKO_MAX_NODES));
    near.nodes[node / 64] |= uint64_t{1} << (node % 64);
  }
  near.best = nodes.front();
  if (bpf_map_update_elem(impl_->nears, &key, &near, BPF_ANY) != 0) return os_error("note who is near " + prefix.str());
  return {};
}

Status Steering::remove_group(const GroupSteering& g) {
  Impl& impl = *impl_;
  const auto old = std::ranges::find(impl.known, g.index, &GroupSteering::index);
  if (old == impl.known.end()) return {};
  const GroupSteering gone = *old;
  impl.known.erase(old);
  for (const uint16_t port : gone.ports) {
    const gecko_group_key key = group_key(gone.address, port);
    bpf_map_delete_elem(impl.groups, &key);
    bpf_map_delete_elem(impl.port_slots, &key);
  }
  // Another group may live on other ports of the same address.
  const auto other = std::ranges::find(impl.known, gone.address, &GroupSteering::address);
  if (other != impl.known.end())
    GECKO_CHECK(impl.write_address(*other));
  else
    bpf_map_delete_elem(impl.addresses, bytes_of(gone.address).data());
  return impl.refresh_underlay(gone.self);
}

Status Steering::Impl::refresh_underlay(uint16_t node) {
  const Address& address = node_address[node];
  if (address.is_unspecified()) return {};
  gecko_underlay underlay{};
  underlay.node = node;
  if (std::ranges::find(known, node, &GroupSteering::self) != known.end()) underlay.flags = GECKO_UNDERLAY_F_SELF;
  if (bpf_map_update_elem(underlays, address.bytes.data(), &underlay, BPF_ANY) != 0) return os_error("write node address " + address.str());
  return {};
}

Status Steering::set_node(uint16_t index, const Address& underlay) {
  if (index >= GECKO_MAX_NODES) return make_error(Errc::limit, "node index " + std::to_string(index) + " is not below " + std::to_string(GECKO_MAX_NODES));
  if (underlay.is_v4())
    return make_error(Errc::invalid,
                      "node address " + underlay.str() + " is IPv4; packets between nodes are encapsulated in IPv6, give the node an IPv6 address");
  Impl& impl = *impl_;
  const Address before = std::exchange(impl.node_address[index], underlay);
  GECKO_CHECK(impl.write_node(index));
  if (before != underlay && !before.is_unspecified()) bpf_map_delete_elem(impl.underlays, before.bytes.data());
  return impl.refresh_underlay(index);
}

Status Steering::Impl::write_node(uint16_t index) {
  const Address& underlay = node_address[index];
  gecko_node node{};
  std::memcpy(node.underlay, underlay.bytes.data(), sizeof node.underlay);
  if (settings.nic_ifindex != 0 && !underlay.is_unspecified()) {
    GECKO_TRY(const bool neighbour, is_neighbour(underlay, static_cast<int>(settings.nic_ifindex)));
    if (neighbour) node.onlink_ifindex = settings.nic_ifindex;
  }
  const uint32_t row = index;
  if (bpf_map_update_elem(nodes, &row, &node, BPF_ANY) != 0) return os_error("write node address " + underlay.str());
  return {};
}

Status Steering::refresh_routes() {
  for (uint16_t i = 0; i < GECKO_MAX_NODES; ++i)
    if (!impl_->node_address[i].is_unspecified()) GECKO_CHECK(impl_->write_node(i));
  return {};
}

Result<Fd> Steering::dup_flow_map() const { return dup_fd(impl_->flows, "the flow map"); }
Result<Fd> Steering::dup_flow_setter() const { return dup_fd(impl_->set, "the flow setter"); }
Result<Fd> Steering::dup_counter_map() const { return dup_fd(impl_->counters, "the counter map"); }
Result<Counters> Steering::counters() const { return read_counters(impl_->counters); }

int Steering::program_fd(Program program) const {
  return program == Program::ingress ? impl_->ingress : program == Program::egress ? impl_->egress : impl_->hold;
}

Result<Counters> read_counters(int counter_map_fd) {
  static const int cpus = libbpf_num_possible_cpus();
  if (cpus <= 0) return make_error(Errc::internal, "read steering counters: the number of processors is unknown (/sys/devices/system/cpu/possible)");
  std::vector<Counters> per_cpu(static_cast<size_t>(cpus));
  const uint32_t zero = 0;
  if (bpf_map_lookup_elem(counter_map_fd, &zero, per_cpu.data()) != 0) return os_error("read steering counters");
  Counters sum{};
  for (const Counters& one : per_cpu)
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += one[i];
  return sum;
}

}  // namespace gecko::bpf
