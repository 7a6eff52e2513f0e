#include "config/keys.hh"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <sstream>

#include "net/certificate.hh"

namespace gecko::config {
namespace {

using testing::HasSubstr;

class KeysTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gkt-net-keys-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
    ca_ = dir_ + "/ca";
  }
  void TearDown() override { ASSERT_EQ(system(("rm -rf " + dir_).c_str()), 0); }
  static std::string slurp(const std::string& file) {
    std::ifstream in(file);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  static unsigned mode(const std::string& file) {
    struct stat info{};
    return lstat(file.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
  }
  std::string dir_, ca_;
};

TEST_F(KeysTest, InitMakesAnAuthorityOnce) {
  const auto made = key_init(ca_, "web");
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->group, "web");
  EXPECT_EQ(made->node, "");
  EXPECT_EQ(made->serial.size(), 32u);
  EXPECT_EQ(made->fingerprint.size(), 64u);
  EXPECT_EQ(mode(ca_), 0700u);
  EXPECT_EQ(mode(ca_ + "/ca.key"), 0600u);
  EXPECT_EQ(mode(ca_ + "/ca.crt"), 0644u);
  const std::string key = slurp(ca_ + "/ca.key");
  const auto again = key_init(ca_, "web");
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, Errc::exists);
  EXPECT_EQ(slurp(ca_ + "/ca.key"), key);
  const auto shown = key_show(ca_ + "/ca.crt");
  ASSERT_TRUE(shown);
  EXPECT_EQ(shown->fingerprint, made->fingerprint);
}

TEST_F(KeysTest, ModesDoNotDependOnTheUmask) {
  const mode_t old = umask(0);
  const bool made = bool(key_init(ca_, "web")) && bool(key_sign(ca_, "n1", dir_ + "/n1"));
  umask(old);
  ASSERT_TRUE(made);
  for (const char* secret : {"/ca/ca.key", "/n1/node.key"}) EXPECT_EQ(mode(dir_ + secret), 0600u);
  EXPECT_EQ(mode(ca_), 0700u);
  EXPECT_EQ(mode(dir_ + "/n1"), 0700u);
}

TEST_F(KeysTest, SignAndRotate) {
  ASSERT_TRUE(key_init(ca_, "web"));
  const std::string out = dir_ + "/n1";
  const auto first = key_sign(ca_, "n1", out);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->group, "web");
  EXPECT_EQ(first->node, "n1");
  EXPECT_EQ(slurp(out + "/ca.crt"), slurp(ca_ + "/ca.crt"));
  EXPECT_NE(access((out + "/ca.key").c_str(), F_OK), 0);
  EXPECT_NE(access((out + "/revoked.txt").c_str(), F_OK), 0);
  const std::string old_key = slurp(out + "/node.key");

  const auto second = key_sign(ca_, "n1", out);
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_NE(second->serial, first->serial);
  EXPECT_NE(slurp(out + "/node.key"), old_key);
  EXPECT_EQ(key_show(out + "/node.crt")->serial, second->serial);
  EXPECT_NE(access((out + "/node.key.new").c_str(), F_OK), 0);

  const auto revoked = key_revoke(ca_, "n1");
  ASSERT_TRUE(revoked) << revoked.error().message;
  EXPECT_EQ(*revoked, (std::vector<std::string>{first->serial, second->serial}));
  ASSERT_TRUE(key_sign(ca_, "n1", out));  // a new one after a revocation; the list travels with it
  EXPECT_EQ(slurp(out + "/revoked.txt"), slurp(ca_ + "/revoked.txt"));
  EXPECT_EQ(net::parse_serials(slurp(out + "/revoked.txt"), "x")->size(), 2u);
}

TEST_F(KeysTest, CertificatesVerifyWithTheOpensslProgram) {
  ASSERT_TRUE(key_init(ca_, "web"));
  ASSERT_TRUE(key_sign(ca_, "n1", ca_));  // the first node may live where the CA is
  const auto run = [&](const std::string& command) { return WEXITSTATUS(system((command + " >/dev/null 2>&1").c_str())); };
  for (const char* purpose : {"sslserver", "sslclient"})
    EXPECT_EQ(run("openssl verify -x509_strict -purpose " + std::string(purpose) + " -CAfile " + ca_ + "/ca.crt " + ca_ + "/node.crt"), 0) << purpose;
  EXPECT_EQ(run("openssl x509 -noout -ext subjectAltName -in " + ca_ + "/node.crt | grep -q 'URI:gecko://web/node/n1'"), 0);
}

