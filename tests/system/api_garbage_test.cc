// Nonsense on geckod's UNIX socket, from a program that may speak there: every message type cut at every length, and mutated. geckod goes
// on, other programs' connections notice nothing, and nothing is left behind.
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <random>

#include "api_client.hh"
#include "fault_scene.hh"

namespace gecko::system_test {
namespace {

size_t descriptors_of(pid_t pid) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(("/proc/" + std::to_string(pid) + "/fd").c_str()), ::closedir);
  size_t count = 0;
  while (dir && ::readdir(dir.get()) != nullptr) ++count;
  return count;
}

struct Sample {
  wire::ApiType type;
  wire::Bytes body;
};

template <wire::Message M>
Sample sample(wire::ApiType type, const M& message) { return {type, wire::encode(message)}; }

// One valid message of every type a program sends. They name clients that do not exist, so that the real ones stay where they are.
std::vector<Sample> samples(const Endpoint& group) {
  using T = wire::ApiType;
  const ConnId id = ConnId::random();
  const Flow flow{group, *Endpoint::parse("[2001:db8:dead::1]:4711")};
  return {sample(T::hello, wire::ApiHello{wire::kApiVersion, wire::kApiVersionMin, "garbage"}),
          sample(T::join, wire::Join{2, "lab"}),
          sample(T::listen, wire::Listen{4, group.port, 16}),
          sample(T::opened, wire::Opened{id, flow, true, 1}),
          sample(T::closed, wire::AppClosed{id}),
          sample(T::here, wire::AppHere{id}),
          sample(T::handoff, wire::AppHandoff{5, id, "n2", 1, {1, 2, 3}}),
          sample(T::stays, wire::Stays{id, "raw"}),
          sample(T::yielded, wire::Yielded{id, {4, 5}}),
          sample(T::not_yielded, wire::NotYielded{id, 5, "no"}),
          sample(T::handoff_client, wire::HandoffClient{6, flow.peer, "n2"}),
          sample(T::set_contact, wire::SetContact{7, "n1"}),
          sample(T::socket, wire::Socket{8}),
          sample(T::admin, wire::Admin{9, R"({"op":"status"})"}),
          sample(T::admin, wire::Admin{10, R"({"op":"handoff","client":"[2001:db8:dead::1]:4711","to":"n2"})"}),
          {T::subscribe, {}},
          sample(T::listens, wire::Listens{group.port}),
          sample(T::orphan, wire::AppOrphan{id, flow, true, 1}),
          sample(T::room, wire::Room{0}),
          sample(T::checkpoint, wire::AppCheckpoint{id, 3, 4, {6, 7}}),
          sample(T::recovery, wire::AppRecovery{group.port, false}),
          sample(T::ending, wire::AppClosed{id}),
          sample(T::input, wire::AppInput{id, 3, false, {8, 9}}),
          sample(T::await_stable, wire::AppAwait{id, 5}),
          sample(T::replication, wire::AppReplication{group.port, false}),
          sample(T::leave, wire::Leave{3})};
}

class ApiGarbage : public FaultTest {
 protected:
  // A session that stays until geckod throws it out.
  ApiClient& session() {
    if (!session_) {
      auto made = ApiClient::connect(lab().socket("n1"));
      GECKO_ASSERT(made);
      session_ = std::make_unique<ApiClient>(std::move(*made));
      const auto joined = session_->join();
      EXPECT_TRUE(joined) << joined.error().message;
      ++sessions_;
    }
    return *session_;
  }
  void say(uint16_t type, const wire::Bytes& body, int fd = -1) {
    wire::Bytes frame;
    wire::put_frame(frame, type, fd >= 0 ? 1 : 0, body);
    raw(frame, fd);
  }
  void raw(const wire::Bytes& bytes, int fd = -1) {
    ++messages_;
    if (!session().send(bytes, fd)) session_.reset();
    else session_->discard_input();
  }
  std::unique_ptr<ApiClient> session_;
  size_t sessions_ = 0, messages_ = 0;
  std::mt19937 random_{4711};
};

