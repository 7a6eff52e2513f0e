// Hostile and broken ends of a link (threat model S1): every bad handshake ends in an error that names the reason, nothing
// crashes or hangs, and no error text holds a key. The other end here is OpenSSL used by hand, on a thread of its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <optional>
#include <thread>

#include "net/tls_test_scene.hh"

namespace gecko::net {
namespace {

using namespace testing_tls;
using testing::HasSubstr;

// --- the other end ------------------------------------------------------------------------------------------------------

struct Raw {
  const Made* identity = nullptr;
  std::optional<std::string> sni = "web";
  int min_version = TLS1_3_VERSION, max_version = TLS1_3_VERSION;
  bool ask_for_certificate = true;          // server
  const Made* trust = nullptr;              // server: accept only what this CA signed (null: anything)
  std::string payload;                      // sent after the handshake
  std::string raw_payload;                  // then this, past TLS
  bool close_after = false;                 // else the peer closes first
};

void speak_tls(int fd, const Raw& raw, bool server) {
  SSL_CTX* context = SSL_CTX_new(TLS_method());
  SSL_CTX_set_security_level(context, 0);
  SSL_CTX_set_min_proto_version(context, raw.min_version);
  SSL_CTX_set_max_proto_version(context, raw.max_version);
  if (raw.identity != nullptr) {
    SSL_CTX_use_certificate(context, raw.identity->certificate.get());
    SSL_CTX_use_PrivateKey(context, raw.identity->key.get());
  }
  if (server && raw.ask_for_certificate) {
    if (raw.trust != nullptr) X509_STORE_add_cert(SSL_CTX_get_cert_store(context), raw.trust->certificate.get());
    const SSL_verify_cb anything = [](int, X509_STORE_CTX*) { return 1; };
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, raw.trust != nullptr ? nullptr : anything);
  }
  SSL* ssl = SSL_new(context);
  SSL_set_fd(ssl, fd);
  if (!server && raw.sni) SSL_set_tlsext_host_name(ssl, raw.sni->c_str());
  if ((server ? SSL_accept(ssl) : SSL_connect(ssl)) == 1) {
    if (!raw.payload.empty()) SSL_write(ssl, raw.payload.data(), static_cast<int>(raw.payload.size()));
    if (!raw.raw_payload.empty()) (void)!write(fd, raw.raw_payload.data(), raw.raw_payload.size());
    char sink[4096];
    if (raw.close_after) shutdown(fd, SHUT_WR);  // TCP only: no goodbye
    while (SSL_read(ssl, sink, sizeof sink) > 0) {}
  }
  ERR_clear_error();
  SSL_free(ssl);
  SSL_CTX_free(context);
}

std::string header_bytes(uint32_t length, uint16_t type, uint8_t descriptors, uint8_t reserved) {
  wire::Bytes bytes;
  wire::Writer w(bytes);
  w.integer(length, 4);
  w.integer(type, 2);
  w.integer(descriptors, 1);
  w.integer(reserved, 1);
  return std::string(bytes.begin(), bytes.end());
}

class HandshakeTest : public TlsScene {
 protected:
  // A client attacks our listener; how it ended for us.
  Error attacked_by(const std::function<void(int fd)>& client) {
    ended.clear();
    accepted.clear();
    const Endpoint to = listener->local();
    std::thread attacker([&, to] {
      const Fd fd = tcp_connect(to);
      if (fd) client(fd.get());
    });
    EXPECT_TRUE(run_until([&] { return !ended.empty(); })) << "nothing was refused";
    const Error result = ended.empty() ? Error{} : ended.front();
    accepted.clear();
    attacker.join();
    run_until([&] { return listener->handshaking() == 0; });
    EXPECT_EQ(listener->handshaking(), 0u);
    return result;
  }
  Error attacked_by(const Raw& raw) {
    return attacked_by([&](int fd) { speak_tls(fd, raw, false); });
  }
  // We dial a hostile server; how it ended for us.
  Error served_by(const std::function<void(int fd)>& server, const TlsOptions& options = {}, std::shared_ptr<TlsContext> ours = nullptr) {
    const Fd listening(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage address{};
    socklen_t size = Endpoint::parse("[::1]:0")->to_sockaddr(address);
    EXPECT_EQ(bind(listening.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listening.get(), 4), 0);
    size = sizeof address;
    getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &size);
    std::thread attacker([&] {
      const Fd fd(accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
      patience(fd.get());
      server(fd.get());
    });
    std::optional<Error> down;
    int ups = 0;
    TlsLink::Events events;
    events.up = [&] { ++ups; };
    events.down = [&](const Error& error) { down = error; };
    auto link = TlsLink::dial(loop, ours ? ours : n2, {}, *Endpoint::from_sockaddr(address), "n1", std::move(events), options);
    EXPECT_TRUE(run_until([&] { return down.has_value(); })) << "never ended";
    EXPECT_EQ(ups, 0) << "was up";
    link.reset();
    attacker.join();
    if (down) texts.push_back(down->message);
    return down.value_or(Error{});
  }

};

Spec between(long from_s, long until_s) {
  Spec spec;
  spec.from_s = from_s;
  spec.until_s = until_s;
  return spec;
}
Spec named(const std::string& uri, const std::string& more = "") {
  Spec spec;
  spec.uri = uri;
  spec.more_names = more;
  return spec;
}

// --- clients that must not get in -----------------------------------------------------------------------------------------

TEST_F(HandshakeTest, BadClientCertificates) {
  const Made db_ca = make_ca("db"), false_ca = make_ca("web");
  const Made revoked = make_node("web", "n2", ca);
  n1 = *TlsContext::make("web", "n1", material(ca, node1, revoked.serial + "\n"));
  listen();
  listener->add_group(*TlsContext::make("db", "a", material(db_ca, make_node("db", "a", db_ca))));
  Spec only_server, no_purpose, no_signature, authority = named("gecko://web/ca"), short_rsa;
  only_server.purposes = "serverAuth";
  no_purpose.purposes = "emailProtection";
  no_signature.usage = "critical,cRLSign";
  short_rsa.rsa_bits = 1024;
  authority.is_ca = true;
  Made tampered = make_node("web", "n2", ca);
  {
    // One bit of the signature.
    unsigned char* der = nullptr;
    const int size = i2d_X509(tampered.certificate.get(), &der);
    der[size - 3] ^= 1;
    const unsigned char* p = der;
    tampered.certificate.reset(d2i_X509(nullptr, &p, size));
    OPENSSL_free(der);
    ASSERT_TRUE(tampered.certificate);
  }
  const Made as_ca = make(authority, &ca);  // a second CA under the group's own
  struct Case {
    const char* name;
    Made made;
    const char* says;
  };
  Case cases[] = {
      {"wrong CA of the same group name", make_node("web", "n2", false_ca), "that the CA of group 'web' did not sign"},
      {"other group", make_node("db", "b", db_ca), "certificate of group 'db', expected 'web'; sign a key for this group with 'gecko key sign'"},
      {"other group's name, our CA", make_node("db", "b", ca), "certificate of group 'db', expected 'web'"},
      {"expired", make_node("web", "n2", ca, between(-7200, -3600)), "that expired at 20"},
      {"not yet valid", make_node("web", "n2", ca, between(3600, 7200)), "valid only from 20"},
      {"self-signed", make(named("gecko://web/node/n2"), nullptr), "presented a self-signed certificate"},
      {"this node's own", make_node("web", "n1", ca), "certificate of this very node, 'n1'"},
      {"tampered", std::move(tampered), "did not sign"},
      {"wrong extended key usage", make_node("web", "n2", ca, no_purpose), "not made for node links"},
      {"server only", make_node("web", "n2", ca, only_server), "not made for node links"},
      {"no digital signature", make_node("web", "n2", ca, no_signature), "not made for node links"},
      {"no name", make({}, &ca), "not a node's"},
      {"two names", make(named("gecko://web/node/n2", ",DNS:n2.example"), &ca), "does not carry exactly one"},
      {"two identities", make(named("gecko://web/node/n2", ",URI:gecko://web/node/n3"), &ca), "does not carry exactly one"},
      {"another scheme", make(named("https://web/node/n2"), &ca), "not of the form gecko://GROUP/node/NODE"},
      {"a path behind the node", make(named("gecko://web/node/n2/x"), &ca), "not of the form"},
      {"authority's name, not an authority", make(named("gecko://web/ca"), &ca), "presented the CA's own certificate"},
      {"an intermediate authority", make(authority, &ca), "not made for node links"},
      {"signed by an intermediate", make_node("web", "n2", as_ca), "did not sign"},
      {"signed by a node", make_node("web", "n3", node2), "did not sign"},
      {"short RSA key", make_node("web", "n2", ca, short_rsa), "key too weak"},
  };
  for (auto& one : cases) {
    SCOPED_TRACE(one.name);
    Raw raw;
    raw.identity = &one.made;
    const Error error = attacked_by(raw);
    EXPECT_EQ(error.code, Errc::permission) << error.message;
    EXPECT_THAT(error.message, HasSubstr(one.says));
    EXPECT_TRUE(error.message.starts_with("[::1]:")) << error.message;
    EXPECT_TRUE(accepted.empty());
  }
  Raw raw;
  raw.identity = &revoked;
  EXPECT_THAT(attacked_by(raw).message, HasSubstr("presented a revoked certificate (node 'n2', serial " + revoked.serial));
  raw.identity = &ca;
  EXPECT_THAT(attacked_by(raw).message, HasSubstr("presented"));
  raw.identity = nullptr;
  EXPECT_THAT(attacked_by(raw).message, HasSubstr("presented no certificate"));
  raw.identity = &node2;
  raw.sni = "db";
  EXPECT_THAT(attacked_by(raw).message, HasSubstr("certificate of group 'web', expected 'db'"));
  EXPECT_EQ(listener->refused(), std::size(cases) + 4);
  EXPECT_EQ(listener->last_refusal(), ended.front().message);
}

TEST_F(HandshakeTest, BadNames) {
  listen();
  Raw raw;
  raw.identity = &node2;
  raw.sni = "nosuch";
  Error error = attacked_by(raw);
  EXPECT_EQ(error.code, Errc::not_found);
  EXPECT_THAT(error.message, HasSubstr("asked for group 'nosuch'; groups here: web"));
  raw.sni.reset();
  EXPECT_THAT(attacked_by(raw).message, HasSubstr("did not say which group it wants (no SNI)"));
  for (const char* name : {"WEB", "web.", "we\nb", "\x1b[31mweb", "gecko://web"}) {
    raw.sni = name;
    EXPECT_THAT(attacked_by(raw).message, HasSubstr("cannot be a group's name")) << name;
  }
  raw.sni = std::string(255, 'a');
  EXPECT_THAT(attacked_by(raw).message, HasSubstr("cannot be a group's name"));
}

TEST_F(HandshakeTest, BadProtocols) {
  listen();
  Raw old;
  old.identity = &node2;
  old.min_version = TLS1_VERSION;
  old.max_version = TLS1_2_VERSION;
  Error error = attacked_by(old);
  EXPECT_EQ(error.code, Errc::version);
  EXPECT_THAT(error.message, HasSubstr("speaks only TLS 1.2 or older"));
  struct Case {
    const char* name;
    std::string bytes;
    const char* says;
  };
  const Case cases[] = {
      {"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "speaks HTTP, not TLS"},
      {"SSH", "SSH-2.0-OpenSSH_9.2\r\n", "does not speak TLS"},
      {"zeroes", std::string(4096, '\0'), "does not speak TLS"},
      {"an endless record", std::string("\x16\x03\x01\xff\xff", 5) + std::string(70000, 'x'), ""},
      {"an alert first", std::string("\x15\x03\x03\x00\x02\x02\x28", 7), "failed the TLS handshake"},
      {"application data first", std::string("\x17\x03\x03\x00\x05hello", 10), "failed the TLS handshake"},
      {"an empty hello", std::string("\x16\x03\x01\x00\x04\x01\x00\x00\x00", 9), "failed the TLS handshake"},
      {"a hello of a megabyte", std::string("\x16\x03\x01\x00\x04\x01\x0f\xff\xff", 9), ""},
      {"nothing", "", "closed the connection during the handshake"},
      {"half a record", std::string("\x16\x03\x01\x02\x00\x01\x00", 7), "closed the connection during the handshake"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.name);
    error = attacked_by([&](int fd) {
      (void)!send(fd, one.bytes.data(), one.bytes.size(), MSG_NOSIGNAL);
      shutdown(fd, SHUT_WR);
      char sink[4096];
      while (recv(fd, sink, sizeof sink, 0) > 0) {}
    });
    EXPECT_THAT(error.message, HasSubstr(one.says));
    EXPECT_THAT(error.message, testing::Not(HasSubstr("no reason given")));
  }
  error = attacked_by([](int fd) {
    const linger hard{1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);  // a reset
  });
  EXPECT_EQ(error.code, Errc::closed) << error.message;
}

TEST_F(HandshakeTest, SlowHandshakesTimeOut) {
  TlsOptions options;
  options.handshake_timeout = milliseconds(150);
  listen(options);
  const auto silent = attacked_by([](int fd) {
    char sink[64];
    (void)!recv(fd, sink, sizeof sink, 0);
  });
  EXPECT_EQ(silent.code, Errc::timeout);
  EXPECT_THAT(silent.message, HasSubstr("did not finish the handshake within 150 ms"));
  const auto dribble = attacked_by([](int fd) {
    const std::string hello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
    for (size_t i = 0; i < 200; ++i) {
      if (send(fd, i < hello.size() ? &hello[i] : "x", 1, MSG_NOSIGNAL) != 1) return;
      pollfd wait{fd, POLLIN, 0};
      if (poll(&wait, 1, 10) > 0) return;
    }
  });
  EXPECT_EQ(dribble.code, Errc::timeout) << dribble.message;
}

TEST_F(HandshakeTest, SilentConnectionsCannotKeepNodesOut) {
  TlsOptions options;
  options.max_handshakes = 4;
  listen(options);
  std::vector<Fd> silent;
  for (int i = 0; i < 20; ++i) {
    silent.push_back(tcp_connect(listener->local()));
    loop.run_once(milliseconds(0));
  }
  ASSERT_TRUE(run_until([&] { return listener->refused() >= 16; }));
  EXPECT_EQ(listener->handshaking(), 4u);
  EXPECT_EQ(ended.front().code, Errc::limit);
  EXPECT_THAT(listener->last_refusal(), HasSubstr("gave way to a newer connection; at most 4 handshakes run at once"));
  int ups = 0;
  TlsLink::Events events;
  events.up = [&] { ++ups; };
  const auto honest = TlsLink::dial(loop, n2, {}, listener->local(), "n1", std::move(events));
  EXPECT_TRUE(run_until([&] { return ups == 1; }));
}

TEST_F(HandshakeTest, OutOfDescriptorsPausesAndRecovers) {
  listen();
  const Fd early(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  const int highest = dup(early.get());
  close(highest);
  rlimit tight = old;
  tight.rlim_cur = static_cast<rlim_t>(highest);
  sockaddr_storage address{};
  const socklen_t size = listener->local().to_sockaddr(address);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  const int connected = connect(early.get(), reinterpret_cast<sockaddr*>(&address), size);
  for (int i = 0; i < 10; ++i) loop.run_once(milliseconds(5));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  ASSERT_EQ(connected, 0);
  EXPECT_EQ(listener->refused(), 1u);  // once, not once per round
  EXPECT_THAT(listener->last_refusal(), HasSubstr("RLIMIT_NOFILE"));
  EXPECT_TRUE(run_until([&] { return listener->handshaking() == 1; }));
}

// --- nodes that misbehave once they are in --------------------------------------------------------------------------------

TEST_F(HandshakeTest, BadFramesEndTheLinkWithAReason) {
  listen();
  struct Case {
    const char* name;
    std::string payload, raw_payload;
    Errc code;
    const char* says;
  };
  const Case cases[] = {
      {"over-long frame", header_bytes(wire::kMaxFrameBody + 1, 1, 0, 0), "", Errc::limit, "over this channel's limit of 83886080"},
      {"largest length", header_bytes(0xffffffff, 1, 0, 0), "", Errc::limit, "over this channel's limit"},
      {"reserved byte", header_bytes(0, 1, 0, 1), "", Errc::invalid, "reserved byte"},
      {"descriptors", header_bytes(0, 1, 3, 0), "", Errc::invalid, "announces descriptors"},
      {"a second welcome", header_bytes(0, 0, 0, 0), "", Errc::invalid, "a second welcome"},
      {"not TLS any more", header_bytes(0, 5, 0, 0), "plain text on an encrypted link", Errc::invalid, "n2 at [::1]:"},
      {"a forged record", header_bytes(0, 5, 0, 0), std::string("\x17\x03\x03\x00\x20", 5) + std::string(32, 'f'), Errc::invalid, "damaged or tampered with"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.name);
    Raw raw;
    raw.identity = &node2;
    raw.payload = one.payload;
    raw.raw_payload = one.raw_payload;
    const Error error = attacked_by(raw);
    EXPECT_EQ(error.code, one.code) << error.message;
    EXPECT_THAT(error.message, HasSubstr(one.says));
    EXPECT_TRUE(error.message.starts_with("n2 at [::1]:")) << error.message;
  }
  Raw half;
  half.identity = &node2;
  half.payload = header_bytes(1000, 1, 0, 0) + "only a part";
  half.close_after = true;
  const Error cut = attacked_by(half);
  EXPECT_EQ(cut.code, Errc::closed);
  EXPECT_THAT(cut.message, HasSubstr("ended without a goodbye"));
}

// --- servers we must not believe ------------------------------------------------------------------------------------------

TEST_F(HandshakeTest, BadServers) {
  const Made db_ca = make_ca("db"), false_ca = make_ca("web");
  Spec only_client;
  only_client.purposes = "clientAuth";
  struct Case {
    const char* name;
    Made made;
    const char* says;
  };
  Case cases[] = {
      {"another node", make_node("web", "n3", ca), "presented the certificate of node 'n3', expected 'n1'"},
      {"our own", make_node("web", "n2", ca), "expected 'n1'"},
      {"other group", make_node("db", "n1", db_ca), "presented a certificate of group 'db', expected 'web'; sign a key for this group with 'gecko key sign'"},
      {"wrong CA", make_node("web", "n1", false_ca), "did not sign"},
      {"expired", make_node("web", "n1", ca, between(-7200, -3600)), "expired at 20"},
      {"not yet valid", make_node("web", "n1", ca, between(3600, 7200)), "valid only from 20"},
      {"self-signed", make(named("gecko://web/node/n1"), nullptr), "self-signed"},
      {"client only", make_node("web", "n1", ca, only_client), "not made for node links"},
      {"no name", make({}, &ca), "not a node's"},
  };
  for (auto& one : cases) {
    SCOPED_TRACE(one.name);
    Raw raw;
    raw.identity = &one.made;
    const Error error = served_by([&](int fd) { speak_tls(fd, raw, true); });
    EXPECT_EQ(error.code, Errc::permission) << error.message;
    EXPECT_THAT(error.message, HasSubstr(one.says));
    EXPECT_TRUE(error.message.starts_with("n1 at [::1]:")) << error.message;
  }
  Raw raw;
  raw.identity = &ca;
  EXPECT_THAT(served_by([&](int fd) { speak_tls(fd, raw, true); }).message, HasSubstr("presented"));
  raw.identity = &node1;
  const auto strict = *TlsContext::make("web", "n2", material(ca, node2, node1.serial));
  EXPECT_THAT(served_by([&](int fd) { speak_tls(fd, raw, true); }, {}, strict).message, HasSubstr("revoked certificate (node 'n1'"));
  raw.min_version = raw.max_version = TLS1_2_VERSION;
  const Error old = served_by([&](int fd) { speak_tls(fd, raw, true); });
  EXPECT_EQ(old.code, Errc::version) << old.message;
  raw.min_version = raw.max_version = TLS1_3_VERSION;
  raw.trust = &false_ca;
  const Error refused = served_by([&](int fd) { speak_tls(fd, raw, true); });
  EXPECT_EQ(refused.code, Errc::refused);
  EXPECT_THAT(refused.message, HasSubstr("refuses our certificate (node 'n2' of group 'web'): it was not signed by the CA installed there"));
  raw.trust = nullptr;
  raw.payload = header_bytes(0, 1, 0, 0);
  EXPECT_THAT(served_by([&](int fd) { speak_tls(fd, raw, true); }).message, HasSubstr("does not begin the link as a geckod does"));
  raw.payload = "HTTP/1.1 400 Bad Request\r\n\r\n";
  EXPECT_THAT(served_by([&](int fd) { speak_tls(fd, raw, true); }).message, HasSubstr("n1 at [::1]:"));
  raw.payload.clear();
  raw.close_after = true;
  EXPECT_EQ(served_by([&](int fd) { speak_tls(fd, raw, true); }).code, Errc::closed);

  EXPECT_THAT(served_by([](int fd) { (void)!write(fd, "SSH-2.0-OpenSSH_9.2\r\n", 21); }).message, HasSubstr("does not speak TLS"));
  EXPECT_EQ(served_by([](int) {}).code, Errc::closed);
  TlsOptions hasty;
  hasty.handshake_timeout = milliseconds(150);
  const auto wait_for_end = [](int fd) {
    char sink[4096];
    while (recv(fd, sink, sizeof sink, 0) > 0) {}
  };
  const Error silent = served_by(wait_for_end, hasty);
  EXPECT_EQ(silent.code, Errc::timeout);
  raw.close_after = false;  // a good certificate, then no welcome
  EXPECT_EQ(served_by([&](int fd) { speak_tls(fd, raw, true); }, hasty).code, Errc::timeout);
}

}  // namespace
}  // namespace gecko::net
