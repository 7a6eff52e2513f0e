// Links as nodes use them: both ends are ours. Hostile ends are in tls_handshake_test.cc.
#include "net/tls_link.hh"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <random>

#include "net/tls_test_keys.hh"

namespace gecko::net {
namespace {

using namespace testing_keys;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

struct Blob {
  uint64_t number = 0;
  wire::Bytes data;
  GECKO_FIELDS(number, wire::limited<wire::kMaxFrameBody>(data))
};

// The largest body a frame may have, as a Blob; with sanitizers, which make every byte expensive, a tenth of it.
#ifdef GECKO_ASAN
constexpr size_t kLargest = wire::kMaxFrameBody / 10;
#else
constexpr size_t kLargest = wire::kMaxFrameBody - 12;
#endif

struct End {
  std::unique_ptr<TlsLink> link;
  int ups = 0;
  std::vector<uint64_t> numbers;
  std::vector<size_t> sizes;
  uint64_t checksum = 0;
  std::vector<Error> downs;

  TlsLink::Events events() {
    TlsLink::Events e;
    e.up = [this] { ++ups; };
    e.frame = [this](const wire::FrameView& frame) {
      const auto blob = wire::decode<Blob>(frame.body);
      ASSERT_TRUE(blob);
      numbers.push_back(blob->number);
      sizes.push_back(blob->data.size());
      checksum ^= hash_bytes(blob->data.data(), blob->data.size());
    };
    e.down = [this](const Error& error) { downs.push_back(error); };
    return e;
  }
};

class TlsLinkTest : public testing::Test {
 protected:
  TlsLinkTest()
      : ca(make_ca("web")),
        n1(*TlsContext::make("web", "n1", material(ca, make_node("web", "n1", ca)))),
        n2(*TlsContext::make("web", "n2", material(ca, make_node("web", "n2", ca)))) {}

  void listen(const TlsOptions& options = {}, const char* on = "[::1]:0") {
    auto made = TlsListener::listen(
        loop, *Endpoint::parse(on),
        [this](const std::string& group, std::unique_ptr<TlsLink> link) {
          accepted_group = group;
          EXPECT_TRUE(link->is_up());
          server.link = std::move(link);
          server.link->set_events(server.events());
        },
        options);
    ASSERT_TRUE(made) << made.error().message;
    listener = *std::move(made);
    listener->add_group(n1);
  }
  void dial(const std::string& expected = "n1", const TlsOptions& options = {}) {
    client.link = TlsLink::dial(loop, n2, listener->local().address, listener->local(), expected, client.events(), options);
  }
  void run_until(const std::function<bool()>& done, Duration limit = seconds(30)) {
    const Time deadline = monotonic_now() + limit;
    while (!done() && monotonic_now() < deadline) loop.run_once(milliseconds(50));
    ASSERT_TRUE(done()) << "client: " << (client.downs.empty() ? "-" : client.downs[0].message)
                        << " server: " << (server.downs.empty() ? "-" : server.downs[0].message) << " refusal: " << (listener ? listener->last_refusal() : "");
  }
  void connect() {
    listen();
    dial();
    run_until([&] { return client.ups == 1 && server.link; });
  }