TEST_F(ApiGarbage, LeavesGeckodAndOtherConnectionsAsTheyWere) {
  auto& client = ping(1ms);
  auto& stream = echo(1ms);
  connected();
  const pid_t halves[] = {geckod(lab(), "n1", Half::unprivileged), geckod(lab(), "n1", Half::privileged)};
  const size_t before[] = {descriptors_of(halves[0]), descriptors_of(halves[1])};
  int pipes[2];
  ASSERT_EQ(::pipe2(pipes, O_CLOEXEC), 0);
  const Fd reading(pipes[0]), writing(pipes[1]);
  const auto all = samples(scene().echo());
  for (auto type = static_cast<uint16_t>(wire::ApiType::hello); type <= static_cast<uint16_t>(wire::ApiType::replication); ++type)
    EXPECT_TRUE(std::ranges::any_of(all, [&](const Sample& one) { return static_cast<uint16_t>(one.type) == type; })) << "no sample of type " << type;

  for (const auto& [type, body] : all) {
    const auto raw_type = static_cast<uint16_t>(type);
    say(static_cast<uint16_t>(all.front().type), all.front().body);   // in the newest version again, whatever was made of the last hello
    for (size_t length = 0; length < body.size(); ++length) say(raw_type, {body.begin(), body.begin() + static_cast<ptrdiff_t>(length)});
    say(raw_type, body, reading.get());
    for (int i = 0; i < 250; ++i) {   // bits, lengths, what follows; some carry a descriptor that is no connection
      wire::Bytes wrong = body;
      for (size_t n = 1 + random_() % 3; n > 0; --n) {
        const size_t at = wrong.empty() ? 0 : random_() % wrong.size();
        switch (random_() % 4) {
          case 0: if (!wrong.empty()) wrong[at] ^= static_cast<uint8_t>(1u << random_() % 8); break;
          case 1: if (!wrong.empty()) wrong[at] = random_() % 2 == 0 ? 0xff : 0; break;
          case 2: wrong.insert(wrong.begin() + static_cast<ptrdiff_t>(at), static_cast<uint8_t>(random_())); break;
          default: wrong.push_back(static_cast<uint8_t>(random_()));
        }
      }
      say(raw_type, wrong, random_() % 8 == 0 ? reading.get() : -1);
    }
    EXPECT_TRUE(progresses(client)) << "after garbage of type " << raw_type;
  }
  // A connection that is claimed and handed off with a descriptor that is not it.
  const auto id = ConnId::random();
  (void)session().say(wire::ApiType::opened, wire::Opened{id, {scene().echo(), *Endpoint::parse("[2001:db8:dead::2]:4712")}, true, 1});
  (void)session().say(wire::ApiType::handoff, wire::AppHandoff{77, id, "n2", 1, {}}, reading.get());
  const auto outcome = session().wait_for(wire::ApiType::outcome);
  if (outcome) {
    const auto m = wire::decode<wire::AppOutcome>(*outcome);
    ASSERT_TRUE(m);
    EXPECT_NE(m->code, 0u) << "a pipe was moved as a connection";
  }
  for (const uint16_t type : {uint16_t{0}, uint16_t{16}, uint16_t{49}, uint16_t{50}, uint16_t{61}, uint16_t{999}, uint16_t{65535}}) say(type, {1, 2, 3});
  // Broken frames: descriptors that do not come, a reserved byte, a length over the limit. Each ends its session.
  for (const auto& head : {wire::Bytes{0, 0, 0, 0, 1, 0, 9, 0}, wire::Bytes{0, 0, 0, 0, 1, 0, 0, 1}, wire::Bytes{0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0}}) {
    raw(head);
    session_.reset();
  }
  for (int i = 0; i < 200; ++i) {
    wire::Bytes noise(1 + random_() % 200);
    for (auto& byte : noise) byte = static_cast<uint8_t>(random_());
    raw(noise);
    session_.reset();
  }

  EXPECT_EQ(geckod(lab(), "n1", Half::unprivileged), halves[0]) << "geckod has ended";
  EXPECT_EQ(geckod(lab(), "n1", Half::privileged), halves[1]) << "the privileged half has ended";
  EXPECT_TRUE(progresses(client));
  EXPECT_TRUE(progresses(stream));
  for (size_t i = 0; i < 2; ++i)
    EXPECT_TRUE(eventually([&] { return descriptors_of(halves[i]) <= before[i]; }))
        << before[i] << " descriptors before, " << descriptors_of(halves[i]) << " after";
  EXPECT_TRUE(eventually([&] {
    return ask().ask("n1", {{"op", "connections"}})->at("connections").size() == 2;
  })) << "claimed connections outlive who claimed them";
  move(local(client), "n2");
  EXPECT_TRUE(progresses(client));
  std::printf("%zu messages in %zu sessions\n", messages_, sessions_);
}

}  // namespace
}  // namespace gecko::system_test
