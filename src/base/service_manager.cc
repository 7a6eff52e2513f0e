#include "base/service_manager.hh"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace gecko {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

// 0: not there, or no number.
uint64_t number(const char* name) {
  const std::string text = variable(name);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? value : 0;
}

// Longer ones are cut: a status is a line on a screen.
constexpr size_t kLongestStatus = 400;

std::string line(std::string_view text) {
  std::string clean(text.substr(0, kLongestStatus));
  std::replace_if(clean.begin(), clean.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return "STATUS=" + clean;
}

}  // namespace

Result<ServiceManager> ServiceManager::find() {
  ServiceManager manager;
  const std::string at = variable("NOTIFY_SOCKET");
  if (at.empty()) return manager;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if ((at[0] != '/' && at[0] != '@') || at.size() >= sizeof address.sun_path)
    return make_error(Errc::unsupported, "NOTIFY_SOCKET is '" + at + "': not the socket of a service manager that this program knows");
  std::memcpy(address.sun_path, at.data(), at.size());
  if (at[0] == '@') address.sun_path[0] = '\0';   // abstract: named by these bytes and no more
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + at.size() + (at[0] == '/' ? 1 : 0));
  manager.socket_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!manager.socket_ || ::connect(manager.socket_.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0)
    return os_error("reach the service manager at NOTIFY_SOCKET " + at);
  constexpr uint64_t kLongest = 86'400'000'000;   // a day; more is no watchdog
  const uint64_t pid = number("WATCHDOG_PID"), every = number("WATCHDOG_USEC");
  if ((pid == 0 || pid == static_cast<uint64_t>(::getpid())) && every <= kLongest) manager.watchdog_ = std::chrono::microseconds(every);
  return manager;
}

void ServiceManager::say(const std::string& words) const {
  if (socket_) (void)::send(socket_.get(), words.data(), words.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void ServiceManager::ready(std::string_view text) const { say("READY=1\n" + line(text)); }

void ServiceManager::reloading() const {
  const auto now = std::chrono::duration_cast<std::chrono::microseconds>(monotonic_now().time_since_epoch());
  say("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(now.count()));
}

void ServiceManager::stopping() const { say("STOPPING=1"); }

void ServiceManager::alive() const { say("WATCHDOG=1"); }

void ServiceManager::status(std::string_view text) const { say(line(text)); }

}  // namespace gecko