  Loop loop;
  Made ca;
  std::shared_ptr<TlsContext> n1, n2;
  std::unique_ptr<TlsListener> listener;
  End client, server;
  std::string accepted_group;
};

TEST_F(TlsLinkTest, BothSidesKnowEachOther) {
  connect();
  EXPECT_EQ(accepted_group, "web");
  EXPECT_EQ(client.link->peer_node(), "n1");
  EXPECT_EQ(client.link->peer_serial(), n1->serial());
  EXPECT_EQ(server.link->peer_node(), "n2");
  EXPECT_EQ(server.link->peer_serial(), n2->serial());
  EXPECT_EQ(listener->refused(), 0u);
  EXPECT_EQ(listener->handshaking(), 0u);
  client.link->send(1, Blob{1, {1, 2, 3}});
  server.link->send(1, Blob{2, {}});
  run_until([&] { return server.numbers.size() == 1 && client.numbers.size() == 1; });
  client.link.reset();
  run_until([&] { return !server.downs.empty(); });
  EXPECT_EQ(server.downs[0].code, Errc::closed);
  EXPECT_THAT(server.downs[0].message, HasSubstr("n2 at [::1]:"));
  EXPECT_THAT(server.downs[0].message, HasSubstr("closed the link"));
}

TEST_F(TlsLinkTest, Ipv4) {
  listen({}, "127.0.0.1:0");
  dial();
  run_until([&] { return client.ups == 1; });
}

TEST_F(TlsLinkTest, WhatIsQueuedBeforeUpArrivesAfterIt) {
  listen();
  dial();
  for (uint64_t i = 0; i < 100; ++i) client.link->send(1, Blob{i, {}});
  run_until([&] { return server.numbers.size() == 100; });
  for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ(server.numbers[i], i);
}

TEST_F(TlsLinkTest, ManySizesBothWaysInOrder) {
  connect();
  std::mt19937 random(5);
  uint64_t sent = 0;
  std::vector<size_t> sizes;
  for (int i = 0; i < 3000; ++i) {
    const size_t size = random() % 100 == 0 ? random() % 300'000 : random() % 700;
    const Blob blob{sent++, wire::Bytes(size, static_cast<uint8_t>(i))};
    sizes.push_back(size);
    client.link->send(1, blob);
    server.link->send(1, blob);
    if (i % 50 == 0) loop.run_once(milliseconds(0));
  }
  run_until([&] { return server.numbers.size() == sent && client.numbers.size() == sent; });
  EXPECT_EQ(server.sizes, sizes);
  EXPECT_EQ(client.sizes, sizes);
  EXPECT_TRUE(client.downs.empty() && server.downs.empty());
}

TEST_F(TlsLinkTest, TheLargestFramesBothWaysAtOnce) {
  connect();
  Blob blob{1, wire::Bytes(kLargest)};
  std::mt19937_64 random(3);
  for (size_t i = 0; i + 8 <= kLargest; i += 4096) {
    const uint64_t word = random();
    std::memcpy(blob.data.data() + i, &word, 8);
  }
  const uint64_t wanted = hash_bytes(blob.data.data(), blob.data.size());
  const Time start = monotonic_now();
  client.link->send(1, blob);
  server.link->send(1, blob);
  run_until([&] { return server.numbers.size() == 1 && client.numbers.size() == 1; });
  const auto took = std::chrono::duration<double>(monotonic_now() - start).count();
  RecordProperty("MB_per_s_each_way", std::to_string(static_cast<int>(static_cast<double>(kLargest) / 1e6 / took)));
  EXPECT_EQ(server.checksum, wanted);
  EXPECT_EQ(client.checksum, wanted);
  EXPECT_EQ(client.link->queued_bytes(), 0u);
}

TEST_F(TlsLinkTest, APeerThatDoesNotReadIsALimitError) {
  TlsOptions small;
  small.max_queued_bytes = 8u << 20;
  listen();
  dial("n1", small);
  run_until([&] { return client.ups == 1 && server.link; });
  // The peer's process hangs: its loop is ours, so nothing is read while we do not run it.
  for (int i = 0; i < 64 && client.link->is_up(); ++i) {
    client.link->send(1, Blob{1, wire::Bytes(1u << 20)});
    client.link->flush();
    EXPECT_TRUE(client.downs.empty());
  }
  EXPECT_FALSE(client.link->is_up());
  client.link->send(1, Blob{});
  run_until([&] { return !client.downs.empty(); });
  EXPECT_EQ(client.downs[0].code, Errc::limit);
  EXPECT_THAT(client.downs[0].message, HasSubstr("n1 at [::1]:"));
  EXPECT_THAT(client.downs[0].message, HasSubstr("does not read"));
}

TEST_F(TlsLinkTest, MayBeDestroyedInsideItsCallbacks) {
  listen();
  // in up
  auto events = client.events();
  events.up = [&] { ++client.ups; client.link.reset(); };
  client.link = TlsLink::dial(loop, n2, {}, listener->local(), "n1", std::move(events));
  run_until([&] { return client.ups == 1 && server.link && !server.downs.empty(); });
  // in frame, with more frames behind it
  server.link.reset();
  server.downs.clear();
  events = client.events();
  int frames = 0;
  events.frame = [&](const wire::FrameView& frame) {
    ++frames;
    client.link.reset();
    EXPECT_EQ(wire::decode<Blob>(frame.body)->number, 1u);  // the body outlives the link
  };
  client.link = TlsLink::dial(loop, n2, {}, listener->local(), "n1", std::move(events));
  run_until([&] { return server.link != nullptr; });
  server.link->send(1, Blob{1, {}});
  server.link->send(1, Blob{2, {}});
  run_until([&] { return frames == 1 && !server.downs.empty(); });
  EXPECT_EQ(frames, 1);
  // in down
  server.link.reset();
  events = client.events();
  events.down = [&](const Error&) { client.link.reset(); };
  client.link = TlsLink::dial(loop, n2, {}, listener->local(), "n1", std::move(events));
  run_until([&] { return server.link && server.link->is_up(); });
  server.link.reset();
  run_until([&] { return client.link == nullptr; });
  // in accepted
  auto second = TlsListener::listen(loop, *Endpoint::parse("[::1]:0"), [&](const std::string&, std::unique_ptr<TlsLink> link) { link.reset(); });
  ASSERT_TRUE(second);
  (*second)->add_group(n1);
  client = End{};
  client.link = TlsLink::dial(loop, n2, {}, (*second)->local(), "n1", client.events());
  run_until([&] { return !client.downs.empty(); });
}

TEST_F(TlsLinkTest, EventsMayBeReplacedInsideThem) {
  listen();
  auto events = client.events();
  events.up = [&] {
    ++client.ups;
    client.link->set_events(client.events());
  };
  client.link = TlsLink::dial(loop, n2, {}, listener->local(), "n1", std::move(events));
  run_until([&] { return client.ups == 1 && server.link; });
  server.link->send(1, Blob{7, {}});
  run_until([&] { return client.numbers.size() == 1; });
}

TEST_F(TlsLinkTest, SeveralGroupsShareAListener) {
  listen();
  const Made db_ca = make_ca("db");
  listener->add_group(*TlsContext::make("db", "a", material(db_ca, make_node("db", "a", db_ca))));
  const auto b = *TlsContext::make("db", "b", material(db_ca, make_node("db", "b", db_ca)));
  client.link = TlsLink::dial(loop, b, {}, listener->local(), "a", client.events());
  run_until([&] { return client.ups == 1 && server.link; });
  EXPECT_EQ(accepted_group, "db");
  EXPECT_EQ(server.link->peer_node(), "b");
  const auto keep = std::move(server.link);
  End web;
  web.link = TlsLink::dial(loop, n2, {}, listener->local(), "n1", web.events());
  run_until([&] { return web.ups == 1; });
  listener->remove_group("db");
  End late;
  late.link = TlsLink::dial(loop, b, {}, listener->local(), "a", late.events());
  run_until([&] { return !late.downs.empty(); });
  EXPECT_EQ(late.downs[0].code, Errc::refused);
  EXPECT_THAT(late.downs[0].message, HasSubstr("does not serve group 'db'"));
  EXPECT_TRUE(client.downs.empty());  // the link that stands stays
}

TEST_F(TlsLinkTest, RotationAndRevocationForNewLinks) {
  connect();
  const std::string old_serial = n2->serial();
  const Made rotated = make_node("web", "n2", ca);
  ASSERT_TRUE(n2->update(material(ca, rotated)));
  EXPECT_TRUE(client.link->is_up());  // nothing happens to links that stand
  End again;
  again.link = TlsLink::dial(loop, n2, {}, listener->local(), "n1", again.events());
  server.link.reset();
  run_until([&] { return again.ups == 1 && server.link; });
  EXPECT_EQ(server.link->peer_serial(), rotated.serial);
  ASSERT_TRUE(n1->update(material(ca, make_node("web", "n1", ca), old_serial + "\n" + rotated.serial + "\n")));
  EXPECT_TRUE(n1->is_revoked(server.link->peer_serial()));  // its owner ends it
  End revoked;
  revoked.link = TlsLink::dial(loop, n2, {}, listener->local(), "n1", revoked.events());
  run_until([&] { return !revoked.downs.empty(); });
  EXPECT_EQ(revoked.ups, 0);
  EXPECT_THAT(revoked.downs[0].message, HasSubstr("it is revoked"));
  EXPECT_THAT(listener->last_refusal(), HasSubstr("revoked certificate (node 'n2', serial " + rotated.serial));
}

TEST_F(TlsLinkTest, NobodyThere) {
  listen();
  const Endpoint gone = listener->local();
  listener.reset();
  client.link = TlsLink::dial(loop, n2, {}, gone, "n1", client.events());
  EXPECT_TRUE(client.downs.empty());  // not from inside dial
  run_until([&] { return !client.downs.empty(); });
  EXPECT_EQ(client.downs[0].code, Errc::unavailable);
  EXPECT_THAT(client.downs[0].message, HasSubstr("Connection refused; is geckod running there?"));

  End wrong_source;
  wrong_source.link = TlsLink::dial(loop, n2, *Address::parse("2001:db8::bad"), gone, "n1", wrong_source.events());
  run_until([&] { return !wrong_source.downs.empty(); });
  EXPECT_THAT(wrong_source.downs[0].message, HasSubstr("is it an address of this machine?"));
}

TEST_F(TlsLinkTest, ListenerErrors) {
  listen();
  const auto nothing = [](const std::string&, std::unique_ptr<TlsLink>) {};
  const auto taken = TlsListener::listen(loop, listener->local(), nothing);
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, Errc::exists);
  EXPECT_THAT(taken.error().message, HasSubstr("another geckod"));
  const auto foreign = TlsListener::listen(loop, *Endpoint::parse("[2001:db8::bad]:7470"), nothing);
  ASSERT_FALSE(foreign);
  EXPECT_THAT(foreign.error().message, HasSubstr("address of this machine"));
}

}  // namespace
}  // namespace gecko::net
