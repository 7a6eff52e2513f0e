// What tests of dying nodes share: every node is a member before a test begins, clients of each kind, and what the heirs have counted.
#pragma once

#include "fault_scene.hh"
#include "kit/download_client.hh"
#include "kit/upload_client.hh"
#include "speakers.hh"

namespace gecko::system_test {

class RecoveryTest : public FaultTest {
 protected:
  void SetUp() override {}
  void TearDown() override;
  void begin(const kit::SceneOptions& options);   // and waits until every node is a member and has its lease

  kit::DownloadClient& download(uint64_t size, size_t bytes_per_ms = 0);
  kit::UploadClient& upload(uint64_t size, size_t bytes_per_ms = 0);
  kit::Totals totals(kit::Client& client);
  double longest_ms(kit::Client& client);          // silence, ever
  void all_protected(const std::string& node);     // each of its connections, or the test fails
  void give_all_to(const std::string& node);       // every connection, from wherever it is
  std::vector<std::string> others(const std::string& dead);
  uint64_t recovered(const std::vector<std::string>& at, const char* what = "recovered");   // by these heirs
  std::string recoveries(const std::string& node);
  // From here on it is heard who speaks for which connection, until the test ends or listens anew: two nodes that speak for one fail it.
  void listen();
  // Since `out` the node gets no lease. Of all connections for which it had spoken before, not a packet leaves it from the lease's end until `until`
  // (which must have come when the test ends); in the second before `out` something did, or nothing is proven.
  void must_be_silent(const std::string& node, BootTime out, BootTime until);
  void judge_speakers();

  void stop_all_of(const std::string& node);       // SIGSTOP, for wakes_silently
  // After five seconds a stopped node goes on: not a packet of what it owned leaves it in the next one, and it joins again.
  void wakes_silently(const std::string& node);
  // Both die, the second while it recovers the connections of the first, of which there are `all`.
  void kill_in_mid_recovery(const std::string& dead, const std::string& heir, size_t all);

 private:
  template <class Options>
  Options transfer(uint64_t size, size_t bytes_per_ms);   // of the stream server, a content of its own

  struct Silence {
    std::string node;
    BootTime out, until;
  };
  uint64_t seed_ = 100;
  std::unique_ptr<Speakers> speakers_;
  std::vector<Silence> silences_;
  Duration lease_{};
  BootTime stopped_{};
};

}  // namespace gecko::system_test
