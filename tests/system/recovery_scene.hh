// What tests of dying nodes share: every node is a member before a test begins, clients of each kind, and what the heirs have counted.
#pragma once

#include "fault_scene.hh"
#include "kit/download_client.hh"
#include "kit/upload_client.hh"

namespace gecko::system_test {

class RecoveryTest : public FaultTest {
 protected:
  void SetUp() override {}
  void begin(const kit::SceneOptions& options);   // and waits until every node is a member and has its lease

  kit::DownloadClient& download(uint64_t size, size_t bytes_per_ms = 0);
  kit::UploadClient& upload(uint64_t size, size_t bytes_per_ms = 0);
  lab::Lab& faults() { return const_cast<lab::Lab&>(lab()); }

  kit::Totals totals(kit::Client& client);
  double longest_ms(kit::Client& client);          // silence, ever
  void all_protected(const std::string& node);     // each of its connections, or the test fails
  void give_all_to(const std::string& node);       // every connection, from wherever it is
  std::vector<std::string> others(const std::string& dead);
  uint64_t recovered(const std::vector<std::string>& at, const char* what = "recovered");   // by these heirs
  std::string recoveries(const std::string& node);
  // After five seconds a stopped node goes on: not a packet of what it owned reaches the client, and it joins again.
  void wakes_silently(const std::string& node);

 private:
  template <class Options>
  Options transfer(uint64_t size, size_t bytes_per_ms);   // of the stream server, a content of its own

  uint64_t seed_ = 100;
};

}  // namespace gecko::system_test