TEST_F(KeysTest, RevokeByNodeBySerialAndNothingElse) {
  ASSERT_TRUE(key_init(ca_, "web"));
  const auto n1 = key_sign(ca_, "n1", dir_ + "/n1");
  const auto n2 = key_sign(ca_, "n2", dir_ + "/n2");
  ASSERT_TRUE(n1 && n2);
  std::string upper = n2->serial;
  for (char& c : upper) c = static_cast<char>(toupper(c));
  EXPECT_EQ(*key_revoke(ca_, upper), (std::vector<std::string>{n2->serial}));
  EXPECT_EQ(*key_revoke(ca_, "n1"), (std::vector<std::string>{n1->serial}));
  const std::string list = slurp(ca_ + "/revoked.txt");
  EXPECT_EQ(*key_revoke(ca_, "n1"), (std::vector<std::string>{n1->serial}));  // again: said, not doubled
  EXPECT_EQ(slurp(ca_ + "/revoked.txt"), list);
  EXPECT_THAT(list, HasSubstr(n1->serial + "  # node n1\n"));
  EXPECT_EQ(key_revoke(ca_, "0123456789abcdef")->front(), "0123456789abcdef");  // unknown serial: accepted
  const auto typo = key_revoke(ca_, "nn1");
  ASSERT_FALSE(typo);
  EXPECT_EQ(typo.error().code, Errc::not_found);
  EXPECT_THAT(typo.error().message, HasSubstr("did you mean 'n1'?"));
  EXPECT_EQ(key_revoke(dir_ + "/n1", "n1").error().code, Errc::not_found);  // no CA there
  std::ofstream(ca_ + "/revoked.txt") << "not a serial\n";
  EXPECT_EQ(key_revoke(ca_, "n1").error().code, Errc::invalid);  // never silently dropped
}

TEST_F(KeysTest, NeverOverwritesForeignKeys) {
  ASSERT_TRUE(key_init(ca_, "web"));
  ASSERT_TRUE(key_init(dir_ + "/ca2", "web"));
  ASSERT_TRUE(key_init(dir_ + "/ca3", "db"));
  ASSERT_TRUE(key_sign(ca_, "n1", dir_ + "/n1"));
  const std::string key = slurp(dir_ + "/n1/node.key");
  for (const auto& [from, node] : std::vector<std::pair<std::string, std::string>>{{ca_, "n2"}, {dir_ + "/ca2", "n1"}, {dir_ + "/ca3", "n1"}}) {
    const auto refused = key_sign(from, node, dir_ + "/n1");
    ASSERT_FALSE(refused) << from;
    EXPECT_EQ(refused.error().code, Errc::exists) << refused.error().message;
  }
  EXPECT_EQ(slurp(dir_ + "/n1/node.key"), key);
  unlink((dir_ + "/n1/node.crt").c_str());
  EXPECT_EQ(key_sign(ca_, "n1", dir_ + "/n1").error().code, Errc::exists);
}

TEST_F(KeysTest, SymbolicLinksAreRefused) {
  ASSERT_EQ(mkdir((dir_ + "/real").c_str(), 0700), 0);
  ASSERT_EQ(symlink((dir_ + "/real").c_str(), (dir_ + "/link").c_str()), 0);
  EXPECT_EQ(key_init(dir_ + "/link", "web").error().code, Errc::permission);
  ASSERT_EQ(mkdir(ca_.c_str(), 0700), 0);
  const std::string victim = dir_ + "/victim";
  ASSERT_EQ(symlink(victim.c_str(), (ca_ + "/ca.key").c_str()), 0);
  EXPECT_EQ(key_init(ca_, "web").error().code, Errc::exists);
  unlink((ca_ + "/ca.key").c_str());
  ASSERT_TRUE(key_init(ca_, "web"));

  // A link planted under the name of the temporary file is removed, not followed.
  const std::string out = dir_ + "/n1";
  ASSERT_EQ(mkdir(out.c_str(), 0700), 0);
  ASSERT_EQ(symlink(victim.c_str(), (out + "/node.key.new").c_str()), 0);
  ASSERT_TRUE(key_sign(ca_, "n1", out));
  EXPECT_NE(access(victim.c_str(), F_OK), 0);
  EXPECT_TRUE(S_ISREG([&] { struct stat info{}; lstat((out + "/node.key").c_str(), &info); return info.st_mode; }()));

  ASSERT_EQ(rename((ca_ + "/ca.key").c_str(), (dir_ + "/ca.key").c_str()), 0);
  ASSERT_EQ(symlink((dir_ + "/ca.key").c_str(), (ca_ + "/ca.key").c_str()), 0);
  EXPECT_EQ(key_sign(ca_, "n2", dir_ + "/n2").error().code, Errc::permission);
  ASSERT_EQ(symlink(victim.c_str(), (ca_ + "/revoked.txt").c_str()), 0);
  EXPECT_FALSE(key_revoke(ca_, "n1"));
}

