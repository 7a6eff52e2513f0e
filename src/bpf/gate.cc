#include "bpf/gate.hh"

#include <arpa/inet.h>
#include <bpf/bpf.h>

#include <algorithm>

#include "bpf/gate_object.hh"
#include "bpf/lease_table.hh"
#include "bpf/loaded_object.hh"
#include "bpf/tc_filter.hh"

namespace gecko::bpf {
namespace {

constexpr std::array kMaps = {"gecko_gports", "gecko_gated", "gecko_young", "gecko_leases", "gecko_births",
                               "gecko_moved",  "gecko_rounds", "gecko_gcounts"};
enum : size_t { kPorts, kGated, kYoung, kLeases, kBirths, kMoved, kRounds, kCounts };

gecko_group_key port_key(const Address& address, uint16_t port) {
  gecko_group_key key{};
  std::memcpy(key.address, address.bytes.data(), sizeof key.address);
  key.port = htons(port);
  return key;
}

bool same_layout(const bpf_map_info& theirs, const bpf_map* mine) {
  return theirs.type == bpf_map__type(mine) && theirs.key_size == bpf_map__key_size(mine) && theirs.value_size == bpf_map__value_size(mine) &&
         theirs.max_entries == bpf_map__max_entries(mine);
}

}  // namespace

struct Gate::Impl {
  ObjectPtr object;
  std::array<int, kMaps.size()> maps{};
  int program = -1, setter = -1;

  Result<bool> adopt(int ifindex);
  Status check_clock() const;
};

Gate::Gate() : impl_(std::make_unique<Impl>()) {}
Gate::Gate(Gate&&) noexcept = default;
Gate& Gate::operator=(Gate&&) noexcept = default;
Gate::~Gate() = default;

// The maps of the program that our filter there runs now become ours: those who hold or have mapped them notice nothing.
Result<bool> Gate::Impl::adopt(int ifindex) {
  GECKO_TRY(const std::optional<uint32_t> running, our_program(ifindex, Hook::egress, kGatePriority));
  if (!running) return false;
  const Fd old(bpf_prog_get_fd_by_id(*running));
  if (!old) return false;  // gone since
  std::array<uint32_t, 64> ids{};
  bpf_prog_info info{};
  info.nr_map_ids = ids.size();
  info.map_ids = reinterpret_cast<uint64_t>(ids.data());
  uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(old.get(), &info, &size) != 0) return os_error("read the maps of the gate that is attached");
  size_t found = 0;
  for (uint32_t i = 0; i < std::min<uint32_t>(info.nr_map_ids, ids.size()); ++i) {
    const Fd map(bpf_map_get_fd_by_id(ids[i]));
    bpf_map_info theirs{};
    size = sizeof theirs;
    if (!map || bpf_obj_get_info_by_fd(map.get(), &theirs, &size) != 0) continue;
    bpf_map* mine = bpf_object__find_map_by_name(object.get(), theirs.name);
    if (mine == nullptr || !same_layout(theirs, mine)) continue;
    if (const int error = bpf_map__reuse_fd(mine, map.get()); error != 0) return os_error("take over map " + std::string(theirs.name), -error);
    ++found;
  }
  if (found != kMaps.size())
    return make_error(Errc::version, "the gate that is attached belongs to another version of Gecko (" + std::to_string(found) + " of " +
                                         std::to_string(kMaps.size()) +
                                         " maps are the same): drain this node, stop geckod, run 'gecko clean', start it again");
  return true;
}

// Deadlines are absolute: who writes them must read the clock that the program reads.
Status Gate::Impl::check_clock() const {
  gecko_gate_command command{};
  LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &command, .ctx_size_in = sizeof command);
  const auto before = BootClock::now().time_since_epoch().count();
  if (bpf_prog_test_run_opts(setter, &opts) != 0) return os_error("ask the gate for the time");
  const auto there = static_cast<int64_t>(command.clock_ns);
  if (there >= before && there <= BootClock::now().time_since_epoch().count()) return {};
  return make_error(Errc::unsupported, "the gate's clock (CLOCK_BOOTTIME) is " + std::to_string((there - before) / 1000) +
                                           " us off this process's: geckod cannot run in a time namespace with an offset");
}

Result<Gate> Gate::load(int ifindex, std::span<const uint8_t> object) {
  Gate gate;
  Impl& impl = *gate.impl_;
  const LibbpfLog log;
  if (object.empty()) object = gate_object();
  LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "gecko_gate");
  impl.object.reset(bpf_object__open_mem(object.data(), object.size(), &opts));
  if (!impl.object) return load_error("gate program", errno, log);
  if (ifindex != 0) {
    GECKO_TRY(gate.adopted_, impl.adopt(ifindex));
  }
  if (const int error = bpf_object__load(impl.object.get()); error != 0) return load_error("gate program", -error, log);
  for (size_t i = 0; i < kMaps.size(); ++i) {
    impl.maps[i] = bpf_object__find_map_fd_by_name(impl.object.get(), kMaps[i]);
    GECKO_ASSERT(impl.maps[i] >= 0);
  }
  const auto program = [&](const char* name) { return bpf_program__fd(bpf_object__find_program_by_name(impl.object.get(), name)); };
  impl.program = program("gecko_gate");
  impl.setter = program("gecko_gate_set");
  GECKO_ASSERT(impl.program >= 0 && impl.setter >= 0);
  GECKO_CHECK(impl.check_clock());
  GECKO_TRY(Fd map, gate.dup_table_map());
  GECKO_TRY(Fd setter, gate.dup_table_setter());
  gate.table_ = GateTable(std::move(map), std::move(setter));
  return gate;
}

