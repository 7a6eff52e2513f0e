// What an operator gets wrong before anything works: each is refused with a text that says what to do.
#include <sys/socket.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "config/keys.hh"
#include "fault_scene.hh"
#include "net/tls_link.hh"
#include "wire/link.hh"

namespace gecko::system_test {
namespace {

std::string program(const std::string& name) {
  std::error_code error;
  return (std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / name).string();
}

class Startup : public ::testing::Test {
 protected:
  void up(int nodes, bool daemons) {
    lab::LabOptions options;
    options.name = "sta-" + std::to_string(getpid());
    options.nodes = nodes;
    options.daemons = daemons;
    auto made = lab::Lab::up(options);
    ASSERT_TRUE(made) << made.error().message;
    lab_ = std::move(*made);
  }
  std::string write(const std::string& name, const std::string& text) {
    const std::string file = lab_->directory() + "/" + name;
    std::ofstream(file) << text;
    return file;
  }
  lab::Output geckod_on_n1(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), program("geckod"));
    const auto ended = lab_->output("n1", arguments, 5s);
    EXPECT_TRUE(ended) << "it goes on running: " << ended.error().message;
    return ended ? *ended : lab::Output{};
  }
  // Replaces n2's geckod by whatever `other` puts there, and waits for what n1 says about it.
  std::string n1_says_about_n2() {
    std::string said;
    EXPECT_TRUE(eventually([&] {
      kit::Operator ask(*lab_);
      const auto status = ask.ask("n1", {{"op", "status"}});
      if (!status || (*status)["verdict"] != "degraded") return false;
      said = (*status)["groups"][0]["nodes"][1].value("error", "");
      return !said.empty() && said.find("refused;") == std::string::npos && said.find("goodbye") == std::string::npos &&
             said.find("closed the link") == std::string::npos;
    })) << said;
    return said;
  }
  std::unique_ptr<lab::Lab> lab_;
};

