#include "kit/net_counters.hh"

#include <fstream>
#include <sstream>

namespace gecko::kit {

Result<std::map<std::string, uint64_t>> net_counters(const lab::Lab& lab, const std::string& host) {
  std::map<std::string, uint64_t> counters;
  GECKO_CHECK(lab.inside(host, [&]() -> Status {
    // thread-self: /proc/net would be the namespace of the process's first thread.
    for (const char* path : {"/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"}) {
      std::ifstream file(path);
      if (!file) return os_error(path);
      // Pairs of lines with the same prefix: names, then values.
      for (std::string names, values; std::getline(file, names) && std::getline(file, values);) {
        std::istringstream n(names), v(values);
        std::string prefix, again, name;
        int64_t value = 0;  // some of other protocols are negative
        n >> prefix;
        v >> again;
        if (prefix != again || prefix.empty()) return make_error(Errc::internal, std::string(path) + " is not in pairs of lines");
        prefix.back() = '.';
        while (n >> name && v >> value) counters[prefix + name] = static_cast<uint64_t>(value);
      }
    }
    return {};
  }));
  return counters;
}

Result<std::map<std::string, uint64_t>> link_bytes(const lab::Lab& lab, const std::string& host) {
  std::map<std::string, uint64_t> bytes;
  GECKO_CHECK(lab.inside(host, [&]() -> Status {
    const char* path = "/proc/thread-self/net/dev";
    std::ifstream file(path);
    if (!file) return os_error(path);
    // "  eth0: " and 16 numbers, of which the first is bytes received and the ninth bytes sent; two lines of titles before.
    for (std::string line; std::getline(file, line);) {
      const size_t colon = line.find(':');
      if (colon == std::string::npos) continue;
      std::istringstream name(line.substr(0, colon)), numbers(line.substr(colon + 1));
      std::string interface;
      name >> interface;
      uint64_t number = 0;
      for (int column = 0; column < 9 && numbers >> number; ++column)
        if (column == 0 || column == 8) bytes[interface] += number;
    }
    return {};
  }));
  return bytes;
}

Result<uint64_t> net_counter(const lab::Lab& lab, const std::vector<std::string>& hosts, const std::string& name) {
  uint64_t sum = 0;
  for (const auto& host : hosts) {
    GECKO_TRY(const auto counters, net_counters(lab, host));
    if (const auto it = counters.find(name); it != counters.end()) sum += it->second;
  }
  return sum;
}

}  // namespace gecko::kit
