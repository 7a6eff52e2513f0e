// gecko clean: remove from the kernel what geckod has put there and left (docs/adr/0005), and labs that were never finished.
// Refuses while geckod runs: its connections would lose their steering.
#include <fcntl.h>
#include <net/if.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "bpf/gate.hh"
#include "bpf/steering.hh"
#include "cli/command.hh"
#include "cli/table.hh"
#include "lab/lab.hh"
#include "net/admin_client.hh"
#include "net/interface.hh"

namespace gecko::cli {
namespace {

struct CleanArguments {
  bool dry_run = false, force = false;
  std::string runtime_dir;
};

struct Object {
  std::string kind, name;
};

// The journal has one "KIND NAME" per line, in the order of creation; a restarted geckod notes the same things again.
std::vector<Object> read_journal(const std::string& path) {
  std::vector<Object> objects;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t space = line.find(' ');
    if (space == std::string::npos) continue;
    Object object{line.substr(0, space), line.substr(space + 1)};
    if (std::none_of(objects.begin(), objects.end(), [&](const Object& o) { return o.kind == object.kind && o.name == object.name; }))
      objects.push_back(std::move(object));
  }
  return objects;
}

// "ADDRESS INTERFACE"
Status remove_address(const std::string& name) {
  const size_t space = name.find(' ');
  if (space == std::string::npos) return make_error(Errc::invalid, "an address without its interface");
  GECKO_TRY(const Address address, Address::parse(name.substr(0, space)));
  const unsigned index = if_nametoindex(name.substr(space + 1).c_str());
  if (index == 0) return {};  // no interface, no address
  GECKO_TRY(auto rtnetlink, net::Rtnetlink::open());
  const Status removed = rtnetlink.remove_address(static_cast<int>(index), address);
  return removed || removed.error().code == Errc::not_found ? Status() : removed;
}

// "PATH OLD_VALUE"; the first entry of a path has the value from before the first geckod.
Status restore_sysctl(const std::string& name) {
  const size_t space = name.find(' ');
  if (space == std::string::npos || !name.starts_with("net/") || name.find("..") != std::string::npos)
    return make_error(Errc::invalid, "its old value was not noted; look at it with 'sysctl " + name + "'");
  return net::write_sysctl(name.substr(0, space), name.substr(space + 1));
}

Status remove(const Object& object) {
  if (object.kind == "filter") {
    const unsigned index = if_nametoindex(object.name.c_str());
    if (index == 0) return {};  // no interface, no filter
    GECKO_CHECK(bpf::Gate::detach_from(static_cast<int>(index)));
    return bpf::Steering::detach_from(static_cast<int>(index));
  }
  if (object.kind == "address") return remove_address(object.name);
  if (object.kind == "sysctl") return restore_sysctl(object.name);
  if (object.kind == "tun") return {};  // it ended with its process
  if (object.kind == "lab") return lab::Lab::down(object.name);
  return make_error(Errc::unsupported, "this gecko (" GECKO_VERSION ") does not know how to remove a " + object.kind);
}

std::vector<Object> half_made_labs() {
  std::vector<Object> labs;
  for (const auto& name : lab::Lab::list()) {
    const auto lab = lab::Lab::open(name);
    if (!lab || !(*lab)->complete()) labs.push_back({"lab", name});
  }
  return labs;
}

Exit clean(const Context& context, const CleanArguments& args) {
  const std::string runtime = !args.runtime_dir.empty() ? args.runtime_dir : context.socket.substr(0, context.socket.rfind('/'));
  const std::string socket = runtime + "/geckod.sock", journal = runtime + "/kernel.journal";
  if (geteuid() != 0 && !args.dry_run)
    return context.fail(make_error(Errc::permission, "removing things from the kernel needs root; use sudo, or --dry-run to look"));
  const auto running = net::AdminClient::connect(socket, "gecko clean", std::chrono::seconds(1));
  // Whatever else than "nobody listens" means that somebody is there, if only stopped.
  const bool alive = running || (running.error().code != Errc::unavailable && running.error().code != Errc::not_found);
  if (alive && !args.force && !args.dry_run)
    return context.fail(
        make_error(Errc::refused, "geckod runs (" + socket + "): its connections would lose their steering. Stop it first, or use --force"),
        Exit::unsafe);

  auto objects = read_journal(journal);
  std::reverse(objects.begin(), objects.end());  // last made, first removed; and of a sysctl's old values the oldest wins
  for (auto& lab : half_made_labs()) objects.push_back(std::move(lab));
  Exit exit = Exit::ok;
  Json rows = Json::array();
  for (const auto& object : objects) {
    const Status done = args.dry_run ? Status() : remove(object);
    Json row = {{"kind", object.kind}, {"name", object.name}, {"result", args.dry_run ? "would-remove" : done ? "removed" : "failed"}};
    if (!done) {
      row["error"] = done.error().message;
      exit = exit_for(done.error().code) == Exit::permission ? Exit::permission : Exit::error;
    }
    if (!context.json) {
      std::printf("%s %s %s\n",
                  args.dry_run ? "would remove"
                  : done       ? "removed"
                               : "could not remove",
                  printable(object.kind).c_str(), printable(object.name).c_str());
      if (!done) print_error(object.kind + " " + object.name + ": " + done.error().message);
    }
    rows.push_back(std::move(row));
  }
  if (!args.dry_run && exit == Exit::ok) {
    unlink(journal.c_str());
    unlink((runtime + "/handoff.journal").c_str());
    if (!alive) unlink(socket.c_str());
  }
  if (context.json) context.print({{"schema", "gecko.clean/1"}, {"dry_run", args.dry_run}, {"geckod_running", alive}, {"objects", std::move(rows)}});
  else if (objects.empty()) std::printf("nothing to remove\n");
  return exit;
}

}  // namespace

void add_clean(CLI::App& app, Context& context) {
  const auto args = std::make_shared<CleanArguments>();
  CLI::App* command = app.add_subcommand("clean", "remove what a geckod that runs no more has left in the kernel, and unfinished labs");
  command->add_flag("--dry-run", args->dry_run, "only say what would be removed");
  command->add_flag("--force", args->force, "also while geckod runs");
  command->add_option("--runtime-dir", args->runtime_dir, "geckod's; default: where its socket is")->type_name("DIR");
  command->callback([&context, args] { context.run = [&context, args] { return clean(context, *args); }; });
}

}  // namespace gecko::cli