TEST_F(KeysTest, LooseModesAreRefusedWithTheCommand) {
  ASSERT_TRUE(key_init(ca_, "web"));
  ASSERT_EQ(chmod(ca_.c_str(), 0750), 0);
  const auto loose_dir = key_sign(ca_, "n1", dir_ + "/n1");
  ASSERT_FALSE(loose_dir);
  EXPECT_EQ(loose_dir.error().code, Errc::permission);
  EXPECT_THAT(loose_dir.error().message, HasSubstr("chmod 700 " + ca_));
  ASSERT_EQ(chmod(ca_.c_str(), 0700), 0);
  ASSERT_EQ(chmod((ca_ + "/ca.key").c_str(), 0640), 0);
  const auto loose_key = key_sign(ca_, "n1", dir_ + "/n1");
  ASSERT_FALSE(loose_key);
  EXPECT_THAT(loose_key.error().message, HasSubstr("chmod 600 " + ca_ + "/ca.key"));
}

TEST_F(KeysTest, BrokenAuthorities) {
  EXPECT_EQ(key_sign(ca_, "n1", dir_ + "/n1").error().code, Errc::not_found);
  EXPECT_EQ(key_init(dir_ + "/no/such", "web").error().code, Errc::not_found);
  for (const char* name : {"", "-a", "Web", "a/b", "a\nb"}) EXPECT_EQ(key_init(ca_, name).error().code, Errc::invalid) << name;
  ASSERT_TRUE(key_init(ca_, "web"));
  for (const char* name : {"", "-a", "N1", "../x"}) EXPECT_EQ(key_sign(ca_, name, dir_ + "/n1").error().code, Errc::invalid) << name;
  ASSERT_TRUE(key_init(dir_ + "/other", "web"));
  const std::string key = slurp(ca_ + "/ca.key");
  ASSERT_EQ(rename((dir_ + "/other/ca.key").c_str(), (ca_ + "/ca.key").c_str()), 0);
  EXPECT_THAT(key_sign(ca_, "n1", dir_ + "/n1").error().message, HasSubstr("does not belong to ca.crt"));
  std::ofstream(ca_ + "/ca.key") << "-----BEGIN PRIVATE KEY-----\nTOPSECRETTOPSECRET\n";
  const auto garbage = key_sign(ca_, "n1", dir_ + "/n1");
  ASSERT_FALSE(garbage);
  EXPECT_THAT(garbage.error().message, testing::Not(HasSubstr("TOPSECRET")));
  std::ofstream(ca_ + "/ca.crt") << "nothing";
  std::ofstream(ca_ + "/ca.key") << key;
  EXPECT_EQ(key_sign(ca_, "n1", dir_ + "/n1").error().code, Errc::invalid);
  EXPECT_EQ(key_show(ca_ + "/ca.crt").error().code, Errc::invalid);
  EXPECT_EQ(key_show(dir_ + "/none").error().code, Errc::not_found);
  EXPECT_NE(access((dir_ + "/n1").c_str(), F_OK), 0);  // a refusal leaves nothing behind
}

TEST_F(KeysTest, AKeyWithAPassphraseIsRefusedWithoutAsking) {
  ASSERT_TRUE(key_init(ca_, "web"));
  ASSERT_EQ(
      system(("cd " + ca_ + " && openssl pkcs8 -topk8 -in ca.key -out locked -passout pass:x 2>/dev/null && mv locked ca.key && chmod 600 ca.key")
                 .c_str()),
      0);
  const auto locked = key_sign(ca_, "n1", dir_ + "/n1");
  ASSERT_FALSE(locked);
  EXPECT_THAT(locked.error().message, HasSubstr("without passphrase"));
}

TEST_F(KeysTest, ConcurrentSigningLosesNoRecord) {
  ASSERT_TRUE(key_init(ca_, "web"));
  std::vector<pid_t> children;
  for (int i = 0; i < 6; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      const std::string name = "n" + std::to_string(i);
      _exit(key_sign(ca_, name, dir_ + "/" + name) && key_revoke(ca_, name) ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  const auto revoked = net::parse_serials(slurp(ca_ + "/revoked.txt"), "x");
  ASSERT_TRUE(revoked);
  EXPECT_EQ(std::set<std::string>(revoked->begin(), revoked->end()).size(), 6u);
}

TEST(Serials, ParseStrictly) {
  const auto good = net::parse_serials("# header\n0A0b\n\n  # x\nff01  # node n1\r\nabc\n", "r");
  ASSERT_FALSE(net::parse_serials("  ff\n", "r"));  // leading blanks: not a serial
  ASSERT_TRUE(good) << good.error().message;
  EXPECT_EQ(*good, (std::vector<std::string>{"0a0b", "ff01", "0abc"}));
  EXPECT_EQ(net::parse_serials("00000001", "r")->front(), "01");
  const auto bad = net::parse_serials("ff\nxyz\n", "revoked.txt");
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().message, HasSubstr("revoked.txt:2:"));
  EXPECT_FALSE(net::parse_serials(std::string(42, 'a'), "r"));
  EXPECT_TRUE(net::parse_serials("", "r")->empty());
}

}  // namespace
}  // namespace gecko::config
