// gecko lab: a group with its network on this machine, to try, break and measure.
#include "lab/lab.hh"

#include <signal.h>
#include <unistd.h>

#include <memory>

#include "cli/command.hh"
#include "cli/lab_link.hh"

namespace gecko::cli {
namespace {

using lab::Lab;

struct LabArguments {
  lab::LabOptions up;
  bool return_home = false, no_daemons = false, all = false;
  std::string name = "lab", owner, host;
  std::vector<std::string> command;
};
using Arguments = std::shared_ptr<LabArguments>;

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// Interrupts are held back while a lab is made and asked for between its steps, so that ^C leaves nothing half made.
class HeldInterrupts {
 public:
  HeldInterrupts() {
    sigemptyset(&held_);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&held_, number);
    sigprocmask(SIG_BLOCK, &held_, &before_);
  }
  ~HeldInterrupts() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  bool pending() const {
    sigset_t waiting;
    sigpending(&waiting);
    return sigismember(&waiting, SIGINT) == 1 || sigismember(&waiting, SIGTERM) == 1 || sigismember(&waiting, SIGHUP) == 1;
  }
  // The work is done: an interrupt that came too late to stop it must not make it look failed.
  void discard() const {
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) signal(number, SIG_IGN);
  }

 private:
  sigset_t held_, before_;
};

// What `lab up` and `lab status` show as JSON: the same object.
Json describe(const Lab& lab) {
  Json hosts = Json::object();
  for (const auto& host : lab.hosts()) {
    Json one = {{"namespace", host.network_namespace}, {"address", host.address.str()}, {"address4", host.address4.str()}};
    if (host.is_node) {
      const auto state = lab.state(host.name);
      one["state"] = std::string(state ? to_string(*state) : "unknown");
      one["socket"] = lab.socket(host.name);
    }
    hosts[host.name] = std::move(one);
  }
  Json all = {{"schema", "gecko.lab/1"}, {"name", lab.options().name}, {"complete", lab.complete()}, {"group", "lab"},
              {"group_address", lab.group_address().str()}, {"port", lab.options().ports.front()}, {"ports", lab.options().ports},
              {"daemons", lab.options().daemons}, {"hosts", std::move(hosts)}, {"group_file", lab.group_file()}};
  const auto links = lab.links();
  all["links"] = links ? describe_links(*links) : Json::array();
  if (!links) all["links_error"] = links.error().message;
  return all;
}

Exit up(const Context& context, LabArguments& args) {
  args.up.name = args.name;
  args.up.daemons = !args.no_daemons;
  args.up.owner = environment("GECKO_LAB_OWNER");
  if (args.return_home) args.up.return_path = config::ReturnPath::home;
  const Time start = monotonic_now();
  const HeldInterrupts interrupts;
  auto made = Lab::up(args.up, [&] { return interrupts.pending(); });
  if (!made) return context.fail(made.error());
  Lab& lab = **made;
  lab.keep();
  interrupts.discard();
  if (context.json) {
    context.print(describe(lab));
    return Exit::ok;
  }
  const std::string by_name = args.name == "lab" ? "" : " --name " + args.name;
  const std::string group = lab.group().str();
  const std::string last = "n" + std::to_string(args.up.nodes);
  const std::string nodes = (args.up.nodes == 1 ? "n1" : "n1 to " + last) + (args.up.witness ? ", witness w" : "");
  std::printf("Lab '%s' is up after %.1f s: client, router, %s; group address %s%s.\n\n", args.name.c_str(),
              std::chrono::duration<double>(monotonic_now() - start).count(), nodes.c_str(), group.c_str(),
              args.no_daemons ? " (no geckod: a plain network)" : "");
  std::printf("Try next:\n");
  if (!args.no_daemons) std::printf("  gecko lab exec%s n1 -- gecko status\n", by_name.c_str());
  std::printf("  gecko lab exec%s client -- ping %s\n", by_name.c_str(), lab.find(last)->address.str().c_str());
  std::printf("  gecko lab exec%s n1 -- bash\n", by_name.c_str());
  std::printf("  gecko lab cut%s n1; gecko lab status%s; gecko lab heal%s n1\n", by_name.c_str(), by_name.c_str(), by_name.c_str());
  std::printf("  gecko lab down%s\n", by_name.c_str());
  return Exit::ok;
}

