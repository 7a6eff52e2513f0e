// Protocols that geckoproxy does not understand: they are placed at their start and stay unharmed by moves around them.
#include <signal.h>

#include <fstream>

#include "proxy_scene.hh"

namespace gecko::proxy_test {
namespace {

using testing::HasSubstr;

TEST_F(ProxyTest, RedisClients) {
  Mover mover(scene());
  const std::string host = scene().lab().group_address().str();
  auto out = scene().run({"redis-cli", "-h", host, "-p", std::to_string(kRedis)}, "SET k v\nGET k\nINCRBY n 5\nPING\n");
  EXPECT_EQ(out.out, "OK\nv\n5\nPONG\n") << out.err;
  out = scene().run({"redis-benchmark", "-h", host, "-p", std::to_string(kRedis), "-t", "set,get,lpush", "-n", "20000", "-c", "20", "-P", "16", "-q"});
  EXPECT_EQ(out.code, 0) << out.err;
  EXPECT_THAT(out.out, HasSubstr("GET: "));
  EXPECT_THAT(out.out, HasSubstr("LPUSH: "));
  EXPECT_EQ(out.out.find("rror"), std::string::npos) << out.out;
  mover.stop();
}

// The client's own sshd on n1, asked to move all the time: refused with the reason, and the session never notices.
TEST_F(ProxyTest, AnSshSessionStaysWhole) {
  Mover mover(scene());
  std::string bytes(4'000'000, 0);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 11);
  const auto out = scene().run({"ssh", "-q", "-i", scene().file("ssh_key"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-p",
                                std::to_string(kSsh), "root@" + scene().lab().group_address().str(), "cat; sleep 1; echo end"},
                               bytes);
  mover.stop();
  EXPECT_EQ(out.code, 0) << out.err << scene().log("n1", "sshd");
  EXPECT_TRUE(out.out == bytes + "end\n") << out.out.size();
}

TEST_F(ProxyTest, RawConnectionsSayWhyTheyStay) {
  std::thread session([&] { (void)scene().run({"redis-cli", "-h", scene().lab().group_address().str(), "-p", std::to_string(kRedis), "BLPOP", "nothing", "2"}); });
  nlohmann::json row;
  EXPECT_TRUE(eventually([&] {
    for (const auto& c : scene().connections("n1"))
      if (!c.value("movable", true)) row = c;
    return !row.is_null();
  }));
  if (!row.is_null()) {
    EXPECT_EQ(row.value("reason", ""), "a raw stream");
    const auto refused = scene().ask().handoff("n1", row.value("client", ""), "n2");
    ASSERT_TRUE(refused.has_value());
    EXPECT_THAT(refused->first_refusal, HasSubstr("a raw stream"));
  }
  session.join();
}

TEST_F(ProxyTest, WebSocketsStayAndAreListed) {
  std::ofstream(scene().file("ws_server.py")) << "import asyncio, websockets\n"
                                                 "async def echo(ws):\n"
                                                 "    async for m in ws: await ws.send(m)\n"
                                                 "async def main():\n"
                                                 "    async with websockets.serve(echo, '127.0.0.1', 9100): await asyncio.Future()\n"
                                                 "asyncio.run(main())\n";
  std::ofstream(scene().file("ws_client.py")) << "import asyncio, sys, websockets\n"
                                                 "async def main():\n"
                                                 "    async with websockets.connect(sys.argv[1]) as ws:\n"
                                                 "        for i in range(300):\n"
                                                 "            await ws.send('m%d' % i * (i + 1)); assert await ws.recv() == 'm%d' % i * (i + 1)\n"
                                                 "            await asyncio.sleep(0.01)\n"
                                                 "    print('well')\n"
                                                 "asyncio.run(main())\n";
  for (const char* node : {"n1", "n2"}) {
    ASSERT_TRUE(scene().start(node, "ws", {"/usr/bin/python3", scene().file("ws_server.py")}).has_value());
    ASSERT_TRUE(scene().proxy(node, kOdd, "9100").has_value());
  }
  ASSERT_TRUE(eventually([&] { return scene().lab().output("n1", {"sh", "-c", "ss -ltn | grep -q :9100"})->code == 0; }));
  Mover mover(scene());
  bool listed = false;
  std::thread watcher([&] {
    listed = eventually([&] {
      for (const auto& c : scene().connections("n1"))
        if (c.value("reason", "") == "a WebSocket" && !c.value("movable", true)) return true;
      return false;
    });
  });
  const auto out = scene().run({"/usr/bin/python3", scene().file("ws_client.py"), "ws://" + scene().group(kOdd).str() + "/"});
  watcher.join();
  mover.stop();
  EXPECT_EQ(out.out, "well\n") << out.err;
  EXPECT_TRUE(listed);
  for (const char* node : {"n1", "n2"}) {
    scene().end(node, "proxy-9000", SIGTERM);
    scene().end(node, "ws", SIGKILL);
  }
}

TEST_F(ProxyTest, BulkBothWays) {
  ASSERT_TRUE(scene().start("n1", "iperf3", {"iperf3", "-s", "-p", "9200"}).has_value());
  ASSERT_TRUE(scene().proxy("n1", kOdd, "9200", {"--mode", "raw"}).has_value());
  for (const bool down : {false, true}) {
    std::vector<std::string> argv = {"iperf3", "-c", scene().lab().group_address().str(), "-p", std::to_string(kOdd), "-t", "2", "-J"};
    if (down) argv.push_back("-R");
    const auto out = scene().run(argv);
    const auto report = nlohmann::json::parse(out.out, nullptr, false);
    ASSERT_TRUE(report.is_object() && report.contains("end")) << out.out << out.err;
    const double gbit = report["end"]["sum_received"].value("bits_per_second", 0.0) / 1e9;
    EXPECT_GT(gbit, 0.1);
    std::printf("iperf3 %s: %.1f Gbit/s\n", down ? "down" : "up", gbit);
  }
  scene().end("n1", "proxy-9000", SIGTERM);
  scene().end("n1", "iperf3", SIGKILL);
}

}  // namespace
}  // namespace gecko::proxy_test
