#include "net/tls_peer.hh"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <sys/socket.h>

#include "net/certificate.hh"
#include "net/tls_context.hh"

namespace gecko::net {
namespace {

constexpr int kUserTimeoutMs = 3000;

int check_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

// The peer's certificate did not pass OpenSSL's chain validation.
Error chain_problem(const PeerCheck& check, int error, X509* certificate) {
  const std::string group = check.context->group();
  const auto no = [](std::string text) { return make_error(Errc::permission, std::move(text)); };
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return no("presented a certificate that expired at " + iso_time(X509_get0_notAfter(certificate)) +
                "; sign a new one with 'gecko key sign' (or set this machine's clock)");
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return no("presented a certificate that is valid only from " + iso_time(X509_get0_notBefore(certificate)) + "; compare the clocks of both machines");
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      return no("presented a self-signed certificate; it must be signed by the CA of group '" + group + "' with 'gecko key sign'");
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_CHAIN_TOO_LONG:
    case X509_V_ERR_AKID_SKID_MISMATCH:
    case X509_V_ERR_AKID_ISSUER_SERIAL_MISMATCH: {
      const auto claimed = identity_of(certificate);
      if (claimed && claimed->group != group)
        return no("presented a certificate of group '" + claimed->group + "', expected '" + group + "'; sign a key for this group with 'gecko key sign'");
      return no("presented a certificate that the CA of group '" + group + "' did not sign; compare ca.crt on both machines, sign with 'gecko key sign'");
    }
    case X509_V_ERR_INVALID_PURPOSE:
    case X509_V_ERR_INVALID_CA:
    case X509_V_ERR_KEYUSAGE_NO_DIGITAL_SIGNATURE:
      return no("presented a certificate that is not made for node links; sign one with 'gecko key sign'");
    default:
      return no(std::string("presented a certificate that is not acceptable: ") + X509_verify_cert_error_string(error));
  }
}

// The chain is good: is it the right node, of the right group, and still welcome? Empty message: yes.
Error identity_problem(PeerCheck& check, X509* certificate, int& verify_error) {
  const TlsContext& ours = *check.context;
  verify_error = X509_V_ERR_HOSTNAME_MISMATCH;  // the peer is told "bad certificate"
  const auto identity = identity_of(certificate);
  const auto no = [](std::string text) { return make_error(Errc::permission, std::move(text)); };
  if (!identity) return no("presented a certificate that is not a node's: " + identity.error().message + "; sign one with 'gecko key sign'");
  if (identity->group != ours.group())
    return no("presented a certificate of group '" + identity->group + "', expected '" + ours.group() + "'; sign a key for this group with 'gecko key sign'");
  if (identity->is_authority()) return no("presented the CA's own certificate; a node needs one of its own from 'gecko key sign'");
  check.serial = serial_of(certificate);
  if (ours.is_revoked(check.serial)) {
    verify_error = X509_V_ERR_CERT_REVOKED;
    return no("presented a revoked certificate (node '" + identity->node + "', serial " + check.serial +
              "); if it is to come back, sign a new one with 'gecko key sign'");
  }
  if (!check.expected_node.empty() && identity->node != check.expected_node)
    return no("presented the certificate of node '" + identity->node + "', expected '" + check.expected_node +
              "'; compare the group file's addresses and the keys installed there");
  if (identity->node == ours.node())
    return no("presented a certificate of this very node, '" + identity->node + "'; every node needs a key of its own from 'gecko key sign'");
  check.peer = *identity;
  return {};
}

int verify_peer(int ok, X509_STORE_CTX* store) {
  const auto* ssl = static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  PeerCheck* check = ssl == nullptr ? nullptr : peer_check(ssl);
  if (check == nullptr || !check->context) return 0;
  X509* certificate = X509_STORE_CTX_get0_cert(store);
  if (ok != 1) {
    if (check->problem.message.empty()) check->problem = chain_problem(*check, X509_STORE_CTX_get_error(store), certificate);
    return 0;
  }
  if (X509_STORE_CTX_get_error_depth(store) != 0) return 1;
  int verify_error = X509_V_OK;
  check->problem = identity_problem(*check, certificate, verify_error);
  if (check->problem.message.empty()) return 1;
  X509_STORE_CTX_set_error(store, verify_error);
  return 0;
}

// What an alert from the peer means here (RFC 8446 section 6.2).
Error alert_problem(const PeerCheck& check, int alert, bool handshaking) {
  const std::string ours =
      check.context ? "our certificate (node '" + check.context->node() + "' of group '" + check.context->group() + "')" : "our certificate";
  const auto refused = [](std::string text) { return make_error(Errc::refused, std::move(text)); };
  switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
      return refused("refuses " + ours + ": another group or node was expected there, or it is not valid yet by its clock; its log says which");
    case SSL_AD_CERTIFICATE_REVOKED: return refused("refuses " + ours + ": it is revoked; sign a new one with 'gecko key sign'");
    case SSL_AD_CERTIFICATE_EXPIRED:
      return refused("refuses " + ours + ": it has expired by its clock; sign a new one with 'gecko key sign', compare the clocks");
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_UNKNOWN: return refused("refuses " + ours + ": it is not acceptable; its log says why");
    case SSL_AD_UNKNOWN_CA: return refused("refuses " + ours + ": it was not signed by the CA installed there; compare ca.crt on both machines");
    case SSL_AD_CERTIFICATE_REQUIRED: return refused("wants a certificate and got none");
    case SSL_AD_UNRECOGNIZED_NAME:
      return refused("does not serve group '" + (check.context ? check.context->group() : std::string()) + "'; is the group loaded there?");
    case SSL_AD_PROTOCOL_VERSION: return make_error(Errc::version, "does not speak TLS 1.3");
    default:
      return refused(std::string(handshaking ? "refused the handshake" : "ended the link") + " with TLS alert " + std::to_string(alert) + " (" +
                     SSL_alert_desc_string_long(alert) + ")");
  }
}

}  // namespace

