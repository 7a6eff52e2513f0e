// Links of a lab, measured from outside: what packets suffer between two hosts is what was asked for, and nobody else's packets suffer.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "lab/lab.hh"
#include "lab/net_namespace.hh"
#include "own_machine.hh"

namespace gecko::lab {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

Fd socket_on(const Lab& lab, const std::string& host, int type, const Endpoint& address) {
  Fd made;
  const auto done = lab.inside(host, [&]() -> Status {
    sockaddr_storage name{};
    const socklen_t size = address.to_sockaddr(name);
    made = Fd(::socket(name.ss_family, type | SOCK_CLOEXEC, 0));
    const int room = 16 << 20, yes = 1;
    if (!made || ::setsockopt(made.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) != 0 ||
        ::setsockopt(made.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        ::bind(made.get(), reinterpret_cast<sockaddr*>(&name), size) != 0)
      return os_error("open a socket on " + host);
    return {};
  });
  EXPECT_TRUE(done) << done.error().message;
  return made;
}

// Numbered datagrams from one host to another, and what became of them.
class Datagrams {
 public:
  Datagrams(const Lab& lab, const std::string& from, const std::string& to, bool v4 = false)
      : from_(socket_on(lab, from, SOCK_DGRAM, {address(lab, from, v4), 0})), to_(socket_on(lab, to, SOCK_DGRAM, {address(lab, to, v4), 0})) {
    (void)::getsockname(to_.get(), reinterpret_cast<sockaddr*>(&there_), &size_);
    const Time deadline = monotonic_now() + seconds(10);
    do send();  // until they know each other's hardware address
    while (receive(milliseconds(100)).empty() && monotonic_now() < deadline);
    (void)receive(milliseconds(100));
    first_ = sent_.size();
  }

  struct Arrival {
    size_t number;  // from 0, those of the constructor not counted
    Duration took;
  };
  void send(size_t count = 1) {
    for (; count != 0; --count) {
      std::array<uint32_t, 50> words{};
      words.fill(static_cast<uint32_t>(sent_.size()));
      sent_.push_back(monotonic_now());
      (void)::sendto(from_.get(), words.data(), sizeof words, 0, reinterpret_cast<const sockaddr*>(&there_), size_);
    }
  }
  // Until nothing has come for `quiet`. A datagram whose words differ is wrong.
  std::vector<Arrival> receive(Duration quiet = milliseconds(100)) {
    std::vector<Arrival> arrivals;
    pollfd ready{to_.get(), POLLIN, 0};
    while (poll(&ready, 1, static_cast<int>(std::chrono::ceil<milliseconds>(quiet).count())) == 1) {
      std::array<uint32_t, 64> words{};
      const ssize_t got = ::recv(to_.get(), words.data(), sizeof words, MSG_DONTWAIT);
      if (got < 0) continue;  // dropped for its checksum between poll and here
      const uint32_t number = words[0];
      if (got != 200 || std::any_of(words.begin(), words.begin() + 50, [&](uint32_t w) { return w != number; }) || number >= sent_.size()) ++wrong;
      else if (number >= first_) arrivals.push_back({number - first_, monotonic_now() - sent_[number]});
    }
    return arrivals;
  }
  // Of so many, sent one after the other, in order.
  std::vector<Duration> times(size_t count = 30) {
    std::vector<Duration> all;
    for (; count != 0; --count) {
      send();
      for (const auto& arrival : receive(milliseconds(1))) all.push_back(arrival.took);
    }
    for (const auto& arrival : receive()) all.push_back(arrival.took);
    std::sort(all.begin(), all.end());
    return all;
  }
  size_t wrong = 0;

 private:
  static Address address(const Lab& lab, const std::string& host, bool v4) { return v4 ? lab.find(host)->address4 : lab.find(host)->address; }
  Fd from_, to_;
  sockaddr_storage there_{};
  socklen_t size_ = sizeof there_;
  std::vector<Time> sent_;
  size_t first_ = 0;
};

LinkCounters counters(const Lab& lab, const std::string& from, const std::string& to) {
  const auto links = lab.links();
  EXPECT_TRUE(links) << links.error().message;
  if (links)
    for (const auto& link : *links)
      if (link.direction == Direction{from, to}) return link.counters;
  ADD_FAILURE() << "no link from " << from << " to " << to;
  return {};
}

// Programs that carry the packets of this lab.
std::vector<pid_t> wires(const std::string& lab) {
  std::vector<pid_t> pids;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    std::ifstream file(entry.path() / "cmdline");
    const std::string words{std::istreambuf_iterator<char>(file), {}};
    using namespace std::string_literals;
    if (words.ends_with("\0lab\0wire\0--name\0"s + lab + "\0"s)) pids.push_back(std::stoi(entry.path().filename()));
  }
  return pids;
}

std::unique_ptr<Lab> lab_of(const std::string& name, int nodes = 2) {
  auto lab = Lab::up(plain(name, nodes));
  EXPECT_TRUE(lab) << lab.error().message;
  return lab ? std::move(*lab) : nullptr;
}

#define ASSERT_OK(expression)                        \
  do {                                               \
    const auto status_ = (expression);               \
    ASSERT_TRUE(status_) << status_.error().message; \
  } while (false)

// None comes early, and the faster ones are on time: where a machine is full of work, the others wait for a processor.
constexpr Duration kSlack = milliseconds(5);
#define EXPECT_TAKES(datagrams, time)                      \
  do {                                                     \
    const auto times_ = (datagrams).times();               \
    ASSERT_GE(times_.size(), 20u);                         \
    EXPECT_GE(times_.front(), (time));                     \
    EXPECT_LE(times_[times_.size() / 4], (time) + kSlack); \
  } while (false)

TEST(Link, DelaysItsPairAndNobodyElse) {
  const auto lab = lab_of("far", 3);
  ASSERT_TRUE(lab);
  ASSERT_OK(lab->link("n1", "n2", {.delay_us = 20'000}));
  ASSERT_OK(lab->link("client", "n1", {.delay_us = 10'000}));
  for (const bool v4 : {false, true}) {
    Datagrams out(*lab, "n1", "n2", v4), back(*lab, "n2", "n1", v4);
    EXPECT_TAKES(out, milliseconds(20));
    EXPECT_TAKES(back, milliseconds(20));
    Datagrams in(*lab, "client", "n1", v4), answer(*lab, "n1", "client", v4);
    EXPECT_TAKES(in, milliseconds(10));
    EXPECT_TAKES(answer, milliseconds(10));
    for (const auto& [from, to] :
         std::initializer_list<std::pair<const char*, const char*>>{{"n1", "n3"}, {"n3", "n2"}, {"client", "n2"}, {"n2", "client"}}) {
      SCOPED_TRACE(std::string(from) + " to " + to);
      Datagrams others(*lab, from, to, v4);
      EXPECT_TAKES(others, milliseconds(0));
    }
  }
  Datagrams out(*lab, "n1", "n2"), back(*lab, "n2", "n1");
  ASSERT_OK(lab->link("n1", "n2", {.delay_us = 40'000}, true));  // changed, and one way
  EXPECT_TAKES(out, milliseconds(40));
  EXPECT_TAKES(back, milliseconds(20));
  ASSERT_OK(lab->unlink("n2", "n1", true));
  EXPECT_TAKES(out, milliseconds(40));
  EXPECT_TAKES(back, milliseconds(0));
  ASSERT_OK(lab->unlink_all());
  EXPECT_TAKES(out, milliseconds(0));
  EXPECT_TRUE(lab->links().value_or({LinkReport{}}).empty());
}

TEST(Link, LosesTheShareThatWasAskedFor) {
  const auto lab = lab_of("lossy");
  ASSERT_TRUE(lab);
  ASSERT_OK(lab->link("n1", "n2", {.loss_ppm = 100'000, .seed = 7}));
  Datagrams out(*lab, "n1", "n2");
  const LinkCounters before = counters(*lab, "n1", "n2");
  constexpr size_t kBursts = 30, kBurst = 200;
  size_t arrived = 0;
  for (size_t i = 0; i < kBursts; ++i) {
    out.send(kBurst);
    arrived += out.receive(milliseconds(20)).size();
  }
  arrived += out.receive(milliseconds(300)).size();
  const LinkCounters after = counters(*lab, "n1", "n2");
  const auto lost = static_cast<double>(kBursts * kBurst - arrived);
  EXPECT_NEAR(lost, kBursts * kBurst * 0.1, 140);  // six standard deviations
  EXPECT_GE(after.packets - before.packets, kBursts * kBurst);
  EXPECT_NEAR(lost, static_cast<double>(after.lost - before.lost), 3);  // neighbour discovery may be among them
  EXPECT_EQ(after.overflowed + after.undelivered, 0u);
}

TEST(Link, DuplicatesAndReorders) {
  const auto lab = lab_of("twice");
  ASSERT_TRUE(lab);
  ASSERT_OK(lab->link("n1", "n2", {.duplicate_ppm = 100'000, .reorder_ppm = 50'000}));
  Datagrams out(*lab, "n1", "n2");
  const LinkCounters before = counters(*lab, "n1", "n2");
  constexpr size_t kBursts = 20, kBurst = 100;
  std::vector<size_t> seen(kBursts * kBurst);
  size_t overtaken = 0, highest = 0;
  for (size_t i = 0; i < kBursts; ++i) {
    out.send(kBurst);
    for (const auto& arrival : out.receive(milliseconds(30))) {
      ++seen[arrival.number];
      overtaken += arrival.number < highest;
      highest = std::max(highest, arrival.number);
    }
  }
  const LinkCounters after = counters(*lab, "n1", "n2");
  EXPECT_EQ(std::count(seen.begin(), seen.end(), 0u), 0) << "a datagram is missing";
  EXPECT_NEAR(static_cast<double>(std::count(seen.begin(), seen.end(), 2u)), static_cast<double>(after.duplicated - before.duplicated), 3);
  EXPECT_NEAR(static_cast<double>(std::count(seen.begin(), seen.end(), 2u)), 200, 80);
  EXPECT_NEAR(static_cast<double>(after.reordered - before.reordered), 100, 60);
  EXPECT_GE(overtaken, 40u);
}

TEST(Link, TurnedBitsAreNoticedByTheReceiver) {
  const auto lab = lab_of("bits");
  ASSERT_TRUE(lab);
  ASSERT_OK(lab->link("n1", "n2", {.corrupt_ppm = 500'000}));
  Datagrams out(*lab, "n1", "n2");
  out.send(1000);
  const size_t arrived = out.receive(milliseconds(300)).size();
  EXPECT_EQ(out.wrong, 0u);
  EXPECT_GE(counters(*lab, "n1", "n2").corrupted, 400u);
  EXPECT_LE(arrived, 620u);
  EXPECT_GE(arrived, 380u);
}

// ARP and neighbour discovery are broadcasts, of which each receiver's copy has a fate of its own.
TEST(Link, NeighboursFindEachOtherThroughIt) {
  const auto lab = lab_of("find", 3);
  ASSERT_TRUE(lab);
  ASSERT_OK(lab->link("n1", "n2", {.delay_us = 30'000}));
  ASSERT_OK(lab->link("n1", "n3", {.loss_ppm = kMillion}));
  const auto reached = [&](const std::string& to) {
    EXPECT_TRUE(lab->output("n1", {"ip", "neigh", "flush", "all"}));
    const auto output = lab->output("n1", {"ping", "-n", "-c", "1", "-W", "2", to});
    return output && output->code == 0;
  };
  EXPECT_TRUE(reached("2001:db8:1::12"));
  EXPECT_TRUE(reached("198.51.100.12"));
  EXPECT_FALSE(reached("2001:db8:1::13"));
  EXPECT_TRUE(reached("2001:db8:2::2"));  // the client
  EXPECT_GE(counters(*lab, "n1", "n3").lost, 1u);
}

// Checksum and segmentation offload are on at both ends; the wire sees packets as a cable would.
TEST(Link, TcpSurvivesLossReorderingDuplicatesAndTurnedBits) {
  const auto lab = lab_of("tcp");
  ASSERT_TRUE(lab);
  ASSERT_OK(
      lab->link("client", "n1",
                {.delay_us = 1'000, .jitter_us = 500, .loss_ppm = 20'000, .duplicate_ppm = 10'000, .reorder_ppm = 20'000, .corrupt_ppm = 5'000}));
  constexpr uint16_t kPort = 7000;
  const Fd listener = socket_on(*lab, "n1", SOCK_STREAM, {lab->find("n1")->address, kPort});
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  constexpr size_t kBytes = 4 << 20;
  const auto byte_at = [](size_t i) { return static_cast<uint8_t>((i * 2654435761u) >> 13); };
  std::thread echo([&] {
    const Fd accepted(::accept(listener.get(), nullptr, nullptr));
    std::vector<uint8_t> buffer(64 << 10);
    for (ssize_t got; (got = ::recv(accepted.get(), buffer.data(), buffer.size(), 0)) > 0;)
      for (ssize_t done = 0; done < got;) {
        const ssize_t sent = ::send(accepted.get(), buffer.data() + done, static_cast<size_t>(got - done), MSG_NOSIGNAL);
        if (sent <= 0) return;
        done += sent;
      }
  });
  const Fd client = socket_on(*lab, "client", SOCK_STREAM, {lab->find("client")->address, 0});
  const timeval patience{60, 0};
  ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  sockaddr_storage there{};
  const socklen_t size = Endpoint{lab->find("n1")->address, kPort}.to_sockaddr(there);
  EXPECT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&there), size), 0) << std::strerror(errno);
  std::thread writer([&] {
    std::vector<uint8_t> bytes(kBytes);
    for (size_t i = 0; i < kBytes; ++i) bytes[i] = byte_at(i);
    for (size_t done = 0; done < kBytes;) {
      const ssize_t sent = ::send(client.get(), bytes.data() + done, kBytes - done, MSG_NOSIGNAL);
      if (sent <= 0) break;
      done += static_cast<size_t>(sent);
    }
    ::shutdown(client.get(), SHUT_WR);
  });
  size_t received = 0, wrong = 0;
  std::vector<uint8_t> buffer(64 << 10);
  for (ssize_t got; (got = ::recv(client.get(), buffer.data(), buffer.size(), 0)) > 0; received += static_cast<size_t>(got))
    for (size_t i = 0; i < static_cast<size_t>(got); ++i) wrong += buffer[i] != byte_at(received + i);
  ::shutdown(client.get(), SHUT_RDWR);
  ::shutdown(listener.get(), SHUT_RDWR);
  writer.join();
  echo.join();
  EXPECT_EQ(received, kBytes);
  EXPECT_EQ(wrong, 0u);
  for (const auto& [from, to] : {std::pair("client", "n1"), std::pair("n1", "client")}) {
    const LinkCounters seen = counters(*lab, from, to);
    EXPECT_GE(seen.packets, kBytes / 1448) << "large packets were not cut";
    EXPECT_GE(seen.lost, 30u);
    EXPECT_GE(seen.duplicated, 10u);
    EXPECT_GE(seen.reordered, 30u);
    EXPECT_GE(seen.corrupted, 3u);
    EXPECT_EQ(seen.overflowed, 0u);
  }
}

TEST(Link, RateStillHolds) {
  LabOptions options = plain("rate");
  options.mbit = 10;
  const auto lab = Lab::up(options);
  ASSERT_TRUE(lab) << lab.error().message;
  ASSERT_OK((*lab)->link("n1", "n2", {.delay_us = 5'000}));
  Datagrams out(**lab, "n1", "n2");
  // 157 kB on the cable, of which the bucket lets 68 KiB pass at once; the rest takes 70 ms.
  out.send(600);
  const auto arrivals = out.receive();
  ASSERT_GE(arrivals.size(), 500u);
  EXPECT_GE(arrivals.back().took, milliseconds(40));
}

// ---------------------------------------------------------------- through the command

TEST(LinkCommand, SetsShowsChangesAndClears) {
  const auto before = machine();
  ASSERT_EQ(gecko({"lab", "up", "--name", "cmd", "--no-daemons", "--nodes", "3"}).code, 0);
  const auto link = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"lab", "link", "--name", "cmd"});
    return gecko(std::move(arguments));
  };
  EXPECT_THAT(link({}).out, HasSubstr("no links"));
  const auto set = link({"n1", "n2", "--delay", "20ms", "--loss", "1%", "--seed", "7", "--json"});
  ASSERT_EQ(set.code, 0) << set.err;
  const auto json = nlohmann::json::parse(set.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << set.out;
  EXPECT_EQ(json["schema"], "gecko.lab-links/1");
  ASSERT_EQ(json["links"].size(), 2u);
  EXPECT_EQ(json["links"][0]["from"], "n1");
  EXPECT_EQ(json["links"][1]["from"], "n2");
  EXPECT_EQ(json["links"][1]["delay_ms"], 20);
  EXPECT_EQ(json["links"][1]["loss_percent"], 1);
  EXPECT_EQ(json["links"][1]["seed"], 7);
  EXPECT_EQ(link({"client", "n3", "--one-way", "--corrupt", "0.1%"}).code, 0);
  EXPECT_THAT(link({}).out, HasSubstr("20ms, loss 1%, seed 7"));
  EXPECT_THAT(link({"n3", "client"}).out, HasSubstr("corrupt 0.1%"));
  EXPECT_EQ(nlohmann::json::parse(gecko({"lab", "status", "--name", "cmd", "--json"}).out)["links"].size(), 3u);
  EXPECT_THAT(gecko({"lab", "status", "--name", "cmd"}).out, HasSubstr("n2 > n1"));
  EXPECT_EQ(wires("cmd").size(), 1u);
  EXPECT_EQ(link({"n2", "n1", "--delay", "5ms"}).code, 0);  // instead of what was set, loss included
  EXPECT_THAT(link({"n1", "n2"}).out, testing::AllOf(HasSubstr("5ms, seed 1"), testing::Not(HasSubstr("loss"))));
  EXPECT_EQ(link({"n1", "n2", "--clear"}).code, 0);
  EXPECT_EQ(link({"n1", "n2", "--clear"}).code, 0);
  EXPECT_EQ(nlohmann::json::parse(link({"--json"}).out)["links"].size(), 1u);
  EXPECT_EQ(link({"--clear"}).code, 0);
  EXPECT_THAT(link({}).out, HasSubstr("no links"));
  for (const Time deadline = monotonic_now() + seconds(10); !wires("cmd").empty() && monotonic_now() < deadline;) poll(nullptr, 0, 1);
  EXPECT_TRUE(wires("cmd").empty()) << "the wire goes on without links";
  const auto rules = gecko({"lab", "exec", "--name", "cmd", "router", "--", "nft", "list", "ruleset"});
  EXPECT_EQ(rules.out, "");
  EXPECT_EQ(link({"n1", "n3", "--loss", "5%"}).code, 0);  // again, and down with it
  EXPECT_EQ(gecko({"lab", "down", "--name", "cmd"}).code, 0);
  EXPECT_TRUE(wires("cmd").empty());
  EXPECT_EQ(machine(), before);
}

TEST(LinkCommand, SaysWhatIsWrong) {
  ASSERT_EQ(gecko({"lab", "up", "--name", "bad", "--no-daemons"}).code, 0);
  const auto says = [](std::vector<std::string> arguments, int code, const std::string& text) {
    arguments.insert(arguments.begin(), {"lab", "link", "--name", "bad"});
    const auto said = gecko(arguments);
    EXPECT_EQ(said.code, code) << testing::PrintToString(arguments);
    EXPECT_THAT(said.err, HasSubstr(text)) << testing::PrintToString(arguments);
  };
  says({"n1", "n2", "--delay", "20"}, 64, "'20' has no unit: a time is written 20ms");
  says({"n1", "n2", "--loss", "0.01"}, 64, "'0.01' has no unit: a share is written 1%");
  says({"n1", "n2", "--loss", "101%"}, 64, "at most 100%");
  says({"n1", "n2", "--jitter", "11s"}, 64, "at most 10s");
  says({"n1", "n2", "--seed", "x"}, 64, "--seed");
  says({"n1", "n9", "--loss", "1%"}, 1, "'n9' has no links in lab 'bad': a link is between two of client, n1 to n3");
  says({"router", "n1", "--loss", "1%"}, 1, "'router' has no links");
  says({"n1", "n1", "--loss", "1%"}, 64, "itself");
  says({"n1", "--loss", "1%"}, 64, "two ends");
  says({"--loss", "1%"}, 64, "between which hosts?");
  says({"n1", "n2", "--clear", "--loss", "1%"}, 64, "takes no settings");
  says({"n1", "n2", "n3"}, 64, "");
  EXPECT_TRUE(wires("bad").empty());
  EXPECT_EQ(gecko({"lab", "down", "--name", "bad"}).code, 0);
  EXPECT_EQ(gecko({"lab", "link", "--name", "bad"}).code, 1);
}

TEST(LinkCommand, ADeadWireIsNamedAndClearMakesThePathPlainAgain) {
  const auto lab = lab_of("dead");
  ASSERT_TRUE(lab);
  ASSERT_OK(lab->link("n1", "n2", {.delay_us = 1'000}));
  const auto pids = wires("dead");
  ASSERT_EQ(pids.size(), 1u);
  ASSERT_EQ(::kill(pids[0], SIGKILL), 0);
  for (const Time deadline = monotonic_now() + seconds(10); !wires("dead").empty() && monotonic_now() < deadline;) poll(nullptr, 0, 1);
  const auto pings = [&] { return lab->output("n1", {"ping", "-n", "-c", "1", "-W", "1", "2001:db8:1::12"}).value_or({-1, "", ""}).code == 0; };
  EXPECT_FALSE(pings()) << "packets pass a link that should spoil them";
  const auto status = gecko({"lab", "status", "--name", "dead"});
  EXPECT_EQ(status.code, 2);
  EXPECT_THAT(status.err, HasSubstr("the wire of lab 'dead' has ended"));
  EXPECT_EQ(gecko({"lab", "link", "--name", "dead", "--clear"}).code, 0);
  EXPECT_TRUE(pings() || pings() || pings()) << "the neighbour may have been lost meanwhile, and is asked for once a second";
  EXPECT_EQ(gecko({"lab", "status", "--name", "dead"}).code, 0);
  ASSERT_OK(lab->link("n1", "n2", {.delay_us = 1'000}));  // and it can be linked again
  EXPECT_TRUE(pings());
}

// kill -9 at moments spread over the whole of `link`; whatever stands then, one `down` removes it.
TEST(LinkCommand, KilledAnywhereDownCleansAll) {
  const auto before = machine();
  int midway = 0, finished = 0;
  for (int moment = 0; finished < 2 && moment < 500; ++moment) {
    ASSERT_EQ(gecko({"lab", "up", "--name", "crash", "--no-daemons", "--nodes", "2"}).code, 0);
    auto link = spawn({gecko_program(), "lab", "link", "--name", "crash", "n1", "n2", "--loss", "1%"}, {.pipe_out = true, .pipe_err = true});
    ASSERT_TRUE(link) << link.error().message;
    if (link->wait(milliseconds(3) * moment)) ++finished;
    else ++midway;
    link->kill_and_reap();
    EXPECT_EQ(gecko({"lab", "down", "--name", "crash"}).code, 0);
    ASSERT_TRUE(wires("crash").empty()) << "killed after " << 3 * moment << " ms";
    ASSERT_EQ(machine(), before) << "killed after " << 3 * moment << " ms";
  }
  EXPECT_GE(midway, 5) << "INVALID: too few kills fell into the middle to prove anything";
}

}  // namespace
}  // namespace gecko::lab
