// geckod: the node daemon. Reads the group files, prepares the kernel as root, then splits into its two halves (docs/adr/0004).
#include <fcntl.h>
#include <malloc.h>
#include <pwd.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <CLI/CLI.hpp>

#include "node/confine.hh"
#include "node/daemon.hh"
#include "node/kernel_setup.hh"
#include "node/key_copies.hh"
#include "node/start.hh"
#include "node/witness_start.hh"

namespace gecko::node {
namespace {

constexpr std::chrono::seconds kShortestWatchdog{3};
constexpr int kUsage = 64, kDataError = 65, kNoInput = 66;   // sysexits

// A witness that serves, or a node that does not, would be two ways to read one file.
Status check_part(const config::GroupConfig& group, const std::string& node, bool witness) {
  const auto* self = group.find(node);
  if (self == nullptr || self->witness == witness) return {};
  if (self->witness)
    return make_error(Errc::invalid, group.file + ": node '" + node + "' is the witness of group '" + group.name +
                                         "' and serves nothing: start it with 'geckod --witness' (geckod-witness.service)");
  return make_error(Errc::invalid, group.file + ": node '" + node + "' of group '" + group.name +
                                       "' is not marked as witness: start geckod without --witness, or write 'witness = true' at its [[node]] on all nodes");
}

Result<std::vector<config::GroupConfig>> load_groups(const std::vector<std::string>& files, const std::string& node, bool witness) {
  std::vector<config::GroupConfig> groups;
  for (const auto& file : files) {
    GECKO_TRY(auto group, config::load_group(file));
    if (!node.empty() && group.find(node) == nullptr)
      return make_error(Errc::invalid, file + ": group '" + group.name + "' has no [[node]] named '" + node + "'; name this node with --node");
    if (const auto* self = node.empty() ? nullptr : group.find(node); self != nullptr && self->removed)
      return make_error(Errc::invalid, file + ": node '" + node + "' is removed from group '" + group.name + "': this machine has no part in it any more");
    GECKO_CHECK(check_part(group, node, witness));
    for (const auto& other : groups)
      if (other.name == group.name) return make_error(Errc::invalid, file + ": group '" + group.name + "' is also in " + other.file);
    groups.push_back(std::move(group));
  }
  return groups;
}

Result<GateFeed::Descriptors> descriptors_of(const bpf::Gate& gate) {
  GateFeed::Descriptors d;
  GECKO_TRY(d.table, gate.dup_table_map());
  GECKO_TRY(d.setter, gate.dup_table_setter());
  GECKO_TRY(d.births, gate.dup_birth_ring());
  GECKO_TRY(d.moved, gate.dup_moved_ring());
  GECKO_TRY(d.rounds, gate.dup_round_map());
  GECKO_TRY(d.leases, gate.dup_lease_map());
  GECKO_TRY(d.counters, gate.dup_counter_map());
  return d;
}

int run(const Options& options) {
  if (::geteuid() != 0)
    return fail(
        make_error(Errc::permission, "geckod must be started by root: it gives up what it does not need before it reads anything from the network"));
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;   // every connection being moved is a descriptor
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  if (auto ok = prepare_runtime_dir(options.runtime_dir); !ok) return fail(ok.error());
  auto journal = HandoffJournal::open(options.runtime_dir);   // waits until a former geckod is all gone
  if (!journal) return fail(journal.error());
  for (const auto& group : options.groups)
    if (auto ok = copy_keys(options, group); !ok) return fail(ok.error());
  auto api = net::unix_listen(options.runtime_dir + "/geckod.sock", 0666);   // who may do what is asked per command (SO_PEERCRED)
  if (!api) return fail(api.error());
  auto states = open_states(options);
  if (!states) return fail(states.error());
  auto kernel = set_up_kernel(options);
  if (!kernel) return fail(kernel.error());

  // Reached while there is a right to: the halves have none to make a connection to others.
  auto manager = find_service_manager();
  // The privileged half's loop turns once a second.
  std::chrono::seconds watchdog = std::chrono::ceil<std::chrono::seconds>(manager.watchdog());
  if (watchdog.count() != 0) watchdog = std::max(watchdog, kShortestWatchdog);

  Daemon::Descriptors descriptors;
  descriptors.states = std::move(*states);
  descriptors.api_listener = std::move(*api);
  descriptors.hold_device.reset(::fcntl(kernel->hold_device.fd(), F_DUPFD_CLOEXEC, 0));
  auto flow_map = kernel->steering.dup_flow_map();
  auto flow_setter = kernel->steering.dup_flow_setter();
  auto counter_map = kernel->steering.dup_counter_map();
  if (!flow_map) return fail(flow_map.error());
  if (!flow_setter) return fail(flow_setter.error());
  if (!counter_map) return fail(counter_map.error());
  descriptors.flow_map = std::move(*flow_map);
  descriptors.flow_setter = std::move(*flow_setter);
  descriptors.counter_map = std::move(*counter_map);
  if (kernel->gate) {
    auto gate = descriptors_of(*kernel->gate);
    if (!gate) return fail(gate.error());
    descriptors.gate = std::move(*gate);
  }

  if (options.cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<size_t>(options.cpu), &set);
    if (::sched_setaffinity(0, sizeof set, &set) != 0) return fail(os_error("run on CPU " + std::to_string(options.cpu)));
  }

  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) return fail(os_error("make a socket pair"));
  // A connection with full queues is some megabytes: through the default 208 KB they would go in twenty hops between the two halves.
  for (const int end : pair) {
    const int bytes = 8 << 20;
    ::setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
  }
  // Such a state is copied a few times; memory fresh from the kernel costs a page fault per 4 KB each time, so freed memory is kept (both halves).
  ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 64 << 20);
  block_signals();   // both: the unprivileged half reads them as events, the privileged half ends when its socket closes
  const pid_t child = ::fork();
  if (child < 0) return fail(os_error("fork"));
  if (child == 0) {
    ::close(pair[0]);
    descriptors = {};
    manager = ServiceManager();   // the other half speaks for both
    ::prctl(PR_SET_NAME, "geckod: priv");
    set_log_name("geckod[" + options.node + "] privileged");
    if (auto ok = confine_privileged(); !ok) _exit(fail(ok.error()));
    const int code = Privileged(options, std::move(*kernel), Fd(pair[1]), *journal, watchdog).run();
    _exit(code);
  }
  ::close(pair[1]);
  descriptors.privileged.reset(pair[0]);
  kernel = make_error(Errc::closed, "with the privileged half");
  if (auto ok = confine_unprivileged(options.user); !ok) return fail(ok.error());

  std::vector<std::shared_ptr<net::TlsContext>> contexts;
  for (const auto& group : options.groups) {
    auto context = net::TlsContext::load(group.name, options.node, key_copy(options, group));
    if (!context) return fail(context.error());
    contexts.push_back(std::move(*context));
  }

  net::Loop loop;
  Daemon daemon(options, loop, std::move(descriptors), *journal);
  const Fd signals = watch_signals(loop, [&] { daemon.end(); }, [&] { daemon.reload(); });
  if (auto ok = daemon.start(std::move(contexts), std::move(manager)); !ok) return fail(ok.error());
  log_info("node " + options.node + " is running, API socket " + options.runtime_dir + "/geckod.sock");
  const int code = daemon.run();
  log_info("ending; connections of applications go on");
  return code;
}

}  // namespace
}  // namespace gecko::node