Exit status(const Context& context, const LabArguments& args) {
  const auto lab = Lab::open(args.name);
  if (!lab) return context.fail(lab.error());
  const Json all = describe(**lab);
  if (context.json) {
    context.print(all);
  } else {
    std::printf("lab %s: group address %s%s\n", args.name.c_str(), (*lab)->group().str().c_str(),
                (*lab)->complete() ? "" : "; half made: 'gecko lab down' removes it");
    for (const auto& [name, host] : all["hosts"].items())
      std::printf("  %-8s %-8s %-22s %s\n", name.c_str(), host.contains("state") ? host["state"].get<std::string>().c_str() : "",
                  host["address"].get<std::string>().c_str(), host["address4"].get<std::string>().c_str());
    for (const auto& link : all["links"])
      std::printf("  %-8s %s\n", (link["from"].get<std::string>() + " > " + link["to"].get<std::string>()).c_str(), link["text"].get<std::string>().c_str());
    std::printf("group file %s\n", (*lab)->group_file().c_str());
    if (all.contains("links_error")) print_error(all["links_error"].get<std::string>());
  }
  return (*lab)->complete() && !all.contains("links_error") ? Exit::ok : Exit::degraded;
}

Exit down(const Context& context, const LabArguments& args) {
  Exit exit = Exit::ok;
  if (!args.owner.empty() && !args.all) return context.fail(make_error(Errc::invalid, "--owner chooses among --all labs; give both"));
  for (const auto& name : args.all ? Lab::list() : std::vector<std::string>{args.name}) {
    if (!args.owner.empty()) {
      const auto lab = Lab::open(name);
      if (!lab || (*lab)->options().owner != args.owner) continue;
    }
    if (const auto done = Lab::down(name); !done) exit = context.fail(done.error());
  }
  if (context.json && exit == Exit::ok) context.print({{"schema", "gecko.lab-down/1"}, {"left", Lab::list()}});
  return exit;
}

Exit exec(const Context& context, const LabArguments& args) {
  const auto lab = Lab::open(args.name);
  if (!lab) return context.fail(lab.error());
  if (const auto entered = (*lab)->enter(args.host); !entered) return context.fail(entered.error());
  for (auto& variable : (*lab)->environment(args.host)) {
    const size_t equals = variable.find('=');
    setenv(variable.substr(0, equals).c_str(), variable.substr(equals + 1).c_str(), 1);
  }
  std::vector<char*> argv;
  for (const auto& word : args.command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  execvp(argv[0], argv.data());
  const int error = errno;
  // The numbers a shell and env(1) use for "not found" and "found but not executable".
  (void)context.fail(os_error("execute '" + args.command.front() + "'", error));
  return static_cast<Exit>(error == ENOENT ? 127 : 126);
}

Exit fault(const Context& context, const LabArguments& args, Status (Lab::*what)(const std::string&)) {
  const auto lab = Lab::open(args.name);
  if (!lab) return context.fail(lab.error());
  if (const auto done = ((**lab).*what)(args.host); !done) return context.fail(done.error());
  if (context.json) context.print(describe(**lab));
  return Exit::ok;
}

// A daemon that has just been started again answers before the command ends.
Exit start(const Context& context, const LabArguments& args) {
  const auto lab = Lab::open(args.name);
  if (!lab) return context.fail(lab.error());
  if (const auto started = (*lab)->start(args.host); !started) return context.fail(started.error());
  if (const auto ready = (*lab)->wait_ready(lab::kStartPatience, {args.host}); !ready) return context.fail(ready.error());
  if (context.json) context.print(describe(**lab));
  return Exit::ok;
}

}  // namespace

