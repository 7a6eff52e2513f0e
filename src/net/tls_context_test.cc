#include "net/tls_context.hh"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "net/tls_test_keys.hh"

namespace gecko::net {
namespace {

using namespace testing_keys;
using testing::HasSubstr;
using testing::Not;

class TlsContextTest : public testing::Test {
 protected:
  TlsContextTest() : ca(make_ca("web")), n1(make_node("web", "n1", ca)) {}
  void SetUp() override {
    char name[] = "/tmp/gkt-net-tls-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir = name;
    write(ca, n1);
  }
  void TearDown() override { ASSERT_EQ(system(("rm -rf " + dir).c_str()), 0); }
  void put(const std::string& name, const std::string& text, mode_t mode) {
    std::ofstream(dir + "/" + name) << text;
    ASSERT_EQ(chmod((dir + "/" + name).c_str(), mode), 0);
  }
  void write(const Made& authority, const Made& node) {
    put("ca.crt", authority.certificate_pem, 0644);
    put("node.crt", node.certificate_pem, 0644);
    put("node.key", node.key_pem, 0600);
  }
  std::string refusal(const std::string& group = "web", const std::string& node = "n1") {
    const auto context = TlsContext::load(group, node, dir);
    EXPECT_FALSE(context);
    if (context) return "";
    EXPECT_THAT(context.error().message, HasSubstr(dir));
    // Nothing of the key, not even a line of its encoding.
    EXPECT_THAT(context.error().message, Not(HasSubstr("PRIVATE KEY")));
    EXPECT_THAT(context.error().message, Not(HasSubstr(n1.key_pem.substr(40, 30))));
    return context.error().message;
  }
  Made ca, n1;
  std::string dir;
};

TEST_F(TlsContextTest, LoadsAndReloads) {
  const auto context = TlsContext::load("web", "n1", dir);
  ASSERT_TRUE(context) << context.error().message;
  EXPECT_EQ((*context)->serial(), n1.serial);
  EXPECT_FALSE((*context)->is_revoked("0102"));
  put("revoked.txt", "0102  # node n9\n", 0644);
  const Made rotated = make_node("web", "n1", ca);
  write(ca, rotated);
  ASSERT_TRUE((*context)->reload());
  EXPECT_EQ((*context)->serial(), rotated.serial);
  EXPECT_TRUE((*context)->is_revoked("0102"));
  put("node.key", "nonsense", 0600);
  ASSERT_FALSE((*context)->reload());
  EXPECT_EQ((*context)->serial(), rotated.serial);  // as it was
  EXPECT_TRUE((*context)->is_revoked("0102"));
}

TEST_F(TlsContextTest, EveryWrongFileIsNamedWithItsRemedy) {
  EXPECT_THAT(refusal("db"), HasSubstr("ca.crt is not the CA of group 'db': it is gecko://web/ca"));
  EXPECT_THAT(refusal("web", "n2"), HasSubstr("node.crt is not the certificate of node 'n2' of group 'web': it is gecko://web/node/n1"));
  put("node.key", n1.key_pem, 0640);
  EXPECT_THAT(refusal(), HasSubstr("(mode 0640); run: chmod 600 " + dir + "/node.key"));
  put("node.key", n1.key_pem, 0604);
  EXPECT_THAT(refusal(), HasSubstr("chmod 600"));
  put("node.key", make_node("web", "n1", ca).key_pem, 0600);
  EXPECT_THAT(refusal(), HasSubstr("node.key does not belong to node.crt"));
  put("node.key", n1.key_pem.substr(0, 100), 0600);
  EXPECT_THAT(refusal(), HasSubstr("node.key is not a PEM private key"));
  put("node.key", n1.key_pem, 0600);
  put("revoked.txt", n1.serial + "\n", 0644);
  EXPECT_THAT(refusal(), HasSubstr("node.crt is revoked (serial " + n1.serial));
  put("revoked.txt", "what?\n", 0644);
  EXPECT_THAT(refusal(), HasSubstr("revoked.txt:1:"));
  unlink((dir + "/revoked.txt").c_str());
  put("ca.crt", make_ca("web").certificate_pem, 0644);
  EXPECT_THAT(refusal(), HasSubstr("was not signed by ca.crt"));
  put("ca.crt", ca.certificate_pem + ca.certificate_pem, 0644);
  EXPECT_THAT(refusal(), HasSubstr("more than one certificate"));
  put("ca.crt", "", 0644);
  EXPECT_THAT(refusal(), HasSubstr("ca.crt is not a PEM certificate"));
  unlink((dir + "/ca.crt").c_str());
  EXPECT_THAT(refusal(), HasSubstr("ca.crt: No such file"));
  Spec old;
  old.from_s = -7200;
  old.until_s = -3600;
  write(ca, make_node("web", "n1", ca, old));
  EXPECT_THAT(refusal(), HasSubstr("node.crt expired at 20"));
  Spec early;
  early.from_s = 3600;
  early.until_s = 7200;
  write(ca, make_node("web", "n1", ca, early));
  EXPECT_THAT(refusal(), HasSubstr("valid only from 20"));
  Spec mail;
  mail.purposes = "emailProtection";
  write(ca, make_node("web", "n1", ca, mail));
  EXPECT_THAT(refusal(), HasSubstr("not made for node links"));
  write(ca, n1);
  unlink((dir + "/node.key").c_str());
  put("real.key", n1.key_pem, 0600);
  ASSERT_EQ(symlink((dir + "/real.key").c_str(), (dir + "/node.key").c_str()), 0);
  EXPECT_THAT(refusal(), HasSubstr("symbolic link"));
}

}  // namespace
}  // namespace gecko::net