int main(int argc, char** argv) {
  using namespace gecko;
  using namespace gecko::node;
  Options options;
  std::vector<std::string> files;
  std::string level = "info";
  bool check = false;
  CLI::App app{"geckod: the node daemon of Gecko. One group file per group; the same file on all nodes."};
  app.add_option("FILE", files, "group files (TOML), see gecko-group.toml(5)")->required();
  app.add_option("--node", options.node, "this node's name in the group files (default: the host name)");
  app.add_option("--runtime-dir", options.runtime_dir, "where the API socket is made")->capture_default_str();
  app.add_option("--state-dir", options.state_dir, "where this node keeps what it has promised about who is a member")->capture_default_str();
  app.add_option("--keys", options.keys, "key directory (default: the group's 'keys', or /etc/gecko/keys/GROUP)");
  app.add_option("--user", options.user, "user of the unprivileged half (default: gecko, or nobody where there is no such user)");
  app.add_option("--cpu", options.cpu, "run both halves on this CPU");
  app.add_option("--spin-us", options.spin_us, "poll for so long after each step of a handoff in flight; 0: never")->capture_default_str();
  app.add_option("--log-level", level, "debug, info, warning, error")->check(CLI::IsMember({"debug", "info", "warning", "error"}))->capture_default_str();
  app.add_flag("--witness", options.witness, "vote on who is a member and serve nothing; the group files mark this node with 'witness = true'");
  app.add_flag("--check-config", check, "read the group files, say what is wrong, and end");
  app.set_version_flag("--version", "geckod " GECKO_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? 0 : kUsage;
  }
  set_log_level(level == "debug" ? LogLevel::debug : level == "warning" ? LogLevel::warn : level == "error" ? LogLevel::error : LogLevel::info);
  if (options.node.empty() && !check) {
    char host[256] = {};
    ::gethostname(host, sizeof host - 1);
    options.node = host;
  }
  set_log_name(options.node.empty() ? "geckod" : "geckod[" + options.node + "]");
  auto groups = load_groups(files, options.node, options.witness);
  if (!groups) {
    log_error(groups.error().message);
    return groups.error().code == Errc::not_found ? kNoInput : kDataError;
  }
  options.groups = std::move(*groups);
  if (options.user.empty()) {
    options.user = ::getpwnam("gecko") != nullptr ? "gecko" : "nobody";
    if (options.user == "nobody" && !check) log_info("there is no user 'gecko': the unprivileged half runs as 'nobody'");
  }
  if (check) {
    std::printf("%zu group file%s: no errors\n", files.size(), files.size() == 1 ? "" : "s");
    return 0;
  }
  return options.witness ? run_witness(options) : run(options);
}