void add_lab(CLI::App& app, Context& context) {
  const Arguments args = std::make_shared<LabArguments>();
  CLI::App* lab = app.add_subcommand("lab", "a group with its network on this machine: client, router, nodes as network namespaces");
  lab->require_subcommand(1)->fallthrough();
  lab->add_option("--name", args->name, "which lab; several live side by side")->type_name("NAME");

  const auto add = [&](CLI::App* command, std::function<Exit()> work) {
    command->fallthrough()->callback([&context, work = std::move(work)] { context.run = work; });
  };
  CLI::App* u = lab->add_subcommand("up", "make a lab and start a geckod on each of its nodes");
  u->add_option("--nodes", args->up.nodes, "how many: n1 to nN")->type_name("N")->check(CLI::Range(1, lab::kMaxLabNodes));
  u->add_flag("--witness", args->up.witness, "and w, a witness: it votes and serves nothing");
  u->add_flag("--ipv4", args->up.ipv4, "the group address is IPv4");
  u->add_option("--mbit", args->up.mbit, "rate of every link, in Mbit/s; 0 leaves them unshaped")->type_name("N")->check(CLI::Range(0, 1'000'000));
  u->add_option("--port", args->up.ports, "port of the group; may be repeated")->type_name("P")->allow_extra_args(false);
  u->add_option("--policy", args->up.policy, "who gets new connections")
      ->check(CLI::IsMember(std::vector<std::string>(std::begin(config::kPolicies), std::end(config::kPolicies))));
  u->add_option("--weight", args->up.weights, "weight of n1, of n2 if repeated, ...: for the policies weighted, hash-client, hash-bytes")
      ->type_name("N")
      ->allow_extra_args(false);
  u->add_option("--recovery", args->up.recovery, "what becomes of connections whose node dies: none, fast, replicated");
  u->add_option("--backups", args->up.backups, "nodes that know a node's connections; with --recovery")->type_name("N")->check(CLI::Range(1, 4));
  u->add_flag("--rebalance", args->up.rebalance, "move live connections to nodes that join");
  u->add_option_function<std::string>("--return", [args](const std::string& path) { args->return_home = path == "home"; }, "which way answers take")
      ->check(CLI::IsMember({"direct", "home"}));
  u->add_flag("--no-daemons", args->no_daemons, "only the network, no geckod: for baselines");
  add(u, [&context, args] { return up(context, *args); });

  CLI::App* e = lab->add_subcommand("exec", "run a command on a host of the lab: gecko lab exec n1 -- CMD...");
  e->add_option("host", args->host, "client, router or a node")->required()->type_name("");
  e->add_option("command", args->command, "the command and its arguments")->required()->type_name("");
  add(e, [&context, args] { return exec(context, *args); });

  struct Fault {
    const char *name, *help;
    Status (Lab::*what)(const std::string&);
  };
  for (const auto& f : {Fault{"kill", "end every process of a node at once (SIGKILL)", &Lab::kill},
                        Fault{"cut", "pull a node's cable", &Lab::cut}, Fault{"heal", "plug it in again", &Lab::heal},
                        Fault{"pause", "stop every process of a node (SIGSTOP)", &Lab::pause}, Fault{"resume", "let them go on", &Lab::resume}}) {
    CLI::App* command = lab->add_subcommand(f.name, f.help);
    command->add_option("node", args->host, "n1 to nN")->required()->type_name("");
    add(command, [&context, args, what = f.what] { return fault(context, *args, what); });
  }
  CLI::App* s = lab->add_subcommand("start", "start geckod on a node again");
  s->add_option("node", args->host, "n1 to nN")->required()->type_name("");
  add(s, [&context, args] { return start(context, *args); });
  add_lab_link(*lab, context, std::shared_ptr<const std::string>(args, &args->name));
  add(lab->add_subcommand("status", "hosts, addresses, states, links"), [&context, args] { return status(context, *args); });
  CLI::App* d = lab->add_subcommand("down", "end everything in a lab and remove it; also what a crash left over");
  d->add_flag("--all", args->all, "every lab of this machine");
  d->add_option("--owner", args->owner, "with --all: only labs made with this GECKO_LAB_OWNER")->type_name("WORD");
  add(d, [&context, args] { return down(context, *args); });
}

}  // namespace gecko::cli
