#include "lab/lab.hh"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "config/keys.hh"
#include "lab/daemon.hh"
#include "lab/journal.hh"
#include "lab/lab_lock.hh"
#include "lab/net_namespace.hh"
#include "net/interface.hh"

namespace gecko::lab {
namespace {

Status make_directory(const std::string& path, mode_t mode) {
  if (mkdir(path.c_str(), mode) == 0) chmod(path.c_str(), mode);  // whatever the umask
  else if (errno != EEXIST) return os_error("make " + path);
  return {};
}

// The old or the new one, whenever this is killed: a journal that is empty for a moment would leave its namespaces behind.
Status write_file(const std::string& path, std::string_view text) {
  const std::string fresh = path + ".new";
  const Fd file(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file || write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) return os_error("write " + fresh);
  if (rename(fresh.c_str(), path.c_str()) != 0) return os_error("rename " + fresh);
  return {};
}

// Both only when this was the last lab and geckod has nothing there.
void remove_empty_parents() {
  rmdir(kLabRoot);
  rmdir("/run/gecko");
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Errors: exists.
Status make_lab_directory(const std::string& directory) {
  for (;;) {
    GECKO_CHECK(make_directory("/run/gecko", 0755));
    if (mkdir(kLabRoot, 0755) == 0) chmod(kLabRoot, 0755);
    else if (errno != EEXIST && errno != ENOENT) return os_error(std::string("make ") + kLabRoot);
    if (mkdir(directory.c_str(), 0711) == 0) break;
    if (errno != ENOENT) return os_error("make " + directory);  // ENOENT: the last other lab has just gone, and its parents with it
  }
  // Whatever the umask: geckod gives up root and applications need not have it, but both reach the sockets below.
  chmod(directory.c_str(), 0711);
  return {};
}

// Before there is any interface: those inherit `default`. IPv4's values come from the machine's own namespace otherwise.
Status set_sysctls(bool router) {
  for (const std::string where : {"all", "default"}) {
    GECKO_CHECK(net::write_sysctl("net/ipv6/conf/" + where + "/disable_ipv6", "0"));
    GECKO_CHECK(net::write_sysctl("net/ipv6/conf/" + where + "/accept_dad", "0"));  // no second of waiting for each address
    GECKO_CHECK(net::write_sysctl("net/ipv6/conf/" + where + "/accept_ra", "0"));
    GECKO_CHECK(net::write_sysctl("net/ipv6/conf/" + where + "/forwarding", router ? "1" : "0"));
    GECKO_CHECK(net::write_sysctl("net/ipv4/conf/" + where + "/rp_filter", "0"));
    GECKO_CHECK(net::write_sysctl("net/ipv4/conf/" + where + "/send_redirects", "0"));
  }
  return net::write_sysctl("net/ipv4/ip_forward", router ? "1" : "0");
}

}  // namespace

Lab::Lab(LabOptions options) : options_(std::move(options)), hosts_(hosts_of(options_)) {}

Lab::~Lab() {
  if (mine_) (void)down();  // its journal stays when this fails: the next down tries again
}

Result<std::unique_ptr<Lab>> Lab::up(const LabOptions& options, const std::function<bool()>& interrupted) {
  GECKO_CHECK(check_options(options));
  if (geteuid() != 0) return make_error(Errc::permission, "a lab needs root for its network namespaces; use sudo");
  std::string geckod;
  if (options.daemons) {
    auto found = find_program("geckod");
    if (!found) return make_error(found.error().code, found.error().message + ", or bring the lab up with --no-daemons");
    geckod = *std::move(found);
  }

  std::unique_ptr<Lab> lab(new Lab(options));
  const std::string directory = lab->directory();
  if (const Status made = make_lab_directory(directory); !made) {
    if (made.error().code != Errc::exists) return made.error();
    const bool whole = Journal::parse(read_file(directory + "/journal")).complete;
    return make_error(Errc::exists, "lab '" + options.name + "' is " + (whole ? "already up" : "half made (an 'up' was interrupted or is still running)") +
                                        "; 'gecko lab down --name " + options.name + "' removes it, --name gives a second lab another name");
  }
  lab->mine_ = true;  // from here on a failure removes what was made
  const auto stop = [&] { return interrupted && interrupted(); };
  const Error stopped = make_error(Errc::closed, "interrupted; everything made so far was removed");
  {
    GECKO_TRY(const Fd locked, lock_lab(directory));
    auto built = lab->build(locked.get());
    if (built && stop()) built = stopped;
    for (const auto& host : lab->hosts_)
      if (built && options.daemons && host.is_node) built = start_geckod(*lab, host, geckod);
    if (!built) return std::move(built.error());
  }
  if (options.daemons) GECKO_CHECK(lab->wait_ready(kStartPatience, {}, interrupted));
  if (stop()) return stopped;
  return lab;
}

Status Lab::build(int lock) {
  Journal journal{options_, {}, false};
  for (const auto& host : hosts_) journal.namespaces.push_back(host.network_namespace);
  GECKO_CHECK(write_file(directory() + "/journal", journal.text()));
  GECKO_CHECK(write_file(group_file(), lab::group_file(options_)));
  if (options_.daemons) GECKO_CHECK(make_keys());

  std::string names;
  for (const auto& host : hosts_) {
    if (namespace_exists(host.network_namespace))
      return make_error(Errc::exists, "network namespace '" + host.network_namespace + "' is there already and is no lab's; 'ip netns del " +
                                          host.network_namespace + "' removes it");
    names += "netns add " + host.network_namespace + "\n";
  }
  GECKO_CHECK(batch({"ip", "-batch", "-"}, names, lock));
  for (const auto& host : hosts_)
    GECKO_CHECK(in_namespace(host.network_namespace, [&] { return set_sysctls(host.name == "router"); }));
  const std::string router = find("router")->network_namespace;
  GECKO_CHECK(batch({"ip", "-n", router, "-batch", "-"}, router_commands(options_), lock));
  if (options_.mbit != 0) GECKO_CHECK(batch({"tc", "-n", router, "-batch", "-"}, shaping_commands(options_), lock));
  for (const auto& host : hosts_)
    if (host.name != "router") GECKO_CHECK(batch({"ip", "-n", host.network_namespace, "-batch", "-"}, host_commands(options_, host), lock));
  journal.complete = complete_ = true;
  return write_file(directory() + "/journal", journal.text());
}

Status Lab::make_keys() {
  const std::string keys = directory() + "/keys";
  GECKO_CHECK(make_directory(keys, 0700));
  auto made = config::key_init(keys + "/ca", "lab");
  if (!made) return std::move(made.error());
  for (const auto& node : geckods()) {
    made = config::key_sign(keys + "/ca", node, keys + "/" + node);
    if (!made) return std::move(made.error());
  }
  return {};
}

Result<std::unique_ptr<Lab>> Lab::open(const std::string& name) {
  const std::string directory = std::string(kLabRoot) + "/" + name;
  const Journal journal = Journal::parse(read_file(directory + "/journal"));
  if (!check_options(journal.options) || journal.options.name != name) {
    std::string others;
    for (const auto& other : list()) others += " " + other;
    return make_error(Errc::not_found, "no lab '" + name + "' is up; " + (others.empty() ? "'gecko lab up' makes one" : "there are:" + others));
  }
  std::unique_ptr<Lab> lab(new Lab(journal.options));
  lab->complete_ = journal.complete;
  return lab;
}

std::vector<std::string> Lab::list() {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(kLabRoot, ignored))
    if (entry.is_directory(ignored)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

Status Lab::down() {
  mine_ = false;
  return down(options_.name);
}

Status Lab::down(const std::string& name) {
  LabOptions named;
  named.name = name;
  GECKO_CHECK(check_options(named));  // a name that is no path
  if (geteuid() != 0) return make_error(Errc::permission, "a lab belongs to root; use sudo");
  const std::string directory = std::string(kLabRoot) + "/" + name;
  auto locked = lock_lab(directory);
  if (!locked && locked.error().code == Errc::not_found) {
    remove_empty_parents();
    return {};
  }
  if (!locked) return std::move(locked.error());
  const Journal journal = Journal::parse(read_file(directory + "/journal"));
  Status first;
  const auto note = [&](Status status) {
    if (first && !status) first = std::move(status);
  };
  for (const auto& space : journal.namespaces) note(kill_processes(space));
  for (const auto& space : journal.namespaces) note(remove_namespace(space));
  // A disk that a test put there and could not take away: it was killed.
  for (const auto& host : hosts_of(journal.options))
    if (host.is_node) (void)umount2((directory + "/" + host.name + "/state").c_str(), MNT_DETACH);
  if (!first) return first;  // the journal stays, so that the next down goes on where this one failed
  std::error_code failed;
  std::filesystem::remove_all(directory, failed);
  if (failed) return os_error("remove " + directory, failed.value());
  remove_empty_parents();
  return {};
}

const Host* Lab::find(const std::string& host) const {
  const auto at = std::find_if(hosts_.begin(), hosts_.end(), [&](const Host& h) { return h.name == host; });
  return at == hosts_.end() ? nullptr : &*at;
}

std::vector<std::string> Lab::nodes() const {
  std::vector<std::string> names;
  for (const auto& host : hosts_)
    if (host.is_node && !host.is_witness) names.push_back(host.name);
  return names;
}

std::vector<std::string> Lab::geckods() const {
  auto names = nodes();
  if (options_.witness) names.emplace_back("w");
  return names;
}

std::vector<std::string> Lab::environment(const std::string& host) const {
  std::vector<std::string> environment = {"GECKO_LAB=" + options_.name, "GECKO_GROUP_FILE=" + group_file(), "GECKO_GROUP_ADDRESS=" + group_address().str(),
                                          "GECKO_GROUP_PORT=" + std::to_string(options_.ports.front())};
  if (const Host* where = find(host); where != nullptr && where->is_node) {
    environment.push_back("GECKO_NODE=" + host);
    environment.push_back("GECKO_SOCKET=" + socket(host));
  }
  return environment;
}

namespace {
Error no_host(const Lab& lab, const std::string& name) {
  std::string known;
  for (const auto& host : lab.hosts()) known += " " + host.name;
  return make_error(Errc::not_found, "lab '" + lab.options().name + "' has no host '" + name + "'; it has" + known);
}
}  // namespace

Result<Process> Lab::run(const std::string& host, const std::vector<std::string>& argv, SpawnOptions options) const {
  const Host* where = find(host);
  if (where == nullptr) return no_host(*this, host);
  GECKO_TRY(const Fd space, open_namespace(where->network_namespace));
  options.net_namespace = space.get();
  for (auto& variable : environment(host)) options.environment.push_back(std::move(variable));
  return spawn(argv, options);
}

Result<Output> Lab::output(const std::string& host, const std::vector<std::string>& argv, Duration at_most) const {
  const Host* where = find(host);
  if (where == nullptr) return no_host(*this, host);
  GECKO_TRY(const Fd space, open_namespace(where->network_namespace));
  SpawnOptions options;
  options.net_namespace = space.get();
  options.environment = environment(host);
  return lab::run(argv, options, {}, at_most);
}

Status Lab::enter(const std::string& host) const {
  const Host* where = find(host);
  if (where == nullptr) return no_host(*this, host);
  GECKO_TRY(const Fd space, open_namespace(where->network_namespace));
  if (setns(space.get(), CLONE_NEWNET) != 0) return os_error("enter network namespace '" + where->network_namespace + "'");
  return {};
}

Status Lab::inside(const std::string& host, const std::function<Status()>& work) const {
  const Host* where = find(host);
  if (where == nullptr) return no_host(*this, host);
  return in_namespace(where->network_namespace, work);
}

}  // namespace gecko::lab
