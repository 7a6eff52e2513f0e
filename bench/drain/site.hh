// The same web site four times in one lab, to be taken out of service on n1: an unmodified nginx on every node, and before it
//
//   gecko            geckoproxy on every node; `gecko drain n1 --wait`
//   haproxy          haproxy on n1 and n2, HTTP mode; SIGUSR1 (soft-stop) on n1. Clients know both addresses (two DNS records)
//   haproxy_reload   the same haproxy replaced on n1: a new process with -x and -sf, as Debian's reload does. Nobody leaves the machine
//   nginx            nginx alone on n1 and n2 behind one keepalived address (VRRP); keepalived on n1 is told to give it up, nginx reloaded
//   nginx_reload     the same without moving the address. Nobody leaves the machine
//
// Everything is gone with the lab. One thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kit/operator.hh"
#include "lab/lab.hh"
#include "lab_programs.hh"

namespace gecko::bench {

inline const std::vector<std::string> kWays = {"gecko", "haproxy", "haproxy_reload", "nginx", "nginx_reload"};

struct Memory {
  double mb = 0, peak_mb = 0;
};

class DrainSite {
 public:
  static Result<std::unique_ptr<DrainSite>> up(double slow_seconds, const std::function<bool()>& interrupted);

  const lab::Lab& lab() const { return *lab_; }
  static constexpr size_t kSmall = 1 << 10;
  std::string small() const { return content_.substr(0, kSmall); }  // of /small
  const std::string& content() const { return content_; }           // of /file and /slow; the latter takes slow_seconds
  std::vector<Endpoint> servers(const std::string& way) const;      // where its clients connect, in this order
  Status prepare(const std::string& way);                           // n1 serves, nothing is left of an earlier drain
  Status drain(const std::string& way);                             // begins it
  Result<bool> emptied(const std::string& way);  // what served the clients has ended (gecko: `--wait` says done, and no socket is left)
  // Of geckod and geckoproxy on each node ("n1.geckod"): now, and the most since reset_peaks().
  Result<std::map<std::string, Memory>> memory() const;
  void reset_peaks() const;
  std::vector<pid_t> gecko_processes(const std::string& node) const;
  std::string keep_logs() const { return programs_->keep_logs(); }

 private:
  DrainSite() = default;
  Status write_files(double slow_seconds);
  Status start_haproxy(const std::string& node);
  Result<size_t> clients_of_group(const std::string& node) const;  // by the kernel
  std::string file(const std::string& name) const { return lab_->directory() + "/" + name; }

  std::unique_ptr<lab::Lab> lab_;
  std::unique_ptr<kit::Operator> operator_;
  std::string content_;
  std::unique_ptr<LabPrograms> programs_;
  lab::Process leaving_;                          // gecko drain --wait, or the haproxy that is on its way out
  std::vector<pid_t> old_workers_;                // nginx's
};

}  // namespace gecko::bench