TEST_F(Startup, APortInUseIsNamedWithTheCommandThatFindsItsHolder) {
  ASSERT_NO_FATAL_FAILURE(up(1, true));
  Fd holder;
  const auto held = lab_->inside("n1", [&]() -> Status {
    holder.reset(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage address{};
    const socklen_t size = lab_->group().to_sockaddr(address);
    if (::bind(holder.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(holder.get(), 1) != 0) return os_error("hold the port");
    return {};
  });
  ASSERT_TRUE(held) << held.error().message;
  const auto ended = lab_->output("n1", {program("gecko-stream"), "-g", lab_->group_file()}, 5s);
  ASSERT_TRUE(ended) << "it goes on running: " << ended.error().message;
  EXPECT_NE(ended->code, 0);
  EXPECT_NE(ended->err.find("another program holds the port: find it with 'ss -ltnp sport = :8080'"), std::string::npos) << ended->err;
}

TEST_F(Startup, AGroupFileWithErrorsIsRefusedWithLineAndColumn) {
  ASSERT_NO_FATAL_FAILURE(up(1, false));
  const auto file = write("wrong.toml",
                          "[group]\nname = \"lab\"\naddress = \"2001:db8:1::80\"\nports = [ 80800 ]\ncolour = \"green\"\n\n[[node]]\nname = "
                          "\"n1\"\naddress = \"nowhere\"\n");
  for (const bool check : {true, false}) {
    const auto ended = geckod_on_n1(check ? std::vector<std::string>{"--check-config", file} : std::vector<std::string>{"--node", "n1", file});
    EXPECT_EQ(ended.code, 65);
    for (const char* place : {"wrong.toml:4:", "wrong.toml:5:", "wrong.toml:9:"})
      EXPECT_NE(ended.err.find(place), std::string::npos) << place << "\n" << ended.err;
  }
  EXPECT_EQ(geckod_on_n1({"--check-config", lab_->group_file()}).code, 0);
}

TEST_F(Startup, MissingKeysAreNamedWithTheCommandThatMakesThem) {
  ASSERT_NO_FATAL_FAILURE(up(1, false));
  const auto ended = geckod_on_n1({"--node", "n1", "--runtime-dir", lab_->directory() + "/run", "--keys", "/nonexistent/keys", lab_->group_file()});
  EXPECT_NE(ended.code, 0);
  EXPECT_NE(ended.err.find("/nonexistent/keys/ca.crt"), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("gecko key sign n1"), std::string::npos) << ended.err;
}

TEST_F(Startup, ARuntimeDirectoryThatOthersCanWriteIsRefused) {
  ASSERT_NO_FATAL_FAILURE(up(1, false));
  const std::string open = lab_->directory() + "/open";
  ASSERT_TRUE(std::filesystem::create_directory(open));
  ASSERT_EQ(::chmod(open.c_str(), 0775), 0);
  const auto ended = geckod_on_n1({"--node", "n1", "--runtime-dir", open, "--keys", lab_->directory() + "/keys/n1", lab_->group_file()});
  EXPECT_EQ(ended.code, 77);
  EXPECT_NE(ended.err.find(open + " must be a directory"), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("--runtime-dir"), std::string::npos) << ended.err;
}

TEST_F(Startup, ASymbolicLinkInTheSocketsPlaceIsNotFollowed) {
  ASSERT_NO_FATAL_FAILURE(up(1, false));
  ASSERT_TRUE(config::key_init(lab_->directory() + "/ca", "lab"));
  ASSERT_TRUE(config::key_sign(lab_->directory() + "/ca", "n1", lab_->directory() + "/k"));
  const std::string run = lab_->directory() + "/run", target = lab_->directory() + "/victim";
  ASSERT_EQ(::mkdir(run.c_str(), 0755), 0);
  ASSERT_EQ(::symlink(target.c_str(), (run + "/geckod.sock").c_str()), 0);
  const auto ended = geckod_on_n1({"--node", "n1", "--runtime-dir", run, "--keys", lab_->directory() + "/k", lab_->group_file()});
  EXPECT_NE(ended.code, 0);
  EXPECT_NE(ended.err.find("is not a socket; move it away"), std::string::npos) << ended.err;
  struct stat info{};
  EXPECT_NE(::lstat(target.c_str(), &info), 0) << "the link was followed";
}

TEST_F(Startup, ANodeWithKeysOfAnotherAuthorityIsKeptOutAndNamed) {
  ASSERT_NO_FATAL_FAILURE(up(2, true));
  ASSERT_TRUE(lab_->kill("n2"));
  const std::string keys = lab_->directory() + "/keys/n2", other = lab_->directory() + "/other";
  std::filesystem::remove_all(keys);
  ASSERT_TRUE(config::key_init(other, "lab"));
  ASSERT_TRUE(config::key_sign(other, "n2", keys));
  ASSERT_TRUE(lab_->start("n2"));
  const auto said = n1_says_about_n2();
  EXPECT_NE(said.find("certificate"), std::string::npos) << said;
  EXPECT_NE(said.find("n2"), std::string::npos) << said;
}

TEST_F(Startup, ANodeOfAnotherProtocolVersionIsKeptOutAndTheOneToUpgradeIsNamed) {
  ASSERT_NO_FATAL_FAILURE(up(2, true));
  ASSERT_TRUE(lab_->kill("n2"));
  std::string said;
  const auto ok = lab_->inside("n2", [&]() -> Status {
    GECKO_TRY(const auto context, net::TlsContext::load("lab", "n2", lab_->directory() + "/keys/n2"));
    net::Loop loop;
    std::unique_ptr<net::TlsLink> link;
    GECKO_TRY(const auto listener,
              net::TlsListener::listen(loop, {lab_->find("n2")->address, 7470}, [&](const std::string&, std::unique_ptr<net::TlsLink> accepted) {
                link = std::move(accepted);
                link->send(static_cast<uint16_t>(wire::LinkType::hello), wire::Hello{99, 99, "99.0", "lab", "n2", 1, "x"});
              }));
    listener->add_group(context);
    const Time deadline = monotonic_now() + 5s;
    while (monotonic_now() < deadline && said.find("version") == std::string::npos) {
      for (int i = 0; i < 20; ++i) loop.run_once(5ms);
      GECKO_TRY(auto client, net::AdminClient::connect(lab_->socket("n1"), "faults"));
      GECKO_TRY(const auto status, client.ask(R"({"op":"status"})"));
      said = nlohmann::json::parse(status)["groups"][0]["nodes"][1].value("error", "");
    }
    return {};
  });
  ASSERT_TRUE(ok) << ok.error().message;
  EXPECT_NE(said.find("version"), std::string::npos) << said;
  EXPECT_NE(said.find("upgrade"), std::string::npos) << said;
}

}  // namespace
}  // namespace gecko::system_test