void configure_tls(SSL_CTX* context) {
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION);
  // AES-128 first: it is the fastest with hardware support, and links carry bulk.
  SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, verify_peer);
  SSL_CTX_set_verify_depth(context, 0);  // signed by the group's CA itself, no intermediates
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  // Several records per system call; the buffer is released while a link is idle.
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_default_read_buffer_len(context, 128 * 1024);
}

void set_peer_check(SSL* ssl, PeerCheck* check) { SSL_set_ex_data(ssl, check_index(), check); }
PeerCheck* peer_check(const SSL* ssl) { return static_cast<PeerCheck*>(SSL_get_ex_data(ssl, check_index())); }

Error connection_problem(int err) {
  if (err == ETIMEDOUT) return make_error(Errc::timeout, "does not answer any more");
  return os_error("the connection failed", err);
}

Status prepare_link_socket(int fd) {
  const auto set = [fd](int level, int option, int value) { return setsockopt(fd, level, option, &value, sizeof value) == 0; };
  // Keep-alive probes every second make the user timeout (tcp(7)) work on an idle link too.
  if (!set(IPPROTO_TCP, TCP_NODELAY, 1) || !set(SOL_SOCKET, SO_KEEPALIVE, 1) || !set(IPPROTO_TCP, TCP_KEEPIDLE, 1) || !set(IPPROTO_TCP, TCP_KEEPINTVL, 1) ||
      !set(IPPROTO_TCP, TCP_KEEPCNT, 3) || !set(IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs))
    return os_error("prepare a link's socket");
  return {};
}

Error tls_problem(const PeerCheck& check, int ssl_error, int saved_errno, bool handshaking) {
  const unsigned long code = ERR_peek_last_error();
  const int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
  const std::string reasons = code == 0 ? std::string() : openssl_reasons();
  if (!check.problem.message.empty()) return check.problem;
  if (ssl_error == SSL_ERROR_ZERO_RETURN) return make_error(Errc::closed, handshaking ? "closed the connection during the handshake" : "closed the link");
  if (ssl_error == SSL_ERROR_SYSCALL && code == 0) {
    if (saved_errno == 0 || saved_errno == ECONNRESET || saved_errno == EPIPE)
      return make_error(Errc::closed, handshaking ? "closed the connection during the handshake" : "the connection broke");
    return connection_problem(saved_errno);
  }
  if (reason >= SSL_AD_REASON_OFFSET) return alert_problem(check, reason - SSL_AD_REASON_OFFSET, handshaking);
  switch (reason) {
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
      return make_error(Errc::closed, handshaking ? "closed the connection during the handshake"
                                                  : "ended without a goodbye (it crashed, or the connection was cut)");
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return make_error(Errc::permission, "presented no certificate; links are for nodes with a key from 'gecko key sign'");
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_WRONG_SSL_VERSION: return make_error(Errc::version, "speaks only TLS 1.2 or older; links need TLS 1.3");
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST: return make_error(Errc::invalid, "speaks HTTP, not TLS; this port is for node links");
    case SSL_R_WRONG_VERSION_NUMBER:
      return make_error(Errc::invalid, handshaking ? "does not speak TLS; is that port really a geckod's?" : "sent something that is not TLS");
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC: return make_error(Errc::invalid, "sent data that was damaged or tampered with on the way");
    default: break;
  }
  return make_error(Errc::invalid, std::string(handshaking ? "failed the TLS handshake: " : "broke the TLS protocol: ") + reasons);
}

}  // namespace gecko::net
