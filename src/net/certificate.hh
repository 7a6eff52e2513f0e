// Reading certificates and key files. For TLS links and for config/keys; no private key ever leaves as text or in an error.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/identity.hh"
#include "base/result.hh"

struct x509_st;
struct evp_pkey_st;
struct asn1_string_st;

namespace gecko::net {

struct FreeX509 { void operator()(x509_st* x) const; };
struct FreeKey { void operator()(evp_pkey_st* k) const; };
using X509Ptr = std::unique_ptr<x509_st, FreeX509>;
using KeyPtr = std::unique_ptr<evp_pkey_st, FreeKey>;

// The reasons OpenSSL has queued on this thread, oldest first, "a; b"; empties the queue.
std::string openssl_reasons();

// A small text file (at most 1 MiB), regular, not a symlink. `secret`: refused if group or others may read or write it, or if
// it belongs to somebody else than root or this process's user; the message has the command to run.
Result<std::string> read_key_file(const std::string& path, bool secret);

// `file` is for messages. Exactly one certificate / private key (no passphrase).
Result<X509Ptr> parse_certificate(const std::string& pem, const std::string& file);
Result<KeyPtr> parse_private_key(const std::string& pem, const std::string& file);

// From the only URI in subjectAltName; anything else there is an error.
Result<Identity> identity_of(x509_st* certificate);
std::string serial_of(x509_st* certificate);        // lower-case hex, two digits per byte
std::string fingerprint_of(x509_st* certificate);   // SHA-256, lower-case hex
std::string iso_time(const asn1_string_st* time);   // "2027-01-31T12:00:00Z"

// The serials of a revoked.txt: one per line, '#' begins a comment. Errors name the line.
Result<std::vector<std::string>> parse_serials(const std::string& text, const std::string& file);

}  // namespace gecko::net
