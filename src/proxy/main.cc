// geckoproxy: an unmodified TCP server behind a group. docs/man/geckoproxy.1.scd, docs/adr/0013
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/log.hh"
#include "base/service_manager.hh"
#include "proxy/options.hh"
#include "proxy/worker.hh"

namespace gecko::proxy {
namespace {

using Json = nlohmann::ordered_json;
using Workers = std::vector<std::unique_ptr<Worker>>;

constexpr int kUsage = 64, kNoInput = 66, kUnavailable = 69, kNoPermission = 77, kConfig = 78;   // sysexits

int exit_code(const Error& error) {
  switch (error.code) {
    case Errc::permission: return kNoPermission;
    case Errc::invalid: return kConfig;
    case Errc::not_found: return kNoInput;
    case Errc::unavailable: case Errc::timeout: return kUnavailable;
    default: return 1;
  }
}

void print(const Json& event) {
  std::printf("%s\n", event.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
  std::fflush(stdout);
}

int fail(const Settings& settings, const Error& error) {
  log_error(error.message);
  if (settings.json) print({{"schema", "gecko.proxy/1"}, {"event", "error"}, {"code", std::string(to_string(error.code))}, {"message", error.message}});
  return exit_code(error);
}

void report(const Settings& settings, const Workers& workers, const char* event) {
  Statistics all;
  size_t connections = 0;
  for (const auto& worker : workers) {
    const auto one = worker->report();
    all.add(one.statistics);
    connections += one.connections;
  }
  Json unmovable = all.unmovable, cut = all.cut;
  const Json line = {{"schema", "gecko.proxy/1"},
                     {"event", event},
                     {"connections", connections},
                     {"accepted", all.accepted},
                     {"arrived", all.arrived},
                     {"moved", all.moved},
                     {"postponed", all.postponed},
                     {"move_failed", all.move_failed},
                     {"detours", all.detours},
                     {"requests", all.requests},
                     {"bytes_in", all.bytes_in},
                     {"bytes_out", all.bytes_out},
                     {"server_failed", all.server_failed},
                     {"reset", all.reset},
                     {"waited", all.waited},
                     {"recovered", all.recovered},
                     {"continued", all.continued},
                     {"repeated", all.repeated},
                     {"resumed", all.resumed},
                     {"refused", all.refused},
                     {"cut", cut},
                     {"unmovable", unmovable}};
  if (settings.json) return print(line);
  std::string text = std::string(event) + ":";
  for (const auto& [key, value] : line.items())
    if (value.is_number() && value != 0) text += " " + key + " " + value.dump();
  for (const auto& [reason, count] : all.unmovable) text += "; " + std::to_string(count) + " stayed: " + reason;
  for (const auto& [reason, count] : all.cut) text += "; " + std::to_string(count) + " cut off: " + reason;
  log_info(text);
}

int run(const Settings& settings) {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &files);
  }
  (void)::signal(SIGPIPE, SIG_IGN);   // splice has no flag for it
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&signals, number);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  Fd told(::signalfd(-1, &signals, SFD_CLOEXEC));
  if (!told) return fail(settings, os_error("watch for signals"));

  Workers workers;
  for (unsigned i = 0; i < settings.workers; ++i) {
    workers.push_back(std::make_unique<Worker>(settings));
    if (auto ok = workers.back()->start(); !ok) return fail(settings, ok.error());
  }
  const auto& framework = workers.front()->framework();
  const uint16_t port = workers.front()->port();
  if (settings.json) {
    print({{"schema", "gecko.proxy/1"}, {"event", "ready"}, {"group", framework.group()}, {"node", framework.node()}, {"address", framework.address()},
           {"port", port}, {"server", settings.server.str()}, {"mode", settings.mode == Mode::raw ? "raw" : "http"}, {"workers", settings.workers},
           {"max_connections", connection_limit(settings)}});
  } else {
    log_info("node " + framework.node() + " serves group " + framework.group() + " at " + framework.address() + " port " + std::to_string(port) + " from " +
             settings.server.str());
  }
  const auto found = ServiceManager::find();
  if (!found) log_warn(found.error().message + ": nobody is told that geckoproxy is ready");
  const ServiceManager none;
  const ServiceManager& manager = found ? *found : none;
  manager.ready("port " + std::to_string(port) + " of group " + framework.group() + " from " + settings.server.str());
  // This thread listens to signals until the last worker has ended.
  Fd ended(::eventfd(0, EFD_CLOEXEC));
  std::atomic<size_t> running = workers.size();
  std::vector<std::thread> threads;
  for (const auto& worker : workers) {
    threads.emplace_back([&] {
      worker->run();
      const uint64_t one = 1;
      if (--running == 0) (void)!::write(ended.get(), &one, sizeof one);
    });
  }
  for (pollfd ready[] = {{told.get(), POLLIN, 0}, {ended.get(), POLLIN, 0}}; ::poll(ready, 2, -1) < 0 || ready[1].revents == 0;) {
    signalfd_siginfo info{};
    if (ready[0].revents == 0 || ::read(told.get(), &info, sizeof info) != sizeof info) continue;
    if (info.ssi_signo == SIGUSR1) report(settings, workers, "report");
    else {
      manager.stopping();
      for (const auto& worker : workers) worker->stop();
    }
  }
  for (auto& thread : threads) thread.join();
  report(settings, workers, "end");
  return 0;
}

}  // namespace
}  // namespace gecko::proxy

int main(int argc, char** argv) {
  using namespace gecko;
  proxy::CommandLine line;
  CLI::App app{"geckoproxy: puts an unmodified TCP server behind a group of machines. Its clients can move between them."};
  proxy::add_options(app, line);
  app.set_version_flag("--version", "geckoproxy " GECKO_VERSION);
  app.footer("example: geckoproxy -g /etc/gecko/web.toml -a 8080");
  set_log_name("geckoproxy");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : proxy::kUsage;
  }
  if (!line.completion.empty()) {
    std::fputs(proxy::completion(app, line.completion).c_str(), stdout);
    return 0;
  }
  if (auto ok = proxy::interpret(line); !ok) {
    log_error(ok.error().message);
    return proxy::kUsage;
  }
  return proxy::run(line.settings);
}