Status Gate::attach(int ifindex) {
  const LibbpfLog log;
  GECKO_CHECK(must_be_ethernet(ifindex));
  GECKO_CHECK(our_program(ifindex, Hook::egress, kGatePriority));
  GECKO_CHECK(ensure_clsact(ifindex));
  return put_filter(ifindex, Hook::egress, impl_->program, kGatePriority);
}

Status Gate::detach_from(int ifindex) {
  const LibbpfLog log;
  GECKO_TRY(const std::optional<uint32_t> program, our_program(ifindex, Hook::egress, kGatePriority));
  if (!program) return {};
  GECKO_CHECK(remove_filter(ifindex, Hook::egress, kGatePriority));
  return remove_unused_clsact(ifindex);
}

Status Gate::protect_port(const ProtectedPort& p) {
  const std::string what = "protect port " + Endpoint{p.address, p.port}.str();
  if (p.port == 0 || p.address.is_unspecified()) return make_error(Errc::invalid, what + ": an address and a port are needed");
  if (p.lease >= GECKO_MAX_GROUPS)
    return make_error(Errc::limit, what + ": lease row " + std::to_string(p.lease) + " of " + std::to_string(GECKO_MAX_GROUPS));
  const gecko_gate_port value{p.lease, 0};
  // The row of the address first: of what cannot be read there is no telling whether it is of this port.
  for (const uint16_t port : {uint16_t{0}, p.port}) {
    const gecko_group_key key = port_key(p.address, port);
    if (bpf_map_update_elem(impl_->maps[kPorts], &key, &value, BPF_ANY) != 0) return os_error(what);
  }
  return {};
}

Status Gate::unprotect_port(const Address& address, uint16_t port) {
  const gecko_group_key gone = port_key(address, port);
  const int map = impl_->maps[kPorts];
  if (bpf_map_delete_elem(map, &gone) != 0 && errno != ENOENT) return os_error("unprotect port " + Endpoint{address, port}.str());
  const gecko_group_key whole = port_key(address, 0);
  gecko_group_key key{};
  for (const void* at = nullptr; bpf_map_get_next_key(map, at, &key) == 0; at = &key)
    if (key.port != 0 && std::ranges::equal(key.address, whole.address)) return {};
  if (bpf_map_delete_elem(map, &whole) != 0 && errno != ENOENT) return os_error("unprotect address " + address.str());
  return {};
}

Result<Fd> Gate::dup_table_map() const { return dup_fd(impl_->maps[kGated], "the gate's table"); }
Result<Fd> Gate::dup_table_setter() const { return dup_fd(impl_->setter, "the gate's setter"); }
Result<Fd> Gate::dup_lease_map() const { return dup_fd(impl_->maps[kLeases], "the leases"); }
Result<Fd> Gate::dup_birth_ring() const { return dup_fd(impl_->maps[kBirths], "the ring of births"); }
Result<Fd> Gate::dup_moved_ring() const { return dup_fd(impl_->maps[kMoved], "the ring of moves"); }
Result<Fd> Gate::dup_round_map() const { return dup_fd(impl_->maps[kRounds], "the round of moves"); }
Result<Fd> Gate::dup_counter_map() const { return dup_fd(impl_->maps[kCounts], "the gate's counters"); }
Result<GateCounters> Gate::counters() const { return read_gate_counters(impl_->maps[kCounts]); }
int Gate::program_fd() const { return impl_->program; }

Result<GateCounters> read_gate_counters(int counter_map_fd) {
  static const int cpus = libbpf_num_possible_cpus();
  if (cpus <= 0)
    return make_error(Errc::internal, "read the gate's counters: the number of processors is unknown (/sys/devices/system/cpu/possible)");
  std::vector<GateCounters> per_cpu(static_cast<size_t>(cpus));
  const uint32_t zero = 0;
  if (bpf_map_lookup_elem(counter_map_fd, &zero, per_cpu.data()) != 0) return os_error("read the gate's counters");
  GateCounters sum{};
  for (const GateCounters& one : per_cpu)
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += one[i];
  return sum;
}

std::string_view to_string(gecko_gate_counter counter) {
  static constexpr std::array<std::string_view, GECKO_G_COUNT> kNames = {"passed",      "clamped",       "stub",       "born",      "held-ack",
                                                                         "held-synack", "stub-needless", "output",     "expired",   "fenced",
                                                                         "no-entry",    "end",           "unreadable", "birth-lost",
                                                                         "moved-lost"};
  return static_cast<size_t>(counter) < kNames.size() ? kNames[counter] : "unknown";
}

}  // namespace gecko::bpf
