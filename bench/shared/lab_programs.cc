#include "lab_programs.hh"

#include <sys/socket.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace gecko::bench {

Status LabPrograms::start(const std::string& node, const std::string& name, const std::vector<std::string>& argv) {
  lab::SpawnOptions options;
  options.log_file = file(node) + "/" + name + ".log";
  options.dies_with_parent = true;
  GECKO_TRY(programs_[node + "." + name], lab_.run(node, argv, options));
  return {};
}

lab::Process LabPrograms::take(const std::string& node, const std::string& name) {
  const auto it = programs_.find(node + "." + name);
  if (it == programs_.end()) return {};
  lab::Process process = std::move(it->second);
  programs_.erase(it);
  return process;
}

Status LabPrograms::start_keepalived(const std::string& master, const std::string& backup, const std::string& address) {
  for (const auto& node : {master, backup}) {
    const std::string home = file(node) + "/keepalived";
    GECKO_CHECK(start(node, "keepalived",
                      {"keepalived", "--dont-fork", "--log-console", "--vrrp", "--use-file", home + ".conf", "--pid", home + ".pid", "--vrrp_pid",
                       home + "-vrrp.pid"}));
    if (node == master) GECKO_CHECK(wait_until("keepalived's address on " + node, [&] { return has_address(node, address); }));
  }
  return wait_until("keepalived on " + backup, [&] {
    std::ifstream log(file(backup) + "/keepalived.log");
    std::stringstream text;
    text << log.rdbuf();
    return text.str().find("Entering BACKUP STATE") != std::string::npos && !has_address(backup, address);
  });
}

bool LabPrograms::has_address(const std::string& node, const std::string& address) const {
  const auto out = lab_.output(node, {"ip", "-6", "addr", "show", "to", address});
  return out && !out->out.empty();
}

Status LabPrograms::wait_until(const std::string& what, const std::function<bool()>& done, Duration at_most) const {
  for (const Time end = monotonic_now() + at_most; !done();) {
    if (interrupted_ && interrupted_()) return make_error(Errc::closed, "interrupted");
    if (monotonic_now() > end) return make_error(Errc::timeout, what + ": not in time; logs are in " + keep_logs());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return {};
}

Status LabPrograms::wait_listening(const std::string& node, uint16_t port) const {
  return wait_until("port " + std::to_string(port) + " of " + node, [&] {
    return bool(lab_.inside(node, [&]() -> Status {
      const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_storage name;
      const socklen_t size = Endpoint{Address::from_v4(INADDR_LOOPBACK), port}.to_sockaddr(name);
      if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), size) != 0) return os_error("connect");
      return {};
    }));
  });
}

std::string LabPrograms::keep_logs() const {
  const std::string to = "/tmp/gecko-" + lab_.options().name + "-logs";
  std::error_code error;
  for (const auto& node : lab_.nodes()) {
    std::filesystem::create_directories(to + "/" + node, error);
    for (const auto& entry : std::filesystem::directory_iterator(file(node), error))
      if (entry.path().extension() == ".log")
        std::filesystem::copy_file(entry.path(), to + "/" + node + "/" + entry.path().filename().string(),
                                   std::filesystem::copy_options::overwrite_existing, error);
  }
  return to;
}

}  // namespace gecko::bench
