// Unmodified clients of other people, on both families, while all their connections go from node to node and the contact changes. They
// must end as they would have ended anyway, with every byte in place; and each test shows that connections did move meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "kit/carousel.hh"
#include "kit/pattern.hh"
#include "kit/sha256.hh"
#include "lab/net_namespace.hh"

namespace gecko {
namespace {

using kit::Pattern;
using testing::HasSubstr;
using testing::Not;

// How many handoffs a client must have lived through. A machine of its own manages hundreds.
constexpr uint64_t kFewest = 5;
constexpr uint64_t kSize = 12'000'000;  // below the limit on what lab::run collects
const std::string kRate = "6M";         // curl's and wget's --limit-rate: two seconds

std::string pattern(Pattern kind, uint64_t seed, size_t size) {
  std::string bytes(size, '\0');
  kit::fill_pattern(kind, seed, 0, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()});
  return bytes;
}

std::string sha256(const std::string& bytes) {
  kit::Sha256 sha;
  sha.add({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  return sha.hex();
}

class Clients : public testing::TestWithParam<const char*> {
 protected:
  static void TearDownTestSuite() { scenes_ = {}; }
  void SetUp() override {
    const bool ipv4 = std::string(GetParam()) == "IPv4";
    if (geteuid() != 0) GTEST_SKIP() << "namespaces need root";
    auto& scene = scenes_[ipv4 ? 1 : 0];
    if (!scene) {
      auto made = kit::Scene::up({.name = ipv4 ? "clients4" : "clients6", .ipv4 = ipv4, .nodes = 3, .mbit = 0, .client_addresses = 1});
      ASSERT_TRUE(made.has_value()) << made.error().message;
      scene = *std::move(made);
    }
    scene_ = scene.get();
  }

  // Runs it in the client's namespace while everything moves.
  lab::Output moved(const std::vector<std::string>& argv, const std::string& input = {}, uint64_t fewest = kFewest) {
    kit::Carousel carousel(*scene_, {});
    const auto* const client = scene_->lab().find("client");
    auto inside = lab::open_namespace(client->network_namespace);
    EXPECT_TRUE(inside.has_value());
    lab::SpawnOptions options;
    options.net_namespace = inside->get();
    auto output = lab::run(argv, options, input, std::chrono::seconds(60));
    const auto stopped = carousel.stop();
    EXPECT_TRUE(stopped.has_value()) << stopped.error().message;
    EXPECT_GE(carousel.handoffs(), fewest) << "INVALID: too few handoffs to show anything";
    const auto well = scene_->still_well();
    EXPECT_TRUE(well.has_value()) << well.error().message;
    if (!output) {
      ADD_FAILURE() << argv.front() << ": " << output.error().message;
      return {};
    }
    std::printf("%s %s: %lu handoffs\n", GetParam(), argv.front().c_str(), carousel.handoffs());
    return *output;
  }
  std::string url(const std::string& path) const { return "http://" + scene_->stream().str() + path; }
  std::string bytes_url(uint64_t seed) const { return url("/bytes/" + std::to_string(kSize) + "?seed=" + std::to_string(seed)); }

  static inline std::array<std::unique_ptr<kit::Scene>, 2> scenes_;
  kit::Scene* scene_ = nullptr;
};

TEST_P(Clients, CurlDownloads) {
  const auto out = moved({"curl", "-sS", "--limit-rate", kRate, bytes_url(1)});
  EXPECT_EQ(out.code, 0) << out.err;
  EXPECT_TRUE(out.out == pattern(Pattern::stream, 1, kSize)) << out.out.size() << " bytes";
}

TEST_P(Clients, CurlUploads) {
  const auto bytes = pattern(Pattern::stream, 2, kSize);
  // From stdin: in chunks, without a length.
  const auto out = moved({"curl", "-sS", "--limit-rate", kRate, "-T", "-", url("/sink")}, bytes);
  EXPECT_EQ(out.code, 0) << out.err;
  const auto answer = nlohmann::json::parse(out.out, nullptr, false);
  ASSERT_TRUE(answer.is_object()) << out.out;
  EXPECT_EQ(answer.value("bytes", 0u), kSize);
  EXPECT_EQ(answer.value("sha256", ""), sha256(bytes));
}

TEST_P(Clients, CurlKeepsItsConnection) {
  // A limit on bytes lets short answers pass in a burst: the requests themselves are paced.
  std::vector<std::string> argv = {"curl", "-sS", "--rate", "10/s", "-w", "%{stderr}%{num_connects} "};
  const auto once = pattern(Pattern::stream, 3, 1'000'000);
  std::string all, connects = "1 ";
  for (int i = 0; i < 10; ++i) {
    argv.push_back(url("/bytes/1000000?seed=3"));
    all += once;
    if (i != 0) connects += "0 ";
  }
  const auto out = moved(argv);
  EXPECT_EQ(out.code, 0) << out.err;
  EXPECT_EQ(out.err, connects);
  EXPECT_TRUE(out.out == all) << out.out.size() << " bytes";
}

TEST_P(Clients, WgetDownloads) {
  const auto out = moved({"wget", "-q", "--tries=1", "--limit-rate=" + kRate, "-O", "-", bytes_url(4)});
  EXPECT_EQ(out.code, 0) << out.err;
  EXPECT_TRUE(out.out == pattern(Pattern::stream, 4, kSize)) << out.out.size() << " bytes";
}

TEST_P(Clients, WrkSeesNoError) {
  const auto out = moved({"wrk", "-t", "1", "-c", "20", "-d", "3s", "--timeout", "30s", url("/bytes/20000?seed=5")}, {}, 20 * kFewest);
  EXPECT_EQ(out.code, 0) << out.err;
  EXPECT_THAT(out.out, Not(HasSubstr("Socket errors")));
  EXPECT_THAT(out.out, Not(HasSubstr("Non-2xx")));
  unsigned long requests = 0;
  const auto at = out.out.find(" requests in ");
  ASSERT_NE(at, std::string::npos) << out.out;
  EXPECT_EQ(std::sscanf(out.out.c_str() + out.out.rfind('\n', at) + 1, "%lu", &requests), 1);
  EXPECT_GE(requests, 200u) << "INVALID: hardly any traffic\n" << out.out;
}

TEST_P(Clients, SocatEchoes) {
  const auto bytes = pattern(Pattern::echo, 6, 8'000'000);
  // Both directions at once; its end of input becomes a FIN, the echo server answers with its own after the last byte. The pipe paces it.
  const auto out =
      moved({"sh", "-c", "{ for i in 1 2 3 4 5 6 7 8; do head -c 1000000; sleep 0.2; done; } | socat -t 30 - TCP:" + scene_->echo().str()}, bytes);
  EXPECT_EQ(out.code, 0) << out.err;
  EXPECT_TRUE(out.out == bytes) << out.out.size() << " bytes";
}

INSTANTIATE_TEST_SUITE_P(Both, Clients, testing::Values("IPv6", "IPv4"), [](const auto& family) { return std::string(family.param); });

}  // namespace
}  // namespace gecko
