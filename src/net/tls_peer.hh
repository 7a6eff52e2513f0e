// Who the other side of a TLS link must be, and what went wrong when it is not: the part of a handshake that has reasons.
// For tls_context.cc and tls_link.cc only.
#pragma once

#include <memory>
#include <string>

#include "base/identity.hh"
#include "base/result.hh"

struct ssl_st;
struct ssl_ctx_st;
struct x509_store_ctx_st;

namespace gecko::net {

class TlsContext;

struct PeerCheck {
  std::shared_ptr<TlsContext> context;  // a listener's link has one once the client has named its group
  std::string expected_node;            // empty: any node of the group
  // Filled by the handshake:
  Identity peer;
  std::string serial;
  Error problem;                        // the first thing found wrong; empty message: nothing
};

// Settings all links share: TLS 1.3, client certificates, no tickets, no resumption, no compression.
void configure_tls(ssl_ctx_st* context);
// The verify callback of configure_tls finds its PeerCheck here.
void set_peer_check(ssl_st* ssl, PeerCheck* check);
PeerCheck* peer_check(const ssl_st* ssl);

// The reason a TLS call failed, from OpenSSL's error queue (which it empties), for an operator: "speaks TLS 1.2 or older; ...".
// `by_us` is what our own check found, if it did. `saved_errno` is that of the failed call.
Error tls_problem(const PeerCheck& check, int ssl_error, int saved_errno, bool handshaking);

Error connection_problem(int err);

// NODELAY, and a peer that acknowledges nothing for 3 s is gone, be the link busy or idle.
Status prepare_link_socket(int fd);

}  // namespace gecko::net
