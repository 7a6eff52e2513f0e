// The privileged half trusts nothing it is told (S4): wrong descriptors, foreign connections, unknown tokens and nonsense, in a network
// namespace of its own. Needs root.
#include "node/privileged.hh"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/socket.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <sstream>
#include <thread>

#include "node/kernel_setup.hh"
#include "node/lease_keeper_start.hh"
#include "node/privileged_client.hh"
#include "tcp/packet.hh"
#include "wire/test_state.hh"

namespace gecko::node {
namespace {

using namespace std::chrono_literals;
using wire::IpcType;

constexpr const char* kNode = "2001:db8:1::11";
constexpr const char* kGroup = "2001:db8:1::80";

Fd stream_socket(int type = SOCK_STREAM) { return Fd(::socket(AF_INET6, type | SOCK_CLOEXEC, 0)); }
bool on(const Fd& fd, const Endpoint& at, int (*call)(int, const sockaddr*, socklen_t)) {
  sockaddr_storage address{};
  const socklen_t size = at.to_sockaddr(address);
  return call(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0;
}
Endpoint at(const std::string& address, uint16_t port) { return {*Address::parse(address), port}; }

// A client with its server's socket; `flow` as the server sees it.
struct Pair {
  Fd client, server;
  Flow flow;
  bool speaks() const {   // both ways, at once
    char byte = 'x';
    const timeval patience{1, 0};
    ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(server.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return ::send(client.get(), &byte, 1, MSG_NOSIGNAL) == 1 && ::recv(server.get(), &byte, 1, 0) == 1 && ::send(server.get(), &byte, 1, MSG_NOSIGNAL) == 1 &&
           ::recv(client.get(), &byte, 1, 0) == 1;
  }
};
Pair connected(const Endpoint& where) {
  const Fd listener = stream_socket();
  const int yes = 1;
  ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  Pair pair;
  pair.client = stream_socket();
  if (!on(listener, where, ::bind) || ::listen(listener.get(), 8) != 0 || !on(pair.client, at(kNode, 0), ::bind) ||
      !on(pair.client, where, ::connect))
    return {};
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  pair.server.reset(::accept4(listener.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
  pair.flow = {where, *Endpoint::from_sockaddr(peer)};
  return pair;
}

class PrivilegedHalf : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0);   // this thread, and those it starts: the privileged half's
    ASSERT_EQ(std::system("ip link set lo up && sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 && ip link add eth0 "
                          "type veth peer name eth1 && "
                          "ip link set eth1 up && ip link set eth0 up && ip addr add 2001:db8:1::11/64 dev eth0 nodad"),
              0);
    char directory[] = "/tmp/gecko-privileged-XXXXXX";
    ASSERT_NE(::mkdtemp(directory), nullptr);
    options_.runtime_dir = directory;
    options_.node = "n1";
    options_.user = "nobody";
    auto group = config::parse_group(std::string("[group]\nname = \"lab\"\naddress = \"") + kGroup +
                                         "\"\nports = [8080]\nrecovery = \"fast\"\n[[node]]\nname = \"n1\"\naddress = \"" + kNode +
                                         "\"\n[[node]]\nname = \"n2\"\naddress = \"2001:db8:1::12\"\n",
                                     "test.toml");
    ASSERT_TRUE(group) << group.error().message;
    options_.groups.push_back(std::move(*group));
    auto kernel = set_up_kernel(options_);
    ASSERT_TRUE(kernel) << kernel.error().message;
    auto counters = kernel->gate->dup_counter_map();
    ASSERT_TRUE(counters) << counters.error().message;
    gate_counters_ = std::move(*counters);
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    command_.reset(pair[0]);
    other_half_ = std::thread([this, k = std::move(*kernel), fd = pair[1]]() mutable {
      code_ = Privileged(options_, std::move(k), Fd(fd), journal_).run();
      ended_ = true;
    });
  }
  void TearDown() override {
    client_.reset();
    command_.reset();
    if (other_half_.joinable()) other_half_.join();   // it ends when nobody commands it
    std::error_code ignored;
    if (!options_.runtime_dir.empty()) std::filesystem::remove_all(options_.runtime_dir, ignored);
  }
  PrivilegedClient& client() {
    if (!client_) client_ = std::make_unique<PrivilegedClient>(loop_, std::move(command_), [this](const Error&) { dead_ = true; });
    return *client_;
  }
  template <class T>
  const T& wait(std::optional<T>& answer) {
    const Time deadline = monotonic_now() + 5s;
    while (!answer && monotonic_now() < deadline) loop_.run_once(5ms);
    GECKO_ASSERT(answer);
    return *answer;
  }
  Result<wire::Bytes> freeze(const Flow& flow, Fd fd, uint64_t* token = nullptr) {
    std::optional<Result<wire::Bytes>> answer;
    const auto t = client().freeze({0, 0, flow, true, HandoffJournal::kNoSlot, 0, 0}, std::move(fd), [&](Result<PrivilegedClient::Captured> captured) {
      answer = captured ? Result<wire::Bytes>(std::move(captured->tcp)) : Result<wire::Bytes>(captured.error());
    });
    if (token != nullptr) *token = t;
    return wait(answer);
  }
  static Fd copy(const Fd& fd) { return Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)); }
  bool ends_within(Duration at_most) {
    const Time deadline = monotonic_now() + at_most;
    while (!ended_ && monotonic_now() < deadline) std::this_thread::sleep_for(1ms);
    return ended_;
  }
  // A frame of our own making instead of PrivilegedClient's, maybe with a descriptor. False: the session has ended.
  bool say(const Fd& to, uint16_t type, const wire::Bytes& body, int descriptor = -1) {
    wire::Bytes out;
    wire::put_frame(out, type, descriptor >= 0 ? 1 : 0, body);
    iovec piece{out.data(), out.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    if (descriptor >= 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    }
    while (::sendmsg(to.get(), &message, MSG_NOSIGNAL) < 0) {   // so short a frame goes whole or not at all
      if (errno != EAGAIN) return false;
      loop_.run_once(1ms);
    }
    return true;
  }
  // What was said before has been done.
  bool is_there() {
    std::optional<Status> answer;
    client().are_you_there([&](const Status& status) { answer = status; });
    return bool(wait(answer));
  }
  // Packets that have been put into the hold device.
  static uint64_t injected() {
    std::ifstream in("/proc/thread-self/net/dev");
    for (std::string line; std::getline(in, line);) {
      std::istringstream words(line);
      std::string name;
      uint64_t bytes = 0, packets = 0;
      if (words >> name >> bytes >> packets && name == "gecko-hold:") return packets;
    }
    ADD_FAILURE() << "there is no hold device";
    return 0;
  }
  // Segments of geckod's own making that the gate has seen and, of a connection that nobody has named, refused.
  uint64_t nudged() const {
    const auto counters = bpf::read_gate_counters(gate_counters_.get());
    EXPECT_TRUE(counters);
    return counters ? (*counters)[GECKO_G_NO_ENTRY] : 0;
  }

  Options options_;
  HandoffJournal journal_;
  net::Loop loop_;
  Fd command_, gate_counters_;
  std::unique_ptr<PrivilegedClient> client_;
  std::thread other_half_;
  std::atomic<bool> ended_{false};
  int code_ = -1;
  bool dead_ = false;
};

TEST_F(PrivilegedHalf, FreezesAndThawsAConnectionOfItsGroup) {
  const Pair own = connected(at(kGroup, 8080));
  ASSERT_TRUE(own.server);
  uint64_t token = 0;
  const auto captured = freeze(own.flow, copy(own.server), &token);
  ASSERT_TRUE(captured) << captured.error().message;
  std::optional<Status> thawed;
  client().thaw(token, [&](Status s) { thawed = std::move(s); });
  EXPECT_TRUE(wait(thawed));
  EXPECT_TRUE(own.speaks());
}

TEST_F(PrivilegedHalf, RefusesDescriptorsThatAreNoConnection) {
  const Flow flow{at(kGroup, 8080), at(kNode, 4711)};
  int pipes[2];
  ASSERT_EQ(::pipe2(pipes, O_CLOEXEC), 0);
  const Fd writing(pipes[1]);
  EXPECT_FALSE(freeze(flow, Fd(pipes[0])));
  EXPECT_FALSE(freeze(flow, Fd(::open("/dev/null", O_RDWR | O_CLOEXEC))));
  Fd udp = stream_socket(SOCK_DGRAM);
  ASSERT_TRUE(on(udp, flow.local, ::bind) && on(udp, flow.peer, ::connect));
  const auto datagrams = freeze(flow, std::move(udp));   // its addresses are even the right ones
  ASSERT_FALSE(datagrams);
  EXPECT_NE(datagrams.error().message.find("TCP"), std::string::npos) << datagrams.error().message;
  Fd listening = stream_socket();
  ASSERT_TRUE(on(listening, flow.local, ::bind) && ::listen(listening.get(), 1) == 0);
  EXPECT_FALSE(freeze(flow, std::move(listening)));
  EXPECT_FALSE(freeze(flow, stream_socket()));
  EXPECT_FALSE(ended_);
}

TEST_F(PrivilegedHalf, NeverTouchesAConnectionOutsideItsGroup) {
  const Pair foreign = connected(at(kNode, 8080)), other_port = connected(at(kGroup, 2222)), own = connected(at(kGroup, 8080));
  ASSERT_TRUE(foreign.server && other_port.server && own.server);
  for (const auto* pair : {&foreign, &other_port}) {
    const auto openly = freeze(pair->flow, copy(pair->server));
    ASSERT_FALSE(openly);
    EXPECT_EQ(openly.error().code, Errc::permission);
    const auto in_disguise = freeze(own.flow, copy(pair->server));   // announced as one of the group's
    ASSERT_FALSE(in_disguise);
    EXPECT_EQ(in_disguise.error().code, Errc::permission) << in_disguise.error().message;
    // A filter would remain visible: it was never attached.
    EXPECT_NE(::setsockopt(pair->server.get(), SOL_SOCKET, SO_DETACH_FILTER, nullptr, 0), 0);
    EXPECT_TRUE(pair->speaks());
  }
  const auto mixed_up = freeze(Flow{own.flow.local, at(kNode, 1)}, copy(own.server));
  EXPECT_FALSE(mixed_up);
  EXPECT_TRUE(own.speaks());
}

TEST_F(PrivilegedHalf, RefusesUnknownTokensGroupsPortsAndStates) {
  std::optional<Status> thawed, restored, contact;
  std::optional<Result<Fd>> listening, socket;
  std::optional<Result<PrivilegedClient::Activated>> activated;
  client().thaw(4711, [&](Status s) { thawed = std::move(s); });
  EXPECT_EQ(wait(thawed).error().code, Errc::not_found);
  client().activate(4711, [&](Result<PrivilegedClient::Activated> a) { activated = std::move(a); });
  EXPECT_EQ(wait(activated).error().code, Errc::not_found);
  client().retire(4711);
  client().listen(0, 22, 1, [&](Result<Fd> fd) { listening = std::move(fd); });
  EXPECT_EQ(wait(listening).error().code, Errc::invalid);
  listening.reset();
  client().listen(7, 8080, 1, [&](Result<Fd> fd) { listening = std::move(fd); });
  EXPECT_EQ(wait(listening).error().code, Errc::not_found);
  client().socket(7, [&](Result<Fd> fd) { socket = std::move(fd); });
  EXPECT_EQ(wait(socket).error().code, Errc::not_found);
  client().contact(7, 0, true, [&](Status s) { contact = std::move(s); });
  EXPECT_EQ(wait(contact).error().code, Errc::not_found);
  client().syn_slots({7, 0, {0, 1}, {}});
  client().syn_slots({0, 0, {65535}, {}});
  client().syn_slots({0, 0, {0}, {{80, {0}, {0, 65535}}}});
  client().restore({0, 0, Flow{at(kNode, 8080), at(kNode, 1)}, {}, 1, {}, 0, {}}, [&](Status s) { restored = std::move(s); });
  EXPECT_EQ(wait(restored).error().code, Errc::permission);
  restored.reset();
  client().restore({0, 0, Flow{at(kGroup, 8080), at(kNode, 1)}, {}, 1, {}, 0, {1, 2, 3}}, [&](Status s) { restored = std::move(s); });
  EXPECT_FALSE(wait(restored));
  EXPECT_FALSE(ended_);
}

TEST_F(PrivilegedHalf, ThawsWhatItHoldsWhenTheOtherHalfVanishes) {
  const Pair own = connected(at(kGroup, 8080));
  ASSERT_TRUE(freeze(own.flow, copy(own.server)));
  client_.reset();
  ASSERT_TRUE(ends_within(5s));
  EXPECT_EQ(code_, 0);
  EXPECT_TRUE(own.speaks());
}

TEST_F(PrivilegedHalf, SaysThatItIsThere) { EXPECT_TRUE(is_there()); }

// Through the hold device anything could be said to anybody: probes leave in the group's name alone, or come in as one of its clients'.
TEST_F(PrivilegedHalf, ProbesOnlyConnectionsOfItsGroup) {
  using tcp::Segment;
  const Endpoint own = at(kGroup, 8080), outbound = at(kGroup, 40000), other_port = at(kGroup, 2222), foreign = at(kNode, 8080);
  const Endpoint client_end = at("2001:db8:1::99", 4711);
  const wire::Bytes payload(2);
  const auto segment = [&](const Endpoint& from, const Endpoint& to, uint8_t flags = Segment::kAck, size_t bytes = 0) {
    Segment s;
    s.from = from;
    s.to = to;
    s.flags = flags;
    s.payload = wire::ByteView(payload).first(bytes);
    return tcp::build_packet(s);
  };
  const auto probes = [&](const wire::Bytes& packet, uint16_t group = 0) {
    const uint64_t before = injected();
    client().probe(group, packet);
    EXPECT_TRUE(is_there());
    return injected() - before;
  };
  EXPECT_EQ(probes(segment(own, client_end, Segment::kAck, 1)), 1u);
  EXPECT_EQ(probes(segment(outbound, client_end)), 1u);
  EXPECT_EQ(probes(segment(client_end, own)), 1u) << "to this machine's own kernel";

  EXPECT_EQ(probes(segment(foreign, client_end)), 0u) << "in this node's own name";
  EXPECT_EQ(probes(segment(client_end, foreign)), 0u) << "to a connection of this node's own";
  EXPECT_EQ(probes(segment(other_port, client_end)), 0u);
  EXPECT_EQ(probes(segment(client_end, other_port)), 0u);
  EXPECT_EQ(probes(segment(own, client_end), 7), 0u) << "of a group that there is not";
  EXPECT_EQ(probes(segment(own, client_end, Segment::kAck, 2)), 0u) << "more than the byte that asks";
  EXPECT_EQ(probes(segment(client_end, own, Segment::kAck, 1)), 0u) << "a byte in a client's name";
  for (const uint8_t flags : {uint8_t{0}, Segment::kSyn, Segment::kFin, Segment::kRst})
    for (const uint8_t with : {uint8_t{0}, Segment::kAck}) {
      if (flags == 0 && with != 0) continue;
      EXPECT_EQ(probes(segment(own, client_end, static_cast<uint8_t>(flags | with))), 0u) << +flags << " " << +with;
      EXPECT_EQ(probes(segment(client_end, own, static_cast<uint8_t>(flags | with))), 0u) << +flags << " " << +with;
    }
  const auto whole = segment(own, client_end);
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_EQ(probes({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(n)}), 0u) << n;
  EXPECT_FALSE(ended_);
}

TEST_F(PrivilegedHalf, NudgesOnlyConnectionsOfItsGroup) {
  const Endpoint own = at(kGroup, 8080), client_end = at("2001:db8:1::99", 4711);
  const auto nudges = [&](std::vector<Flow> flows, uint16_t group = 0) {
    const uint64_t before = nudged();
    client().nudge({group, std::move(flows)});
    EXPECT_TRUE(is_there());
    return nudged() - before;
  };
  EXPECT_EQ(nudges({{own, client_end}}), 1u);
  EXPECT_EQ(nudges({{at(kNode, 8080), client_end}, {at(kGroup, 2222), client_end}, {client_end, own}}), 0u);
  EXPECT_EQ(nudges({{own, client_end}}, 7), 0u);
  EXPECT_FALSE(ended_);
}

TEST_F(PrivilegedHalf, EndsTheSessionOverACommandThatMakesNoSense) {
  (void)say(command_, 999, {1, 2, 3});
  EXPECT_TRUE(ends_within(5s));
}

struct Command {
  IpcType type;
  wire::Bytes body;
  bool (*decodes)(wire::ByteView);
  bool with_descriptor;
};
template <wire::Message M>
Command command(IpcType type, const M& message, bool with_descriptor = false) {
  return {type, wire::encode(message), [](wire::ByteView body) { return wire::decode<M>(body).has_value(); }, with_descriptor};
}

// One of each, that would do something as it is. The token is none that PrivilegedClient gives.
std::vector<Command> one_of_each() {
  constexpr uint64_t kToken = 0x5555'5555'5555'5555;   // no two wrong bits make one that the client gives
  const Flow flow{at(kGroup, 8080), at(kNode, 4711)};
  wire::test::Entropy entropy(4711);
  auto state = wire::test::make_state(entropy, 100);
  state.flow = flow;
  state.v4_mapped = false;
  tcp::Segment probe;
  probe.from = flow.local;
  probe.to = flow.peer;
  return {command(IpcType::freeze, wire::IpcFreeze{kToken, 0, flow, true, 0, 0, 0}, true),
          command(IpcType::adopt, wire::IpcAdopt{kToken, 0, flow, 0}, true),
          command(IpcType::thaw, wire::IpcToken{kToken}),
          command(IpcType::retire, wire::IpcRetire{kToken, true}),
          command(IpcType::restore, wire::IpcRestore{kToken, 0, flow, {}, 1, {}, 0, wire::encode(state)}),
          command(IpcType::activate, wire::IpcToken{kToken}),
          command(IpcType::ahead, wire::IpcAhead{kToken, 0, {1, 2, 3}}),
          command(IpcType::listen, wire::IpcListen{kToken, 0, 8080, 16}),
          command(IpcType::socket, wire::IpcSocket{kToken, 0}),
          command(IpcType::contact, wire::IpcContact{kToken, 0, 0, true}),
          command(IpcType::syn_slots, wire::IpcSynSlots{0, 0, {0, 1}, {{80, {65535}, {65535}}}}),
          command(IpcType::near, wire::IpcNear{0, *Address::parse("2001:db8:1::"), {0, 1}}),
          command(IpcType::reload_keys, wire::IpcToken{kToken}),
          command(IpcType::keeper, wire::IpcToken{kToken}),
          command(IpcType::are_you_there, wire::IpcToken{kToken}),
          command(IpcType::protect_port, wire::IpcPort{kToken, 0, 8080}),
          command(IpcType::unprotect_port, wire::IpcPort{kToken, 0, 8080}),
          command(IpcType::nudge, wire::IpcNudge{0, {flow}}),
          command(IpcType::probe, wire::IpcPacket{0, tcp::build_packet(probe)}),
          command(IpcType::end_sockets, wire::IpcSocket{kToken, 0})};
}

// What decodes is carried out or refused, whatever it says; what does not ends the session.
TEST_F(PrivilegedHalf, SurvivesOrEndsTheSessionOverAnyMutatedCommand) {
  std::mt19937 random(static_cast<unsigned>(::testing::UnitTest::GetInstance()->random_seed()));
  const auto commands = one_of_each();
  const Pair foreign = connected(at(kNode, 8080));
  ASSERT_TRUE(foreign.server);
  const auto keeper = net::unix_listen(keeper_socket(options_), 0600);   // one that never answers, so that none is forked off
  ASSERT_TRUE(keeper) << keeper.error().message;
  const Fd direct = copy(command_);
  (void)client();   // reads the answers
  std::map<IpcType, size_t> said;
  for (int i = 0; i < 4000 && !ended_; ++i) {
    const auto& [type, valid, decodes, with_descriptor] = commands[random() % commands.size()];
    wire::Bytes body = valid;
    for (size_t n = random() % 3; n > 0; --n) body[random() % body.size()] ^= static_cast<uint8_t>(1u << random() % 8);
    if (!decodes(body)) continue;
    ++said[type];
    ASSERT_TRUE(say(direct, static_cast<uint16_t>(type), body, with_descriptor ? foreign.server.get() : -1)) << "ended by command " << static_cast<int>(type);
    loop_.run_once({});
  }
  EXPECT_TRUE(is_there());
  EXPECT_TRUE(foreign.speaks()) << "a connection of nobody's group was touched";
  EXPECT_EQ(said.size(), commands.size());
  for (const auto& [type, count] : said) EXPECT_GT(count, 20u) << "INVALID: command " << static_cast<int>(type);
  for (const auto& c : commands) {   // cut short, none is a command; one such ends the session, so the decoder is asked for the others
    for (size_t n = 0; n < c.body.size(); ++n) EXPECT_FALSE(c.decodes(wire::ByteView(c.body).first(n))) << static_cast<int>(c.type) << " at " << n;
  }
  EXPECT_FALSE(ended_);
  (void)say(direct, static_cast<uint16_t>(IpcType::freeze), commands.front().body);   // without its descriptor
  EXPECT_TRUE(ends_within(5s));
  EXPECT_EQ(code_, 0) << "ended by itself, in order";
}

}  // namespace
}  // namespace gecko::node
